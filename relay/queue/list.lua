-- list.lua reads one stretch of an index and sweeps out of it the jobs that are gone.
-- KEYS[1]  prefix of the shard
-- ARGV     index (t:<tag>, k:<name>), order (newest | oldest), score to start from, score to end at, how many of that stretch
--          to skip, how many to look at, state ('' = any, waiting, parked, ended, buried), then texts that must stand in the
--          body's first line
-- Returns  { how many members were looked at, how many of them were gone, id, score, ... }
local P, k, order, from, to, skip, n, wanted = KEYS[1], KEYS[1] .. ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local range = order == 'newest' and 'ZREVRANGEBYSCORE' or 'ZRANGEBYSCORE'
local found = call(range, k, from, to, 'WITHSCORES', 'LIMIT', skip, n)

local function fits(id)
  if wanted ~= '' and (call('HGET', P .. 'j:' .. id, 'st') or 'waiting') ~= wanted then return false end
  if #ARGV > 7 then
    local body = call('HGET', P .. 'j:' .. id, 'b') or ''
    local line = match(body, '^[^\n]*')
    for i = 8, #ARGV do
      if not string.find(line, ARGV[i], 1, true) then return false end
    end
  end
  return true
end

local gone, out = {}, { #found / 2, 0 }
for m = 1, #found, 2 do
  if call('EXISTS', P .. 'j:' .. found[m]) == 0 then
    gone[#gone + 1] = found[m]
  elseif fits(found[m]) then
    local at = #out
    out[at + 1], out[at + 2] = found[m], found[m + 1]
  end
end
for at = 1, #gone, 1000 do call('ZREM', k, unpack(gone, at, math.min(at + 999, #gone))) end
out[2] = #gone
return out
