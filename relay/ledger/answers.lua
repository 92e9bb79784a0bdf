-- answers.lua: what a user's answer moves, as WeChat's event or a client tells it. Follows state.lua in the extension
-- (lua.go).
-- KEYS     those of state.lua.
-- ARGV     A[o + 1] of OP_ANSWER and OP_CLIENT, see extension.lua.   Returns nothing: the functions are local to the extension.
-- says books what an answer of time `at` means for the status; the later answer counts, of one second the one that came
-- last.
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

-- partner_of finds the oldest record of the other source that is about the same tap: unpaired, within the window;
-- rather one that granted than one that was only noted.
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
      if L.status_at == number4(L.ring, r) and L.closed > at and L.status == ACCEPTED then L.status, L.status_at = 2, L.closed end
      if free then
        L.unproven = L.unproven - 1
        if at < L.closed then
          L.credits, delta, b = L.credits - 1, -1, b - FREE
          cause = LATE_ACCEPT + PAIRED + MOVED -- the user closed the subscription after this tap
        end
      end
      L.ring = sub(L.ring, 1, r - 1) .. four(at) .. char(b + PAIRED) .. sub(L.ring, r + 5)
    else
      remark(L, r, b + PAIRED)
    end
  end
  if not counted and not only and L.kind < LONG_TERM and at >= L.closed and L.credits + L.reserved < 65535 then
    L.credits, delta, cause = L.credits + 1, 1, cause + MOVED + FREE
  end
  record(L, at, cause, hash)
  return delta
end

-- claim: a client's word that the popup was accepted. Returns delta and whether the word counts for the status. only:
-- the event it meets has granted nothing, so the word does, and its credit is proven.
local function claim(L, at, hash, window, allowed, only)
  local delta, cause, counts = 0, CLIENT_ACCEPT, false
  if window >= 0 then
    local r, b = partner_of(L, POPUP_ACCEPT, at, window)
    if r then
      remark(L, r, b + PAIRED)
      cause = cause + PAIRED
    end
    if r and (b >= MOVED or not only or number4(L.ring, r) < L.closed) then -- the event said it all
    elseif L.kind >= LONG_TERM then
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

-- after_all is the time of a client's closing: WeChat's clock, by which events are dated, may be ahead of ours, and
-- what the client says now is later than all that it can have answered before.
local function after_all(L, at)
  for r = 1, #L.ring, RECORD do at = math.max(at, number4(L.ring, r)) end
  return math.max(at, L.status_at)
end

local function answered(P, now, A, o, L, cause, clear, only)
  local head = A[o + 1]
  local hash, at, window = sub(head, 5, 8), number4(head, 9), number4(head, 13) - 1
  local client = byte(head, 1) == OP_CLIENT
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
    -- a kept choice tells nothing new of a subscription that is known, and no more than a report would where clients
    -- open nothing
    if cause == SETTINGS_ACCEPT and (L.status ~= 0 or number4(head, 17) == 0) then counts = false end
    local gone = 0
    if counts and (cause == CHANGE_REJECT or cause == SETTINGS_OFF or status == 1 and clear) then gone = close(L, at) end
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

-- evict makes place for one more subscription: the one whose last answer is the oldest goes, one without credits first.
-- One with messages under way stays. Tells whether one went.
local function evict(key)
  local best, best_at, best_empty
  local all = call('HGETALL', key)
  for i = 1, #all, 2 do
    local c, s = tonumber(all[i]), all[i + 1]
    if c and c % 2 == 0 then
      local f, c1, c2, _, a1, a2, a3, a4 = byte(s, 1, 8)
      local at = ((a1 * 256 + a2) * 256 + a3) * 256 + a4
      local empty = c1 + c2 == 0 and not (f % 8 >= LONG_TERM and floor(f / 8) % 4 == ACCEPTED)
      local worse = best and (best_empty and not empty or best_empty == empty and best_at <= at)
      if floor(f / 64) % 2 == 0 and not worse then best, best_at, best_empty = c, at, empty end
    end
  end
  if not best then return false end
  call('HDEL', key, string.format('%d', best), string.format('%d', best + 1))
  return true
end

-- admitted tells whether a user may have one more subscription. A client can name any template, so its word opens few;
-- an event of WeChat's is about a real one, and an older subscription goes for it.
local function admitted(P, L, client)
  local fields = call('HLEN', L.key)
  if client then return fields < CLIENT_FIELDS and (L.c or call('HLEN', P .. KEY_CODES) < CLIENT_TEMPLATES) end
  return fields < EVENT_FIELDS or evict(L.key)
end
