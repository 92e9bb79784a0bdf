-- The rider: one movement of the account of consent, run inside a script of the queue (Redis only; keys of one shard).
--
-- KEYS     none of its own: `prefix` ("wx:{s07}:") carries the shard's tag, and every key below begins with it:
--            l:<app>:<openid>   hash, a user's lines. Field 2c: state + records, field 2c+1: the oldest record when there is no room (see
--                               pack.go). Field "<c>:<message id>", an open reservation: mark, 4 bytes grant's time, 4 bytes closing
--                               known then, 4 bytes grant's name, rate key
--            lv:<app>:<openid>  hash of rate-limited lines. Field "<c>:<value>": until when (ms) ":" the message that used it;
--                               expires with the longest period
--            lt:code, lt:id     hashes, template id -> c and c -> template id: a shard's short codes
-- ARGV     A[o + 1] the head: letter of the move, kind ("-" keep), cause (64 + its number), flags (48 + ...), 4-byte hash of the
--                   cause's name or of the message id; of some moves 4-byte numbers more
--          A[o + 2] "<app>:<openid>"   A[o + 3] template id
--          a answer   flags: 1 rejects clear, 2 trust client: an accept proves and notes only.   Numbers: CreateTime or 0, 1 + pairing
--                     window in s (0: trust event)
--          c client   flags as above.               Numbers: 0, as above, unproven credits allowed
--          k kind                                   Numbers: period in s or 0
--          r reserve  flags: 1 without a credit too. Numbers: period in s or 0.   A[o + 4] message id, A[o + 5] value's hash or ""
--          s spend, b give back, v void: A[o + 4] message id
--          x a send that was not ours used a credit      f forget: A[o + 2] only
-- Returns  ok, reply. Refused (nothing written): false, "no_credit" | "too_soon <ms left>". Else true and
--          "delta credits reserved status kind changed cause"; forget: a JSON list of template ids.
--
-- Most of a queue's scripts carry no movement: the functions below are made at the first one of a script call.
local function begin()
  local byte, char, sub, find, floor = string.byte, string.char, string.sub, string.find, math.floor
  local call = redis.call

  local POPUP_ACCEPT, CLIENT_ACCEPT, SENT, RETURNED, SETTINGS_OFF, LATE_ACCEPT = 1, 4, 8, 9, 13, 17 -- as in pack.go
  local MOVED, FREE, PAIRED = 32, 64, 128 -- bits of a record beside its cause
  local RECORD, NEAR, ALL = 9, 45, 54     -- bytes: a record, those beside a state that has more to say, all
  -- what each cause says, from 1 on: 0 nothing, 1 rejected, 2 cancelled, 3 accepted (a string: a table would be made anew each time)
  local SAYS = '\3\1\2\3\1\0\0\0\0\0\3\1\2\3\0\0\3\0'

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
      c = call('HGET', P .. 'lt:code', template)
      if not c then return nil end
      c = fields(c)
      codes[template] = c
    end
    return c
  end

  -- load reads a line, and the message's reservation where there is one to ask for.
  local function load(P, user, template, message)
    local c, key = code_of(P, template), P .. 'l:' .. user
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
      L.c = fields(string.format('%d', call('HLEN', P .. 'lt:code')))
      call('HSET', P .. 'lt:code', L.template, L.c[3])
      call('HSET', P .. 'lt:id', L.c[3], L.template)
      known[P][L.template] = L.c
    end
    return L.c
  end

  -- save writes a line, and in the same command the reservation that was made of it, if any.
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

  -- says books what an answer of time `at` means for the status; the later answer counts, of one second the one that came last.
  local function says(L, status, at)
    if at < L.status_at then return false end
    local before = L.status
    L.status, L.status_at = status, at
    return before ~= status
  end

  -- close takes the free credits granted until `at`; those granted later (out of order) stay. Returns how many went.
  local function close(L, at)
    if at < L.closed then return 0 end -- a later closing has taken them
    local keep, doubt, ring = 0, 0, L.ring
    for r = 1, #ring, RECORD do
      local b = byte(ring, r + 4)
      if floor(b / FREE) % 2 == 1 then
        if number4(ring, r) > at then
          keep = keep + 1
          if b % 32 == CLIENT_ACCEPT and b < PAIRED then doubt = doubt + 1 end
        else
          remark(L, r, b - FREE)
        end
      end
    end
    local gone = L.credits - keep
    L.credits, L.unproven, L.closed = keep, doubt, at
    return gone
  end

  -- partner_of finds the oldest record of the other source that is about the same tap: unpaired, within the window; rather one
  -- that granted than one that was only noted.
  local function partner_of(L, cause, at, window)
    local ring, noted, noted_b = L.ring, nil, nil
    for r = 5, #ring, RECORD do
      local b = byte(ring, r)
      if b % 32 == cause and b < PAIRED then
        local d = number4(ring, r - 4) - at
        if d <= window and -d <= window then
          if b >= MOVED then return r - 4, b end
          if not noted then noted, noted_b = r - 4, b end
        end
      end
    end
    return noted, noted_b
  end

  -- accept: WeChat's event about an accepted popup. only: the client's word grants, the event does not.
  local function accept(L, at, hash, window, only)
    local delta, cause, r, b = 0, POPUP_ACCEPT, nil, nil
    if window >= 0 then
      r, b = partner_of(L, CLIENT_ACCEPT, at, window)
    end
    local counted = r and floor(b / MOVED) % 2 == 1
    if r then
      cause = cause + PAIRED
      if counted then -- the tap has its credit: it is proven now, and happened when the event says
        local free = floor(b / FREE) % 2 == 1
        if L.status_at == number4(L.ring, r) and L.closed > at and L.status == 3 then L.status, L.status_at = 2, L.closed end
        if free then
          L.unproven = L.unproven - 1
          if at < L.closed then
            L.credits, delta, b = L.credits - 1, -1, b - FREE
            cause = LATE_ACCEPT + PAIRED + MOVED -- the user closed the line after this tap
          end
        end
        L.ring = sub(L.ring, 1, r - 1) .. four(at) .. char(b + PAIRED) .. sub(L.ring, r + 5)
      else
        remark(L, r, b + PAIRED)
      end
    end
    if not counted and not only and L.kind < 2 and at >= L.closed and L.credits + L.reserved < 65535 then
      L.credits, delta, cause = L.credits + 1, 1, cause + MOVED + FREE
    end
    record(L, at, cause, hash)
    return delta
  end

  -- claim: a client's word that the popup was accepted. Returns delta and whether the word counts for the status. only: the
  -- event it meets has granted nothing, so the word does, and its credit is proven.
  local function claim(L, at, hash, window, allowed, only)
    local delta, cause, counts = 0, CLIENT_ACCEPT, false
    if window >= 0 then
      local r, b = partner_of(L, POPUP_ACCEPT, at, window)
      if r then
        remark(L, r, b + PAIRED)
        cause = cause + PAIRED
      end
      if r and (b >= MOVED or not only or number4(L.ring, r) < L.closed) then -- the event said it all
      elseif L.kind >= 2 then
        counts = allowed > 0
      elseif (r or L.unproven + L.doubted < allowed) and L.credits + L.reserved < 65535 then
        L.credits = L.credits + 1
        if not r then L.unproven = L.unproven + 1 end
        delta, cause, counts = 1, cause + MOVED + FREE, true
      end
    end
    record(L, at, cause, hash)
    return delta, counts
  end

  -- after_all is the time of a client's closing: WeChat's clock, by which events are dated, may be ahead of ours, and what the
  -- client says now is later than all that it can have answered before.
  local function after_all(L, at)
    for r = 1, #L.ring, RECORD do at = math.max(at, number4(L.ring, r)) end
    return math.max(at, L.status_at)
  end

  local function told(P, now, A, o, L, cause, clear, only)
    local head = A[o + 1]
    local hash, at, window = sub(head, 5, 8), number4(head, 9), number4(head, 13) - 1
    local client = byte(head, 1) == 99
    local when = at
    if at == 0 or at > now + 300 then at, when = now, false end -- no time of its own, or none that can be believed
    if seen(L, cause, hash, when) then return answer(L, 0, false, cause) end
    local delta, counts, status = 0, true, byte(SAYS, cause)
    if cause == POPUP_ACCEPT then
      local before = L.status
      delta = accept(L, at, hash, window, only)
      counts = not only and says(L, status, at) or before ~= L.status
      save(P, L)
      return answer(L, delta, delta ~= 0 or counts, cause)
    elseif cause == CLIENT_ACCEPT then
      delta, counts = claim(L, at, hash, window, number4(head, 17), only)
    else
      if client and status > 0 and status < 3 then at = after_all(L, at) end
      if client and window < 0 and cause ~= SETTINGS_OFF then counts = false end -- trust event: a client is only noted
      -- a kept choice tells nothing new of a line that is known, and no more than a report would where clients open nothing
      if cause == 11 and (L.status ~= 0 or number4(head, 17) == 0) then counts = false end
      local gone = 0
      if counts and (cause == 3 or cause == SETTINGS_OFF or status == 1 and clear) then gone = close(L, at) end
      if gone > 0 then
        delta = -gone
        record(L, at, cause + MOVED, char(floor(gone / 256), gone % 256) .. sub(hash, 3, 4))
      else
        record(L, at, cause, hash)
      end
    end
    local changed = delta ~= 0
    if counts and status > 0 and says(L, status, at) then changed = true end
    save(P, L)
    return answer(L, delta, changed, cause)
  end

-- messages.lua goes on from here.
