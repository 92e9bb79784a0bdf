-- session_end.lua takes sessions that have ended out of an openid's; with the last one its session_key goes.
-- KEYS[1]  sorted set: names of sessions by their end (ms); KEYS[2] string: the session_key
-- ARGV     names of the sessions
-- Returns  how many are left
if #ARGV > 0 then redis.call('ZREM', KEYS[1], unpack(ARGV)) end
local t = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', t[1] * 1000 + math.floor(t[2] / 1000))
local left = redis.call('ZCARD', KEYS[1])
if left == 0 then redis.call('DEL', KEYS[2]) end
return left
