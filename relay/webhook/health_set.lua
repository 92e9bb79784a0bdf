-- health_set.lua does what an operator or a partner asks for.
-- KEYS[1]  see health.lua
-- ARGV     enable, the plan for what is held | disable, why | probe: a bench is over now | settle, a plan that is carried out
-- Returns  see health.lua
local transition = ''
if ARGV[1] == 'enable' then
  if st ~= '' then transition = 'recovered' end
  redis.call('DEL', KEYS[1])
  st, si, fl, wy, pl = '', 0, 0, '', ARGV[2]
  if pl ~= '' then write('pl', pl) end
elseif ARGV[1] == 'disable' then
  if st ~= 'off' then
    transition = 'disabled'
    off(ARGV[2])
  end
elseif ARGV[1] == 'probe' then
  if st == 'open' then
    un = now
    write('un', un)
  elseif st == 'half' then
    pb = 0
    write('pb', pb)
  end
elseif pl ~= '' and pl == ARGV[2] then
  redis.call('HDEL', KEYS[1], 'pl')
  pl = ''
end
return answer(transition, 0)
