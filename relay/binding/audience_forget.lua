-- audience_forget.lua takes one person out of all audiences and snapshots of a partner.
-- KEYS[1]  hash: name -> header (audience_put.lua); KEYS[2] hash: snapshot -> "app\nkind"
-- ARGV[1]  prefix of the partner's keys; [2] app; [3] openid; [4] the partner's user or ''
-- Returns  how many audiences the person was in
local n = 0
local headers = redis.call('HGETALL', KEYS[1])
for i = 1, #headers, 2 do
  local app, template, kind, total, _, generation = headers[i + 1]:match('^([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)$')
  local member = kind == 'o' and ARGV[3] or ARGV[4]
  if app == ARGV[2] and member ~= '' and redis.call('ZREM', ARGV[1] .. 'm' .. generation, member) == 1 then
    n = n + 1
    local t = redis.call('TIME')
    redis.call('HSET', KEYS[1], headers[i], table.concat({app, template, kind, total - 1,
      string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)), generation}, '\n'))
  end
end
local snapshots = redis.call('HGETALL', KEYS[2])
for i = 1, #snapshots, 2 do
  local app, kind = snapshots[i + 1]:match('^([^\n]*)\n([^\n]*)$')
  local member = kind == 'o' and ARGV[3] or ARGV[4]
  if app == ARGV[2] and member ~= '' then redis.call('ZREM', ARGV[1] .. 's' .. snapshots[i], member) end
end
return n
