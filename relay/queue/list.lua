-- list.lua reads one stretch of an index and sweeps out of it the jobs that are gone.
-- KEYS[1]  prefix of the shard
-- ARGV     index (t:<tag> newest first, k:<name> oldest first), score to start from, how many of that stretch to skip, how many
-- Returns  { how many members were looked at, how many of them were gone, id, score, ... }
local P, k, from, skip, n = KEYS[1], KEYS[1] .. ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local found
if sub(ARGV[1], 1, 2) == 't:' then
  found = call('ZREVRANGEBYSCORE', k, from, '-inf', 'WITHSCORES', 'LIMIT', skip, n)
else
  found = call('ZRANGEBYSCORE', k, from, '+inf', 'WITHSCORES', 'LIMIT', skip, n)
end
local gone, out = {}, { #found / 2, 0 }
for m = 1, #found, 2 do
  if call('EXISTS', P .. 'j:' .. found[m]) == 1 then
    local at = #out
    out[at + 1], out[at + 2] = found[m], found[m + 1]
  else
    gone[#gone + 1] = found[m]
  end
end
if #gone > 0 then call('ZREM', k, unpack(gone)) end
out[2] = #gone
return out
