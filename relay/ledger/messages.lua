-- messages.lua: what messages move. Follows answers.lua in the extension (lua.go).
-- KEYS     those of state.lua.
-- ARGV     A[o + 1] to A[o + 5], see extension.lua.   Returns nothing: the functions are local to the extension.
-- messages makes the movements of messages and users; a script that carries answers only does without.
local function messages()
  -- newest finds the free grant of the latest time: proven ones, or those that rest on a client's word.
  local function newest(L, proven)
    local ring, best, when = L.ring, nil, -1
    for r = 1, #ring, RECORD do
      local b = byte(ring, r + 4)
      if floor(b / FREE) % 2 == 1 and (b % 32 ~= CLIENT_ACCEPT or b >= PAIRED) == proven then
        local at = number4(ring, r)
        if at >= when then best, when = r, at end
      end
    end
    return best, when
  end

  -- A period is in use from Reserve on, by the message; it runs from the send.
  local function used(P, user, field)
    local till, message = string.match(call('HGET', P .. KEY_RATES .. user, field) or '0:', '^(%d+):(.*)$')
    return tonumber(till), message
  end

  local function use(P, ms, user, field, every, message)
    local key, period = P .. KEY_RATES .. user, every * 1000
    if call('HLEN', key) >= 64 then -- values of other days
      local all = call('HGETALL', key)
      for i = 1, #all, 2 do
        if tonumber(string.match(all[i + 1], '^%d+')) <= ms then call('HDEL', key, all[i]) end
      end
    end
    call('HSET', key, field, string.format('%.0f', ms + period) .. ':' .. message)
    if call('PTTL', key) < period then call('PEXPIRE', key, string.format('%.0f', period)) end
  end

  local function reserve(P, ms, A, o, L, try)
    local message = A[o + 4]
    if L.held or seen(L, SENT, L.hash, false) then return answer(L, 0, false, 0) end
    local every = number4(A[o + 1], 9)
    if every > 0 and every ~= L.every then L.every, L.dirty = every, true end
    local rate = ''
    if L.kind == RATE_LIMITED and L.every > 0 and A[o + 5] ~= '' then
      rate = A[o + 5]
      if L.c then
        local till, by = used(P, A[o + 2], L.c[3] .. ':' .. rate)
        if till > ms and by ~= message then return false, string.format('too_soon %.0f', till - ms) end
      end
    end
    local mark, grant, at = 'o', '\0\0\0\0', 0
    if L.kind >= LONG_TERM and L.status == ACCEPTED then -- open: costs nothing
    elseif L.credits > 0 and L.reserved < 65535 then
      local proven = L.credits > L.unproven
      mark = proven and 'p' or 'u'
      local r, when = newest(L, proven)
      if r then
        at, grant = when, sub(L.ring, r + 5, r + 8)
        remark(L, r, byte(L.ring, r + 4) - FREE)
      end
      L.credits, L.reserved = L.credits - 1, L.reserved + 1
      if not proven then L.unproven, L.doubted = L.unproven - 1, L.doubted + 1 end
    elseif not try then
      return false, 'no_credit'
    end
    local c = code_for(P, L)
    if rate ~= '' then use(P, ms, A[o + 2], c[3] .. ':' .. rate, L.every, message) end
    L.field = c[3] .. ':' .. message
    local held = mark .. four(at) .. four(L.closed) .. grant .. rate
    if mark ~= 'o' or L.dirty then save(P, L, held) else call('HSET', L.key, L.field, held) end
    return answer(L, 0, mark ~= 'o', 0)
  end

  -- reservation ends the message's one; nil when there is none open.
  local function reservation(L)
    local held = L.held
    if not held then return nil end
    call('HDEL', L.key, L.field)
    local mark = sub(held, 1, 1)
    if mark ~= 'o' then
      L.reserved = L.reserved - 1
      if mark == 'u' then L.doubted = L.doubted - 1 end
    end
    local rate = sub(held, 14)
    return mark, held, rate ~= '' and L.c[3] .. ':' .. rate
  end

  local function unrate(P, user, rate, message)
    if rate and select(2, used(P, user, rate)) == message then call('HDEL', P .. KEY_RATES .. user, rate) end
  end

  -- revoke ends the reservations of the subscription's other messages: what they were made of is gone.
  local function revoke(P, A, o, L)
    local prefix = L.c[3] .. ':'
    for _, field in ipairs(call('HKEYS', L.key)) do
      if sub(field, 1, #prefix) == prefix then
        local rate = sub(call('HGET', L.key, field), 14)
        unrate(P, A[o + 2], rate ~= '' and prefix .. rate, sub(field, #prefix + 1))
        call('HDEL', L.key, field)
      end
    end
    local gone = L.reserved
    L.reserved, L.doubted = 0, 0
    return gone
  end

  local function spend(P, ms, now, A, o, L)
    local mark, _, rate = reservation(L)
    if not mark then return answer(L, 0, false, 0) end
    local paid = mark ~= 'o'
    if rate and L.every > 0 then use(P, ms, A[o + 2], rate, L.every, A[o + 4]) end
    record(L, now, paid and SENT + MOVED or SENT, L.hash)
    save(P, L)
    return answer(L, paid and -1 or 0, paid, SENT)
  end

  local function giveback(P, now, A, o, L)
    local mark, held, rate = reservation(L)
    if not mark then return answer(L, 0, false, 0) end
    unrate(P, A[o + 2], rate, A[o + 4])
    if mark == 'o' then return answer(L, 0, false, RETURNED) end
    local at, closed, grant = number4(held, 2), number4(held, 6), sub(held, 10, 13)
    local r, b
    if at > 0 then
      local i = find(L.ring, grant, 1, true)
      while i and i % RECORD ~= 6 do i = find(L.ring, grant, i + 1, true) end
      if i then
        r, b = i - 5, byte(L.ring, i - 1)
        at = number4(L.ring, r) -- the event may have told the time meanwhile
      end
    end
    if L.closed > closed and at <= L.closed then -- the user closed the subscription since: the credit is worth nothing
      record(L, now, RETURNED + MOVED, L.hash)
      save(P, L)
      return answer(L, -1, true, RETURNED)
    end
    L.credits = L.credits + 1
    if mark == 'u' and not (b and b >= PAIRED) then L.unproven = L.unproven + 1 end
    if r and floor(b / FREE) % 2 == 0 then remark(L, r, b + FREE) end
    record(L, now, RETURNED, L.hash)
    save(P, L)
    return answer(L, 0, true, RETURNED)
  end

  local function void(P, now, A, o, L, cause)
    local mark, _, rate = reservation(L)
    if not mark then return answer(L, 0, false, 0) end
    unrate(P, A[o + 2], rate, A[o + 4])
    local gone = L.credits + (mark ~= 'o' and 1 or 0) + revoke(P, A, o, L)
    for r = 1, #L.ring, RECORD do
      local b = byte(L.ring, r + 4)
      if floor(b / FREE) % 2 == 1 then remark(L, r, b - FREE) end
    end
    local before = L.status
    L.credits, L.unproven = 0, 0
    if before == ACCEPTED then L.status = 0 end
    if gone > 0 then
      record(L, now, cause + MOVED, char(floor(gone / 256) % 256, gone % 256) .. sub(L.hash, 3, 4))
    else
      record(L, now, cause, L.hash)
    end
    save(P, L)
    return answer(L, -gone, gone > 0 or before ~= L.status, cause)
  end

  local function elsewhere(P, now, A, o, L, cause)
    if L.credits == 0 or seen(L, cause, L.hash, false) then return answer(L, 0, false, cause) end
    local proven = L.credits > L.unproven
    local r = newest(L, proven)
    if r then remark(L, r, byte(L.ring, r + 4) - FREE) end
    L.credits = L.credits - 1
    if not proven then L.unproven = L.unproven - 1 end
    record(L, now, cause + MOVED, L.hash)
    save(P, L)
    return answer(L, -1, true, cause)
  end

  local function forget(P, user)
    call('DEL', P .. KEY_USER .. user, P .. KEY_RATES .. user, P .. KEY_ALLOWANCE .. user)
    return true, ''
  end

  return {reserve, spend, giveback, void, forget, elsewhere}
end
