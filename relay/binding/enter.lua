-- enter.lua writes a partner's entry of an openid unless there is another one.
-- KEYS[1]  hash of entries, one field per partner
-- ARGV[1]  partner; [2] the entry
-- Returns  nil when it was written or was there before, else the entry that is in the way
local was = redis.call('HGET', KEYS[1], ARGV[1])
if was and was ~= ARGV[2] then return was end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return false
