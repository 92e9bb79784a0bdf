-- session_slide.lua has a session in use, and what lives as long as it, live on.
-- KEYS[1]  sorted set: names of sessions by their end (ms); KEYS[2] string: the session_key
-- ARGV[1]  name of the session; [2] how much longer it lives (ms)
-- Returns  1, or 0 when the openid has no such session any more
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local t = redis.call('TIME')
redis.call('ZADD', KEYS[1], t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
