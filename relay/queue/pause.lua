-- pause.lua pauses lanes of one shard, or lets them go.
-- KEYS[1]  prefix of the shard
-- ARGV     lane, for how many ms (0 = resume)
-- Returns  1
local k, ms = KEYS[1] .. 'p', tonumber(ARGV[2])
if ms <= 0 then
  call('HDEL', k, ARGV[1])
else
  call('HSET', k, ARGV[1], string.format('%.0f', now_ms + ms))
  if call('PTTL', k) < ms then call('PEXPIRE', k, ARGV[2]) end
end
return 1
