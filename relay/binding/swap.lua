-- swap.lua replaces or removes a partner's entry of an openid if it still has an expected value.
-- KEYS[1]  hash of entries, one field per partner
-- ARGV[1]  partner; [2] the value it must have; [3] its new value, '' = remove it
-- Returns  1 when it was replaced or removed, else 0
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1
