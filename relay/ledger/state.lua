-- state.lua: a subscription as it is kept: read, written, its records. The first of the files that make the extension
-- (lua.go).
-- KEYS     none of its own: P ("wx:{s07}:") carries the shard's tag, and every key below begins with it:
--            KEY_USER<app>:<openid>   hash, a user's subscriptions. Field 2c: state + records, field 2c+1: the oldest record when
--                                     there is no room (see pack.go). Field "<c>:<message id>", an open reservation: mark, 4 bytes
--                                     time of the grant, 4 bytes closing known then, 4 bytes the grant's name, rate key
--            KEY_RATES<app>:<openid>  hash of rate-limited subscriptions. Field "<c>:<value>": until when (ms) ":" the message that
--                                     used it; expires with the longest period
--            KEY_CODES, KEY_IDS       hashes, template id -> c and c -> template id: a shard's short codes
-- ARGV     none of its own.   Returns nothing: the functions are local to the extension.
-- Names in capitals are constants of Go: lua.go writes their values in their place.
local byte, char, sub, find, floor = string.byte, string.char, string.sub, string.find, math.floor
local call = redis.call

local known = {} -- prefix -> template -> {near field, far field, code}, for as long as this script call lasts

local function four(n)
  return char(floor(n / 16777216) % 256, floor(n / 65536) % 256, floor(n / 256) % 256, n % 256)
end

local function number4(s, i)
  local a, b, c, d = byte(s, i, i + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function fields(code)
  local near = 2 * tonumber(code)
  return {string.format('%d', near), string.format('%d', near + 1), code}
end

local function code_of(P, template)
  local codes = known[P]
  if not codes then codes = {}; known[P] = codes end
  local c = codes[template]
  if not c then
    c = call('HGET', P .. KEY_CODES, template)
    if not c then return nil end
    c = fields(c)
    codes[template] = c
  end
  return c
end

-- load reads a subscription, and the message's reservation where there is one to ask for.
local function load(P, user, template, message)
  local c, key = code_of(P, template), P .. KEY_USER .. user
  local L = {c = c, template = template, key = key, kind = 0, status = 0, credits = 0, unproven = 0, status_at = 0,
    closed = 0, reserved = 0, doubted = 0, every = 0, ring = '',
    found = false, far = false, field = false, held = false, hash = false, dirty = false} -- all at once: a table that grows is made twice
  if not c then return L end
  local v
  if message then
    L.field = c[3] .. ':' .. message
    v = call('HMGET', key, c[1], c[2], L.field)
    L.held = v[3]
  else
    v = call('HMGET', key, c[1], c[2])
  end
  local s = v[1]
  if not s then return L end
  L.found = true
  local f, c1, c2, u, a1, a2, a3, a4 = byte(s, 1, 8)
  L.kind, L.status = f % 8, floor(f / 8) % 4
  L.credits, L.unproven = c1 * 256 + c2, u
  L.status_at = ((a1 * 256 + a2) * 256 + a3) * 256 + a4
  local i = 9
  if f >= 32 then
    if floor(f / 32) % 2 == 1 then L.closed = number4(s, i); i = i + 4 end
    if floor(f / 64) % 2 == 1 then
      local r1, r2, d = byte(s, i, i + 2)
      L.reserved, L.doubted = r1 * 256 + r2, d
      i = i + 3
    end
    if f >= 128 then L.every = number4(s, i); i = i + 4 end
  end
  L.far = v[2]
  L.ring = v[2] and v[2] .. sub(s, i) or sub(s, i)
  return L
end

local function code_for(P, L)
  if not L.c then
    L.c = fields(string.format('%d', call('HLEN', P .. KEY_CODES)))
    call('HSET', P .. KEY_CODES, L.template, L.c[3])
    call('HSET', P .. KEY_IDS, L.c[3], L.template)
    known[P][L.template] = L.c
  end
  return L.c
end

-- save writes a subscription, and in the same command the reservation that was made of it, if any.
local function save(P, L, held)
  local c = code_for(P, L)
  local f, tail = L.kind + 8 * L.status, ''
  if L.closed > 0 then f, tail = f + 32, four(L.closed) end
  if L.reserved > 0 then f, tail = f + 64, tail .. char(floor(L.reserved / 256), L.reserved % 256, L.doubted) end
  if L.every > 0 then f, tail = f + 128, tail .. four(L.every) end
  local n, at, ring = L.credits, L.status_at, L.ring
  local s = char(f, floor(n / 256), n % 256, L.unproven, floor(at / 16777216), floor(at / 65536) % 256, floor(at / 256) % 256, at % 256)
  if #ring > NEAR and (L.far or tail ~= '') then
    local far = sub(ring, 1, -NEAR - 1)
    if held then call('HSET', L.key, c[1], s .. tail .. sub(ring, -NEAR), c[2], far, L.field, held)
    else call('HSET', L.key, c[1], s .. tail .. sub(ring, -NEAR), c[2], far) end
  elseif held then
    call('HSET', L.key, c[1], s .. tail .. ring, L.field, held)
  else
    call('HSET', L.key, c[1], s .. tail .. ring)
  end
end

-- record adds one to the end; the oldest goes.
local function record(L, at, cause, hash)
  L.ring = sub(L.ring .. char(floor(at / 16777216), floor(at / 65536) % 256, floor(at / 256) % 256, at % 256, cause) .. hash, -ALL)
end

-- remark gives the record at i another cause byte.
local function remark(L, i, cause)
  L.ring = sub(L.ring, 1, i + 3) .. char(cause) .. sub(L.ring, i + 5)
end

-- seen tells whether a cause of this name is recorded; at: and of this time, false: of any.
local function seen(L, cause, hash, at)
  local ring = L.ring
  local i = find(ring, hash, 1, true)
  while i do
    if i % RECORD == 6 and (not at or number4(ring, i - 5) == at) then
      local is = byte(ring, i - 1) % 32
      if is == cause or is == LATE_ACCEPT and cause == POPUP_ACCEPT then return true end
    end
    i = find(ring, hash, i + 1, true)
  end
  local says = byte(SAYS, cause)
  if says ~= 1 and says ~= 2 then return false end
  for r = 1, #ring, RECORD do -- a closing that took credits has only half of its name left
    local b = byte(ring, r + 4)
    if b % 32 == cause and floor(b / MOVED) % 2 == 1 and sub(ring, r + 7, r + 8) == sub(hash, 3, 4)
      and (not at or number4(ring, r) == at) then return true end
  end
  return false
end

local function answer(L, delta, changed, cause)
  local n, r, tail = L.credits, L.reserved, changed and ' 1 ' or ' 0 '
  if delta >= 0 and n < 10 and r < 10 and cause < 10 then -- to write numbers costs more than all the rest here
    return true, char(48 + delta, 32, 48 + n, 32, 48 + r, 32, 48 + L.status, 32, 48 + L.kind) .. tail .. char(48 + cause)
  end
  return true, delta .. ' ' .. n .. ' ' .. r .. ' ' .. L.status .. ' ' .. L.kind .. tail .. cause
end
