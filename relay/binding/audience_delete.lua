-- audience_delete.lua deletes an audience.
-- KEYS[1]  hash: name -> header (audience_put.lua)
-- ARGV[1]  prefix of the partner's keys; [2] name
-- Returns  the header that it had, nil when there is none
local header = redis.call('HGET', KEYS[1], ARGV[2])
if not header then return false end
redis.call('HDEL', KEYS[1], ARGV[2])
redis.call('UNLINK', ARGV[1] .. 'm' .. header:match('([^\n]*)$'))
return header
