-- registry_set.lua makes, changes or removes one endpoint.
-- KEYS[1]  hash of a partner's endpoints: id -> "revision\nrecord"; kept until the endpoint is removed, at most `most` of them
-- KEYS[2]  version of the whole registry, a counter; kept
-- ARGV     id, revision it must have ('' = it must not exist), its next revision, record ('' = remove), most
-- Returns  1 done, 0 it has another revision, -1 as many as may be
local old = redis.call('HGET', KEYS[1], ARGV[1])
local revision = old and string.match(old, '^[^\n]*') or ''
if revision ~= ARGV[2] then return 0 end
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  if not old and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then return -1 end
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. '\n' .. ARGV[4])
end
redis.call('INCR', KEYS[2])
return 1
