-- remove.lua removes a string if it still has an expected value.
-- KEYS[1]  the string
-- ARGV[1]  the value it must have
-- Returns  1 when it was removed, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
