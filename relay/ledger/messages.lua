-- The second half of the rider (rider.lua has its head, and what answers move): what messages move. It goes on within begin().

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
      local till, message = string.match(call('HGET', P .. 'lv:' .. user, field) or '0:', '^(%d+):(.*)$')
      return tonumber(till), message
    end

    local function use(P, ms, user, field, every, message)
      local key, period = P .. 'lv:' .. user, every * 1000
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
      if L.kind == 3 and L.every > 0 and A[o + 5] ~= '' then
        rate = A[o + 5]
        if L.c then
          local till, by = used(P, A[o + 2], L.c[3] .. ':' .. rate)
          if till > ms and by ~= message then return false, string.format('too_soon %.0f', till - ms) end
        end
      end
      local mark, grant, at = 'o', '\0\0\0\0', 0
      if L.kind >= 2 and L.status == 3 then -- open: costs nothing
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
      if rate and select(2, used(P, user, rate)) == message then call('HDEL', P .. 'lv:' .. user, rate) end
    end

    -- revoke ends the reservations of the line's other messages: what they were made of is gone.
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
      if L.closed > closed and at <= L.closed then -- the user closed the line since: the credit is worth nothing
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
      if before == 3 then L.status = 0 end
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
      local ids = {}
      for _, field in ipairs(call('HKEYS', P .. 'l:' .. user)) do
        local c = tonumber(field) -- nil: a reservation
        if c and c % 2 == 0 then
          local id = call('HGET', P .. 'lt:id', c / 2)
          if id then ids[#ids + 1] = id end
        end
      end
      call('DEL', P .. 'l:' .. user, P .. 'lv:' .. user, P .. 'la:' .. user) -- the last is the allowance rider's
      if #ids == 0 then return true, '[]' end
      return true, cjson.encode(ids)
    end

    return {reserve, spend, giveback, void, forget, elsewhere}
  end

  local moves
  return function(P, now_ms, A, o)
    local op, kind, cause, flag = byte(A[o + 1], 1, 4)
    if op ~= 97 and not moves then moves = messages() end
    if op == 102 then return moves[5](P, A[o + 2]) end
    local now = floor(tonumber(now_ms) / 1000)
    local L = load(P, A[o + 2], A[o + 3], op ~= 97 and op ~= 99 and op ~= 107 and A[o + 4]) -- of no use to x, and harmless
    if kind ~= 45 and L.kind ~= kind - 48 then L.kind, L.dirty = kind - 48, true end
    cause = cause - 64
    if op == 97 then return told(P, now, A, o, L, cause, flag % 2 == 1, flag >= 50) end
    if op == 99 then
      -- a client can name any template: its word opens no line beyond these bounds
      if not L.found and (call('HLEN', L.key) >= 128 or not L.c and call('HLEN', P .. 'lt:code') >= 4096) then
        return answer(L, 0, false, 0)
      end
      return told(P, now, A, o, L, cause, flag % 2 == 1, flag >= 50)
    end
    L.hash = sub(A[o + 1], 5, 8)
    if op == 114 then return moves[1](P, tonumber(now_ms), A, o, L, flag == 49) end
    if op == 115 then return moves[2](P, tonumber(now_ms), now, A, o, L) end
    if op == 98 then return moves[3](P, now, A, o, L) end
    if op == 118 then return moves[4](P, now, A, o, L, cause) end
    if op == 120 then return moves[6](P, now, A, o, L, cause) end
    local every = number4(A[o + 1], 9)
    if every > 0 and every ~= L.every then L.every, L.dirty = every, true end
    if L.dirty then save(P, L) end
    return answer(L, 0, false, 0)
  end
end

local account
return function(prefix, now_ms, A, o)
  if not account then account = begin() end
  return account(prefix, now_ms, A, o)
end
