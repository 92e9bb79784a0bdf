-- audience_patch.lua adds and removes a few members in one step.
-- KEYS[1]  hash: name -> header (audience_put.lua)
-- ARGV[1]  prefix of the partner's keys; [2] name; [3] how many members one audience may have; [4] how many of the rest are added;
--          [5...] the members to add, then those to remove
-- Returns  the new header, nil when there is no such audience, 'large' when it would have too many members: nothing changed then
local was = redis.call('HGET', KEYS[1], ARGV[2])
if not was then return false end
local app, template, kind, _, _, generation = was:match('^([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)$')
local members = ARGV[1] .. 'm' .. generation
local last = 4 + ARGV[4]
local total, new = redis.call('ZCARD', members), {}
for i = 5, last do
  if not new[ARGV[i]] and not redis.call('ZSCORE', members, ARGV[i]) then
    new[ARGV[i]] = true
    total = total + 1
  end
end
local gone = {}
for i = last + 1, #ARGV do
  if new[ARGV[i]] then
    new[ARGV[i]] = nil
    total = total - 1
  elseif not gone[ARGV[i]] and redis.call('ZSCORE', members, ARGV[i]) then
    gone[ARGV[i]] = true
    total = total - 1
  end
end
if total > tonumber(ARGV[3]) then return 'large' end
for member in pairs(new) do redis.call('ZADD', members, 0, member) end
for member in pairs(gone) do redis.call('ZREM', members, member) end
local t = redis.call('TIME')
local header = table.concat({app, template, kind, total, string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)), generation}, '\n')
redis.call('HSET', KEYS[1], ARGV[2], header)
return header
