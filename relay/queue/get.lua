-- get.lua reads jobs as they stand.
-- KEYS[1]  prefix of the shard
-- ARGV     ids
-- Returns  flat, for each id: its fields m b n v a r st e w p ('' = none; no m = no such job),
--          then where it is ('h' in hand, 'l' waits for a later time, 'r' waits or otherwise as st says), due_us or ''
local P, out = KEYS[1], {}
for _, id in ipairs(ARGV) do
  local j = call('HMGET', P .. 'j:' .. id, 'm', 'b', 'n', 'v', 'a', 'r', 'st', 'e', 'w', 'p', 's')
  local k, where, at = #out, 'r', ''
  if j[1] and not j[7] then
    local lane = match(j[1], '^%d+\n([^\n]*)')
    at = stands(P, lane, id, j[11]) or ''
    if at == '' then where = 'h' elseif num(at) > num(HORIZON) then where = 'l' end
  end
  for f = 1, 10 do out[k + f] = j[f] or '' end
  out[k + 11], out[k + 12] = where, at
end
return out
