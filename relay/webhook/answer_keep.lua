-- answer_keep.lua keeps the answer to a request, unless another request took the id meanwhile.
-- KEYS[1]  record of (partner, id)
-- ARGV     our record while in progress, the answer's record, how long it is kept (ms)
-- Returns  1 when kept, else 0
local now = redis.call('GET', KEYS[1])
if now and now ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
