-- health_gate.lua asks whether a delivery may go; while benched it lets one probe through at a time.
-- KEYS[1]  see health.lua
-- Returns  see health.lua
if st == 'open' and un <= now or st == 'half' and pb <= now then
  if st == 'open' then ps = 0 end
  st, pb = 'half', now + PROBE_TIME
  write('st', st, 'pb', pb, 'ps', ps)
  return answer('', 1)
end
return answer('', 0)
