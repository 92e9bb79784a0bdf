-- lanes.lua stands before every script of this package: where a job is, and how it gets elsewhere.
-- Keys below a shard's prefix P. Each expires, or holds only what is named by keys that do (R-6):
--   j:<id>     hash  the job: b body, f the shared body that follows b, n note, m "created_us\nlane\nkeep_ms[\ntag...]",
--                    s serial, x expires_ms, v version, a attempts, r reclaims, st parked|ended|buried (absent: waits or in
--                    hand), e ended_ms, w reason, p park name, i key (ParkLimit.Key).                   Expires.
--   b:<name>   string  a body that several jobs share.                                                  Expires.
--   q:<lane>   zset  id -> due_us: ready and later jobs alike; at most Options.MaxWaiting over all shards
--   g:<group>  zset  lane -> due_us of its first job, or earlier; NEVER when empty
--   gs         set   groups
--   h          hash  "id token" -> lane: jobs in hand, that is, those that have no st and stand in no q and no s
--   z          zset  session -> lease_until_ms of the workers with something in hand
--   w          zset  id -> expires_ms: parked jobs;  k:<name> zset id -> parked_us: the same by name, and the sets of
--                    ParkLimit, which expire and are swept when they are full
--   y, s:<serial>    hash serial -> id in hand, "\n"serial -> '' when somebody waits for it;  zset id -> due_us: those that
--                    wait for it
--   u          hash  "p"lane, "s"lane -> how many are parked, wait for their serial
--   d:<lane>   zset  id -> forgotten_ms: buried jobs.                                                   Expires.
--   t:<tag>    zset  id -> created_us.                                                                  Expires.
--   o:<name>   string, taken once;  n:<name> string, a Name;  p hash lane -> paused_until_ms;
--   c:<caller>, r:<caller>  strings: what its last commit, its last claim answered.                     All expire.
-- What does not expire is empty when no job waits: its members are taken out with their job, and one whose hash has expired
-- when its turn comes. NEVER, IDLE, REMEMBERED and the verdicts are constants of Go (script.go).
local call, byte, sub, match = redis.call, string.byte, string.sub, string.match
local tm = call('TIME')
local NOW = tm[1] .. string.format('%06d', tonumber(tm[2])) -- microseconds, as a string: it never passes through a double's text
local NOW_MS = sub(NOW, 1, -4)
local now_ms = tonumber(NOW_MS)
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

-- hold puts a job into the hand of a session: a token is its session and a number.
local leased = {}
local function hold(P, lane, id, token, session, lease)
  call('HSET', P .. 'h', id .. ' ' .. token, lane)
  local z = P .. session
  if leased[z] then return end
  leased[z] = true
  call('ZADD', P .. 'z', string.format('%.0f', now_ms + lease), session)
end

-- park tells when the job expires, at the latest after most_ms.
local function park(P, lane, id, name, x, most_ms)
  local till = (x and x ~= '') and x or string.format('%.0f', now_ms + most_ms)
  call('ZADD', P .. 'w', till, id)
  call('ZADD', P .. 'k:' .. name, NOW, id)
  call('HINCRBY', P .. 'u', 'p' .. lane, 1)
  return till
end

local function less(P, field)
  if call('HINCRBY', P .. 'u', field, -1) <= 0 then call('HDEL', P .. 'u', field) end
end

-- stands is the due_us of a job that waits, in its lane or its serial's line; nil when it is in hand.
local function stands(P, lane, id, serial)
  return call('ZSCORE', P .. 'q:' .. lane, id) or serial and call('ZSCORE', P .. 's:' .. serial, id) or nil
end

-- state tells how a job stands and, where it waits, its due_us. J is what its hash says: m st s.
local function state(P, id, J)
  if J[2] then return J[2], '' end
  local at = stands(P, match(J[1], '^%d+\n([^\n]*)'), id, J[3])
  if not at then return 'leased', '' end
  return num(at) > num(HORIZON) and 'later' or 'ready', at
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
local function keeps(serial, verdict) return byte(serial) == 43 and (verdict == RETRY or verdict == SNOOZE) end

