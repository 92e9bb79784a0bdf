-- grant.lua says which token of ours a holder has for an app: its generation and when it was issued. Near its end, or when
-- it is revoked, there is a new one. The token itself is not kept.
-- KEYS[1]  wx:{t:<appid>}:g, a hash: holder -> "<generation> <issued at, ms>"; it expires a day after its last change
-- ARGV     holder, life (ms), how long before its end a new one is issued (ms), 1 = revoke what was issued before
-- Returns  generation, issued at (ms), now (ms)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local generation, issued = 1, now
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if kept then
  local g, i = string.match(kept, '^(%d+) (%d+)$')
  generation, issued = tonumber(g), tonumber(i)
  if ARGV[4] == '1' then
    generation, issued = generation + 1, now
  elseif issued + ARGV[2] - ARGV[3] <= now then
    issued = now
  else
    return { generation, issued, now }
  end
elseif ARGV[4] == '1' then
  generation = 2
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %.0f', generation, issued))
redis.call('PEXPIRE', KEYS[1], 86400000)
return { generation, issued, now }
