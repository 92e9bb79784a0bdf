-- replace.lua replaces a string if it still has an expected value.
-- KEYS[1]  the string
-- ARGV[1]  the value it must have; [2] its new value; [3] how long the new one lives in ms, 0 = without an end
-- Returns  1 when it was replaced, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