local held = {} -- shards this call has looked at

-- hands raises when the key of the jobs in hand is of another type.
local function hands(P)
  if held[P] then return end
  held[P] = call('HLEN', P .. 'h')
end

local lengths = {} -- of the lanes this call has looked at

-- sound tells how many wait in a lane, and raises when a key that a job of it would need is of another type: before anything
-- is written, since a script cannot take back what it did.
local function sound(P, lane, more)
  local q = P .. 'q:' .. lane
  local n = lengths[q]
  if not n then
    n = call('ZCARD', q)
    call('ZCARD', P .. 'g:' .. match(lane, '^[^:]*'))
    hands(P)
  elseif more then n = n + more end
  lengths[q] = n
  return n
end

local pauses = {} -- of the shards this call has asked: false = none, else lane -> until_ms

-- paused tells whether a lane is not to be begun with now.
local function paused(P, lane)
  local p = pauses[P]
  if p == nil then
    p = false
    local all = call('HGETALL', P .. 'p')
    if all[1] then p = {} end
    for k = 1, #all, 2 do p[all[k]] = tonumber(all[k + 1]) end
    pauses[P] = p
  end
  return p and p[lane] and p[lane] > now_ms and p[lane]
end

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

-- live has a job exist for ms, and with it its shared body and its place in the indexes.
local function live(P, id, tags, common, ms)
  call('PEXPIRE', P .. 'j:' .. id, string.format('%.0f', ms))
  if common ~= '' and call('PTTL', P .. 'b:' .. common) < ms then call('PEXPIRE', P .. 'b:' .. common, string.format('%.0f', ms)) end
  outlive(P, tags, ms)
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

-- forget deletes a job that is not kept.
local function forget(P, id, tags)
  call('DEL', P .. 'j:' .. id)
  for tag in string.gmatch(tags, '[^\n]+') do call('ZREM', P .. 't:' .. tag, id) end
end

-- drop ends a job that waits, without a handler. J is what its hash says: m s st p.
local function drop(P, id, J, reason)
  local lane, keep, tags = match(J[1], '^%d+\n([^\n]*)\n(%d+)(.*)$')
  leave(P, lane, id, J[2], J[3], J[4])
  if keep == '0' then return forget(P, id, tags) end
  local j = P .. 'j:' .. id
  call('HSET', j, 'st', 'ended', 'e', NOW_MS, 'w', reason)
  call('HINCRBY', j, 'v', 1)
  call('PEXPIRE', j, keep)
end

-- expire has a waiting or parked job come to its handler as one that has expired.
local function expire(P, id, J)
  local lane, j = match(J[1], '^%d+\n([^\n]*)'), P .. 'j:' .. id
  leave(P, lane, id, J[2], J[3], J[4])
  call('HDEL', j, 'st', 'p')
  call('HSET', j, 'x', NOW_MS)
  wait(P, lane, id, NOW)
end

-- shed drops the first of a lane that is too long.
local function shed(P, lane)
  local q = P .. 'q:' .. lane
  local id = call('ZRANGE', q, 0, 0)[1]
  local J = call('HMGET', P .. 'j:' .. id, 'm', 's', 'st', 'p')
  if J[1] then drop(P, id, J, 'too_many') else call('ZREM', q, id) end
  lengths[q] = lengths[q] - 1
end

-- crowd has the first of a park expire when more than most are parked there.
local function crowd(P, lane, name, most)
  if most == 0 or call('ZCARD', P .. 'k:' .. name) <= most then return end
  local id = call('ZRANGE', P .. 'k:' .. name, 0, 0)[1]
  local J = call('HMGET', P .. 'j:' .. id, 'm', 's', 'st', 'p')
  if J[1] then expire(P, id, J) else call('ZREM', P .. 'k:' .. name, id) end
end
