-- clear.lua takes jobs out of where they wait, a bounded number a call: of a lane whose work nobody wants any more, or of a park.
-- KEYS[1]  prefix of the shard
-- ARGV     index (q:<lane> or k:<park>), what becomes of them (drop | release), those created before this (us; '' = all), how
--          many of the index to skip, how many to look at, reason of those dropped
-- Returns  { how many were taken out, how many were left alone, 1 when the index ends there }. With release, those created
--          before are dropped and the others are due at once.
local P, k, what, before, skip, n, reason = KEYS[1], KEYS[1] .. ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local ids, taken = call('ZRANGE', k, skip, skip + n - 1), 0
for _, id in ipairs(ids) do
  local J = call('HMGET', P .. 'j:' .. id, 'm', 's', 'st', 'p', 'f', 'x')
  if not J[1] then
    call('ZREM', k, id)
    taken = taken + 1
  else
    local created, lane, keep, tags = match(J[1], '^(%d+)\n([^\n]*)\n(%d+)(.*)$')
    local old = before == '' or num(created) < num(before)
    if what == 'drop' and old or what == 'release' and before ~= '' and old then
      drop(P, id, J, reason)
      taken = taken + 1
    elseif what == 'release' then
      leave(P, lane, id, J[2], J[3], J[4])
      call('HDEL', P .. 'j:' .. id, 'st', 'p', 'x')
      live(P, id, tags, J[5] or '', math.max(tonumber(keep), IDLE))
      wait(P, lane, id, NOW)
      taken = taken + 1
    end
  end
end
return { taken, #ids - taken, #ids < n and 1 or 0 }
