-- get.lua reads jobs as they stand.
-- KEYS[1]  prefix of the shard
-- ARGV     ids
-- Returns  flat, for each id: its fields m b n v a r e w p ('' = none; no m = no such job), b with its shared body, then its
--          state and due_us or ''
local P, out = KEYS[1], {}
for _, id in ipairs(ARGV) do
  local j = call('HMGET', P .. 'j:' .. id, 'm', 'b', 'n', 'v', 'a', 'r', 'e', 'w', 'p', 'st', 's', 'f')
  local k = #out
  for f = 1, 9 do out[k + f] = j[f] or '' end
  if j[12] then out[k + 2] = out[k + 2] .. (call('GET', P .. 'b:' .. j[12]) or '') end
  out[k + 10], out[k + 11] = '', ''
  if j[1] then out[k + 10], out[k + 11] = state(P, id, { j[1], j[10], j[11] }) end
end
return out
