-- token_fail.lua gives the lease back after a failure and says when to ask again: the first pause, doubled for each failure
-- in a row of the same code. A failure is noted, and alerted, once until a token is got or the code is another.
-- KEYS     see token.lua
-- ARGV     owner, config fingerprint, code, message, first pause (ms), longest pause (ms), alert from the n-th on, change
-- Returns  pause (ms), 1 when it should be alerted now
local n = 1
if get('bc') == ARGV[3] and get('bf') == ARGV[2] then n = num('bk') + 1 end
if get('bf') ~= ARGV[2] then redis.call('HDEL', key, 'ba') end
local pause = tonumber(ARGV[5])
for _ = 2, math.min(n, 20) do pause = math.min(pause * 2, tonumber(ARGV[6])) end
redis.call('HSET', key, 'bc', ARGV[3], 'bm', ARGV[4], 'bf', ARGV[2], 'bk', n, 'bu', now + pause)
if get('lo') == ARGV[1] then redis.call('HDEL', key, 'lo', 'lu') end
local alert = 0
if n >= tonumber(ARGV[7]) and get('ba') ~= ARGV[3] then
  redis.call('HSET', key, 'ba', ARGV[3])
  note(ARGV[8], math.max(num('x') - now, 0))
  alert = 1
end
keep()
return { pause, alert }
