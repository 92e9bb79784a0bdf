-- health_note.lua counts outcomes of attempts.
-- KEYS[1]  see health.lua
-- ARGV     successes, then failures (0 or 1), 1 if the endpoint answered 410, why it failed
-- Returns  see health.lua; transition: benched | recovered | disabled | ''
local good, bad = tonumber(ARGV[1]), tonumber(ARGV[2])
if st == 'off' then return answer('', 0) end
if ARGV[3] == '1' then
  off(ARGV[4])
  return answer('disabled', 0)
end
if st == 'open' then return answer('', 0) end -- was in flight when it opened
if st == 'half' then
  if bad > 0 then
    st, fl, nx = 'open', fl + 1, math.min(nx * 2, LONGEST)
    un = now + nx
    wy = ARGV[4]
    write('st', st, 'fl', fl, 'un', un, 'nx', nx, 'ps', 0, 'pb', 0, 'wy', wy)
    return answer('', 0)
  end
  ps, pb, fl = ps + 1, 0, 0
  if ps < PROBES then
    write('ps', ps, 'pb', 0, 'fl', 0)
    return answer('', 0)
  end
  close()
  return answer('recovered', 0)
end
if good > 0 then fl = 0 end
fl = fl + bad
local slot, kept, g, b, seen = math.floor(now / SLOT), {}, 0, 0, false
for s, x, y in wn:gmatch('(%d+),(%d+),(%d+)') do
  s, x, y = tonumber(s), tonumber(x), tonumber(y)
  if s == slot then x, y, seen = x + good, y + bad, true end
  if s > slot - SLOTS then
    kept[#kept + 1] = string.format('%d,%d,%d', s, x, y)
    g, b = g + x, b + y
  end
end
if not seen then
  kept[#kept + 1] = string.format('%d,%d,%d', slot, good, bad)
  g, b = g + good, b + bad
end
if bad > 0 and (fl >= AFTER or (g + b >= OUT_OF and b * 100 >= (g + b) * SHARE)) then
  st, si, nx = 'open', now, FIRST
  un, wy = now + nx, ARGV[4]
  write('st', st, 'si', si, 'wy', wy, 'fl', fl, 'un', un, 'nx', nx, 'ps', 0, 'pb', 0, 'wn', '')
  return answer('benched', 0)
end
write('fl', fl, 'wn', table.concat(kept, ';'))
return answer('', 0)
