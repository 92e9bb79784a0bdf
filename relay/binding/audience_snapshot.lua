-- audience_snapshot.lua copies an audience's members as they are now. The same snapshot asked for again is the first one.
-- KEYS[1]  hash: name -> header (audience_put.lua); KEYS[2] hash: snapshot -> "app\nkind"; both of one partner
-- ARGV[1]  prefix of the partner's keys; [2] name; [3] snapshot; [4] how long it is kept (ms)
-- Returns  the audience's header, nil when there is no such audience
local header = redis.call('HGET', KEYS[1], ARGV[2])
if not header then return false end
local app, kind, generation = header:match('^([^\n]*)\n[^\n]*\n([^\n]*)\n[^\n]*\n[^\n]*\n([^\n]*)$')
local copy = ARGV[1] .. 's' .. ARGV[3]
if redis.call('EXISTS', copy) == 0 then redis.call('COPY', ARGV[1] .. 'm' .. generation, copy) end
redis.call('PEXPIRE', copy, ARGV[4])
for _, id in ipairs(redis.call('HKEYS', KEYS[2])) do
  if redis.call('EXISTS', ARGV[1] .. 's' .. id) == 0 then redis.call('HDEL', KEYS[2], id) end
end
redis.call('HSET', KEYS[2], ARGV[3], app .. '\n' .. kind)
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[2], ARGV[4]) end
return header
