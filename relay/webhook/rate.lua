-- rate.lua reserves the next turn of an endpoint whose attempts are limited (GCRA without a burst).
-- KEYS[1]  when its next turn is (us); expires when that is past
-- ARGV     us between two attempts, the longest reservation (ms): past it nothing is reserved
-- Returns  {how long to wait for the turn (ms, 0 = now), 1 if it is reserved}
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local wait = math.ceil((at - now) / 1000)
if wait > tonumber(ARGV[2]) then return { wait, 0 } end
local next = at + tonumber(ARGV[1])
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.max(1, math.ceil((next - now) / 1000)))
return { wait, 1 }
