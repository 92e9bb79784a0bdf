-- answer_drop.lua frees the id of a request that is still ours.
-- KEYS[1]  record of (partner, id)
-- ARGV     our record while in progress
-- Returns  1 when freed, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
