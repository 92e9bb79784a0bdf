-- quota.lua counts one call of a holder to an API on Beijing's day.
-- KEYS[1]  wx:{t:<appid>}:q:<holder>, a hash: path -> "<day> <calls>"; it expires two days after the last call
-- ARGV     path
-- Returns  calls on this day, this one too; ms until the next day
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local day = math.floor((now + 28800000) / 86400000)
local n = 0
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if kept then
  local d, k = string.match(kept, '^(%d+) (%d+)$')
  if tonumber(d) == day then n = tonumber(k) end
elseif redis.call('HLEN', KEYS[1]) >= 1000 then
  redis.call('DEL', KEYS[1]) -- paths that nobody has: a hash has a bound
end
n = n + 1
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %d', day, n))
redis.call('PEXPIRE', KEYS[1], 172800000)
return { n, (day + 1) * 86400000 - 28800000 - now }
