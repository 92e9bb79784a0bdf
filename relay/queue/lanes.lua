-- lanes.lua stands before every script of this room: where a job is, and how it gets elsewhere.
-- Keys below a shard's prefix P (R-6: what expires says so):
--   j:<id>     hash  the job: b body, n note, m "created_us\nlane\nkeep_ms[\ntag...]", s serial, x expires_ms,
--                    v version, a attempts, r reclaims, st parked|ended|buried (absent: waits or in hand), e ended_ms,
--                    w reason, p park name, i key (ParkLimit.Key).                     Expires once ended or buried.
--   q:<lane>   zset  id -> due_us: ready and later jobs alike
--   g:<group>  zset  lane -> due_us of its first job, or earlier; NEVER when empty
--   gs         set   groups
--   h          hash  "id token" -> lane: jobs in hand, that is, those that have no st and stand in no q and no s
--   z          zset  session -> lease_until_ms of the workers with something in hand
--   w          zset  id -> expires_ms (or NEVER): parked jobs;  k:<name> zset id -> parked_us: the same by name,
--                    and a crowd's (ParkLimit), which expires and is swept when it is full
--   y, s:<serial>    hash serial -> id in hand, "\n"serial -> '' when somebody waits for it;  zset id ->
--                    due_us: those that wait for it
--   u          hash  "p"lane, "s"lane -> how many are parked, wait for their serial
--   d:<lane>   zset  id -> forgotten_ms: buried jobs.            Expires.
--   t:<tag>    zset  id -> created_us.                          Expires.
--   o:<name>   string, taken once; o:<id> an id known beyond its job's end;  n:<name> string, a Name;  p hash lane -> paused_until_ms;
--   c:<caller>, r:<caller>  strings: what its last commit, its last claim answered.   All expire.
local call, byte, sub, match = redis.call, string.byte, string.sub, string.match
local tm = call('TIME')
local NOW = tm[1] .. string.format('%06d', tonumber(tm[2])) -- microseconds, as a string: it never passes through a double's text
local NOW_MS = sub(NOW, 1, -4)
local now_ms = tonumber(NOW_MS)
local NEVER = '9000000000000000' -- in the year 2255; not +inf, which the in-process Redis' Lua cannot read
local function num(score) return score + 0 end -- nor can its tonumber read 9e+15, as scores may come back
local HORIZON = NOW_MS .. '999' -- due in this millisecond is due

-- A time in ms (number) as the due_us of a lane; what is past is now.
local function due(ms)
  if ms <= now_ms then return NOW end
  return string.format('%.0f', ms) .. '000'
end

-- after ms, but not past the job's expiry x ('' or false = none): then its handler is told
local function after(ms, x)
  local at = now_ms + (tonumber(ms) or 0)
  if x and x ~= '' and at > tonumber(x) then at = tonumber(x) end
  return due(at)
end

local awake = {} -- lanes this call knows to stand in their group with a due_us not past NOW

local function wait(P, lane, id, score)
  local q = P .. 'q:' .. lane
  call('ZADD', q, score, id)
  if awake[q] then return end
  local group = match(lane, '^[^:]*')
  if call('ZADD', P .. 'g:' .. group, 'LT', score, lane) == 1 then call('SADD', P .. 'gs', group) end
  if score == NOW then awake[q] = true end
end

local function park(P, lane, id, name, x)
  call('ZADD', P .. 'w', (x and x ~= '') and x or NEVER, id)
  call('ZADD', P .. 'k:' .. name, NOW, id)
  call('HINCRBY', P .. 'u', 'p' .. lane, 1)
end

local function less(P, field)
  if call('HINCRBY', P .. 'u', field, -1) <= 0 then call('HDEL', P .. 'u', field) end
end

-- stands is the due_us of a job that waits, in its lane or its serial's line; nil when it is in hand.
local function stands(P, lane, id, serial)
  return call('ZSCORE', P .. 'q:' .. lane, id) or serial and call('ZSCORE', P .. 's:' .. serial, id) or nil
end

-- queue has a job wait for its serial, which another one holds.
local function queue(P, lane, id, serial, score)
  call('ZADD', P .. 's:' .. serial, score, id)
  call('HSET', P .. 'y', '\n' .. serial, '')
  call('HINCRBY', P .. 'u', 's' .. lane, 1)
end

-- follow sends the first that waits for a serial back to its lane, at its old place. Tells whether there was one.
local function follow(P, serial)
  local line = P .. 's:' .. serial
  while true do
    local nx = call('ZPOPMIN', line)
    if not nx[1] then return false end
    local m = call('HGET', P .. 'j:' .. nx[1], 'm')
    if m then
      local lane = match(m, '^%d+\n([^\n]*)')
      less(P, 's' .. lane)
      wait(P, lane, nx[1], nx[2])
      if call('EXISTS', line) == 1 then call('HSET', P .. 'y', '\n' .. serial, '') end
      return true
    end
  end
end

-- free ends the hold of a serial. Tells whether somebody waited for it.
local function free(P, serial)
  return call('HDEL', P .. 'y', serial, '\n' .. serial) == 2 and follow(P, serial)
end

-- keeps tells whether a verdict leaves a serial with its job: one that begins with + is held through Retry and Snooze.
local function keeps(serial, verdict) return byte(serial) == 43 and (verdict == 'r' or verdict == 's') end

-- leave takes a job that is not in hand from where it stands; st is its field, name its park name. It may have been the one
-- whose turn it was: the next of its serial gets it.
local function leave(P, lane, id, serial, st, name)
  if not st then
    if call('ZREM', P .. 'q:' .. lane, id) == 1 then
      local holder = serial and call('HGET', P .. 'y', serial)
      if holder == id then free(P, serial)
      elseif serial and not holder and call('HDEL', P .. 'y', '\n' .. serial) == 1 then follow(P, serial) end
    elseif serial and call('ZREM', P .. 's:' .. serial, id) == 1 then
      less(P, 's' .. lane)
    end
  elseif st == 'parked' then
    call('ZREM', P .. 'w', id)
    call('ZREM', P .. 'k:' .. (name or ''), id)
    less(P, 'p' .. lane)
  elseif st == 'buried' then
    call('ZREM', P .. 'd:' .. lane, id)
  end
end

local fresh = {} -- tags whose expiry this call has looked at

-- outlive sees to it that the indexes of tags live ms at least.
local function outlive(P, tags, ms)
  for tag in string.gmatch(tags, '[^\n]+') do
    local k = P .. 't:' .. tag
    if call('PTTL', k) < ms then call('PEXPIRE', k, string.format('%.0f', ms + ms / 8)) end
  end
end

-- sweep takes jobs that are gone out of an index, from a place on, if the one that stands there is gone.
local function sweep(P, k, from)
  for size = 0, 63, 63 do
    local gone = {}
    for _, id in ipairs(call('ZRANGE', k, from, from + size)) do
      if call('EXISTS', P .. 'j:' .. id) == 0 then gone[#gone + 1] = id end
    end
    if #gone == 0 then return end
    call('ZREM', k, unpack(gone))
  end
end

-- list puts a job under its tags; one listing in 16 looks for jobs that are gone: the oldest, and one in between.
local function list(P, id, tags, ms)
  for tag in string.gmatch(tags, '[^\n]+') do
    local k = P .. 't:' .. tag
    call('ZADD', k, NOW, id)
    if not fresh[k] then
      fresh[k] = true
      if call('PTTL', k) < ms then call('PEXPIRE', k, string.format('%.0f', ms + ms / 8)) end
      if tonumber(sub(NOW, -2)) % 16 == 0 then
        sweep(P, k, 0)
        local n = call('ZCARD', k)
        if n > 64 then sweep(P, k, tonumber(sub(NOW, -6)) % n) end
      end
    end
  end
end

-- forget deletes a job that is not kept; -known_ms in the place of keep_ms: its id exists that much longer.
local function forget(P, id, keep, tags)
  call('DEL', P .. 'j:' .. id)
  if byte(keep) == 45 then call('SET', P .. 'o:' .. id, '1', 'PX', sub(keep, 2)) end
  for tag in string.gmatch(tags, '[^\n]+') do call('ZREM', P .. 't:' .. tag, id) end
end
