-- commit.lua makes changes happen, each wholly or not at all, each answering for itself: the first half of a turn (turn.lua).
-- KEYS[1]  prefix of a shard. On a cluster every change is of this shard; on a single Redis they may be of any.
-- ARGV     A[p..n]: caller, number of the call, buried_keep_ms, relief ('1': verdicts only, a full Redis takes them), most that
--          wait in one lane of a shard, then changes to the end:
--            shape (bytes: how many ARGV it has, in two; how many of them, at its end, are blobs (bodies and notes), in two;
--              once, operations in two, finish (how many ARGV), edit, jobs in two, refused in two, names, key,
--              look: 1 the ids are new and not looked up (DECISIONS.md 15), behind + 2 * park limit, lanes),
--            prefix,
--            [where Refused starts: strings, blobs]
--            [once: name, ms]
--            [key: the whole key, value, ms, over]
--            [finish: id, token, lane, serial, verdict, noted, keep_ms ('' = its expiry stands), tags, version, shared; but for
--             Done and GiveBack more of it: after_ms, x, reason, attempts, most; GiveBack has due_us in the place of version]
--            [edit: id, version, to, after_ms, flags: 1 it has a note, 2 the job's expiry goes]
--            [behind: name]
--            [park limit: park name, id of the job that parks, set, most, key, ms the set is remembered]
--            ids of Jobs and Refused
--            lanes of Jobs: lane, '1' when a full one drops its oldest, 'h' when all that go there are put in hand
--            operations: extension and how many args (two bytes), args...
--            names: name, value, ms
--            jobs: lane, "\nlane\nkeep_ms[\ntag...]", life_ms,
--                  shape (mode n now | h in hand | d due | a after | p park, note - | n | r replies, then '1' for each that follows:
--                  serial, expires, tags, shared ('2': its blob came with a job before), only if parked),
--                  [when, name or token and session and lease_ms], [serial], [expires_ms], [tags], [shared], [n, n park names]
--            the blobs: bodies, shared bodies and notes in the order of the above
-- Returns  one string: now_us, ' ', then per change a code, the number of replies, then "length:reply" for each. Codes:
--            K done  k done, and in some lane stands a job that the caller does not know of: who waited for the serial, or one
--            that depends on what is parked  R refused
--            P refused, the last reply is the ids that gave way  F no place, or the lane is full
--            T once or key taken (reply: what the key holds)  X a job exists  S not in this hand any more  V other version
--            H in hand  N not found  E an extension or a write failed (reply: why); what was finished is in its hand again
--            U done, but its jobs wait in their lanes: one is paused
--            Q finished, and its Jobs were not put: refused, or once and it happened before
--            A not finished but given again: an edit that came with it could not be done
-- The same call again (a lost reply, sent again by the client) is answered from c:<caller> and does nothing; one that comes
-- after a later one of its caller is refused.
local function commit(A, p, n)
  local memory, number = KEYS[1] .. 'c:' .. A[p], A[p + 1]
  if A[p + 3] == '1' then call('DEL', memory .. '.') end -- Redis refuses a script for want of memory only until its first write
  local old = call('SET', memory, number, 'PX', REMEMBERED, 'GET') -- a write first: a replica, a full or broken Redis fails the whole call here
  local last = old and match(old, '^%d+')
  if last and num(last) >= num(number) then
    call('SET', memory, old, 'PX', REMEMBERED)
    if last == number and #old > #last then return sub(old, #last + 2) end
    if last ~= number then return redis.error_reply('LATE a later call of this caller came first') end
  end
  local BURIED, MOST = A[p + 2], tonumber(A[p + 4])
  local s, b -- cursors over strings and blobs of the change at work
  local nothing = {}
  local resting -- a lane of the change at work is paused: none of its jobs begins at once
  local freed -- the verdict at work let somebody go who waited for its serial, or a job was put that depends on what is parked
  local mark, taken_key -- its once key and its other package's key, set and not yet kept

  local shared = {} -- prefix and name of a shared body -> life_ms, as far as this call has written them

  -- parked tells whether something is parked under one of the names at s.
  local function parked(P)
    local names = {}
    for k = 1, tonumber(A[s]) do names[k] = P .. 'k:' .. A[s + k] end
    s = s + 1 + #names
    return call('EXISTS', unpack(names)) > 0
  end

  -- put reads a job off the cursors and puts it; one that exists already is left alone when gently.
  local function put(P, id, replies, gently)
    local lane, meta, life, shape = A[s], A[s + 1], A[s + 2], A[s + 3]
    local mode, nt, hs, hx, ht, hb, hc = byte(shape, 1, 7)
    s = s + 4
    local at, session, lease, serial, x, tags, common, wanted
    if mode ~= 110 then at = A[s]; s = s + 1 end
    if mode == 104 then session, lease = A[s], A[s + 1]; s = s + 2 end
    if hs == 49 then serial = A[s]; s = s + 1 end
    if hx == 49 then x = A[s]; s = s + 1 end
    if ht == 49 then tags = A[s]; s = s + 1 end
    if hb ~= 48 then common = A[s]; s = s + 1 end
    if hc == 49 then wanted = parked(P); freed = freed or wanted else wanted = true end
    local j, body, blob, note = P .. 'j:' .. id, A[b], nil, nil
    b = b + 1
    if hb == 49 then blob = A[b]; b = b + 1 end
    if nt == 110 then note = A[b]; b = b + 1 elseif nt == 114 then note = table.concat(replies, '\n') end
    if not wanted or gently and call('EXISTS', j) == 1 then return end
    if blob then call('SET', P .. 'b:' .. common, blob, 'PX', life) end
    meta = NOW .. meta
    local fields = { 'b', body, 'm', meta }
    local function field(name, value)
      if value then
        local k = #fields
        fields[k + 1], fields[k + 2] = name, value
      end
    end
    field('n', note)
    field('s', serial)
    field('x', x)
    field('f', common)
    call('HSET', j, unpack(fields))
    call('PEXPIRE', j, life)
    if mode == 104 and not resting then hold(P, lane, id, at, session, lease)
    elseif mode == 110 or mode == 104 then
      wait(P, lane, id, NOW)
      if sound(P, lane, 1) > MOST then shed(P, lane) end
    elseif mode == 112 then call('HSET', j, 'st', 'parked', 'p', at); park(P, lane, id, at, x, BURIED)
    elseif mode == 97 then wait(P, lane, id, after(at, x))
    else
      local ms = tonumber(at)
      if x and ms > tonumber(x) then ms = tonumber(x) end
      wait(P, lane, id, due(ms))
    end
    if tags then list(P, id, tags, tonumber(life)) end
  end

  -- place does the verdict whose ARGV start at f, on a job that has left the hand.
  local function place(P, f, note)
    local id, lane, serial, verdict, keep, tags, version, common = A[f], A[f + 2], A[f + 3], A[f + 4], A[f + 6], A[f + 7], A[f + 8], A[f + 9]
    local j = P .. 'j:' .. id
    freed = serial ~= '' and not keeps(serial, verdict) and free(P, serial) or freed
    if verdict == GIVE_BACK then return wait(P, lane, id, version) end
    if verdict == DONE then
      if keep == '0' then return forget(P, id, tags) end
      if note then call('HSET', j, 'v', version, 'st', 'ended', 'e', NOW_MS, 'n', note)
      else call('HSET', j, 'v', version, 'st', 'ended', 'e', NOW_MS) end
      if keep ~= '' then call('PEXPIRE', j, keep) end
      return
    end
    local ms, x, reason = A[f + 10], A[f + 11], A[f + 12]
    if note then call('HSET', j, 'v', version, 'n', note) else call('HSET', j, 'v', version) end
    if verdict == BURY then
      call('HSET', j, 'st', 'buried', 'e', NOW_MS, 'w', reason)
      local d = P .. 'd:' .. lane
      call('ZREMRANGEBYSCORE', d, '-inf', NOW_MS)
      call('ZADD', d, string.format('%.0f', now_ms + tonumber(BURIED)), id)
      call('PEXPIRE', d, BURIED)
      return live(P, id, tags, common, tonumber(BURIED))
    end
    if verdict == PARK then -- its name in the place of the reason, its expiry in the place of the time
      if ms ~= '' then x = ms; call('HSET', j, 'x', x) end
      call('HSET', j, 'st', 'parked', 'p', reason)
      local till = park(P, lane, id, reason, x, BURIED)
      live(P, id, tags, common, tonumber(till) - now_ms + math.max(tonumber(keep), IDLE))
      return crowd(P, lane, reason, tonumber(A[f + 14]))
    end
    if verdict == RETRY then call('HSET', j, 'a', A[f + 13], 'w', reason)
    elseif verdict == LAPSE then call('HINCRBY', j, 'r', 1) end
    live(P, id, tags, common, tonumber(ms) + math.max(tonumber(keep), IDLE))
    wait(P, lane, id, after(ms, x))
  end

  -- steer does an edit whose checks passed; J is what they read: m v st s p x f, and where it waits
  local function steer(P, e, note, J)
    local id, to = A[e], A[e + 2]
    local j, st, x = P .. 'j:' .. id, J[3], J[6]
    local lane, keep, tags = match(J[1], '^%d+\n([^\n]*)\n(%d+)(.*)$')
    local version = string.format('%.0f', tonumber(J[2] or 0) + 1)
    if to == '4' or to == '2' and keep == '0' then
      leave(P, lane, id, J[4], st, J[5])
      return forget(P, id, tags)
    end
    if note then call('HSET', j, 'v', version, 'n', note) else call('HSET', j, 'v', version) end
    if A[e + 4] + 0 > 1 then x = nil; call('HDEL', j, 'x') end
    if to == '0' then return end
    if to == '2' then
      if st == 'ended' then return end
      leave(P, lane, id, J[4], st, J[5])
      call('HSET', j, 'st', 'ended', 'e', NOW_MS)
      call('HDEL', j, 'p')
      call('PEXPIRE', j, keep)
      return outlive(P, tags, tonumber(keep))
    end
    if to == '1' then
      call('HDEL', j, 'a')
      if not st and num(J.at) <= num(HORIZON) then return end -- ready already, or in its serial's line: it keeps its place
    end
    leave(P, lane, id, J[4], st, J[5])
    if st then call('HDEL', j, 'st', 'e', 'p', 'w') end
    live(P, id, tags, J[7] or '', (to == '1' and 0 or tonumber(A[e + 3])) + math.max(tonumber(keep), IDLE))
    if to == '1' then wait(P, lane, id, NOW) else wait(P, lane, id, after(A[e + 3], x)) end
  end

  -- admitted tells whether the job of a park limit (its ARGV start at r) may be parked. Those whose key it has give way to it then: gone
  -- holds what is to be known of them.
  local function admitted(P, r)
    local key, set, most, gone = A[r + 4], P .. 'k:' .. A[r + 2], tonumber(A[r + 3]), {}
    if key ~= '' then
      for _, id in ipairs(call('ZRANGE', P .. 'k:' .. A[r], 0, -1)) do
        local j = call('HMGET', P .. 'j:' .. id, 'i', 'm', 's')
        if j[1] == key then gone[#gone + 1] = { id, match(j[2], '^%d+\n([^\n]*)'), j[3] } end
      end
    end
    if #gone > 0 or call('ZCARD', set) < most then return gone end
    for _, id in ipairs(call('ZRANGE', set, 0, -1)) do -- who left its park is swept out only here
      if call('HGET', P .. 'j:' .. id, 'st') ~= 'parked' then call('ZREM', set, id) end
    end
    return call('ZCARD', set) < most and gone or nil
  end

  -- settle gives the job of a park limit its place; returns the ids of those that gave way, if any.
  local function settle(P, r, gone)
    local id, set, key, ids = A[r + 1], P .. 'k:' .. A[r + 2], A[r + 4], {}
    for i, g in ipairs(gone) do
      local j = P .. 'j:' .. g[1]
      leave(P, g[2], g[1], g[3], 'parked', A[r])
      call('ZREM', set, g[1])
      call('HDEL', j, 'st', 'p', 'i')
      call('HINCRBY', j, 'v', 1)
      wait(P, g[2], g[1], NOW)
      ids[i] = g[1]
    end
    if key ~= '' then call('HSET', P .. 'j:' .. id, 'i', key) end
    call('ZADD', set, NOW, id)
    if call('PTTL', set) < tonumber(A[r + 5]) then call('PEXPIRE', set, A[r + 5]) end
    return #ids > 0 and table.concat(ids, ' ') or nil
  end

  local held, heldlane -- the job that it finishes, out of the hand and not yet elsewhere

  local function finish(P, f, note)
    place(P, f, note)
    held = nil
  end

  local function undo()
    if mark then call('DEL', mark); mark = nil end
    if taken_key then call('DEL', taken_key); taken_key = nil end
  end

  -- change does the change whose ARGV start at p and end before past; returns code, replies
  local function change(p, past)
    local P = A[p + 1]
    local _, _, bh, bl, once, oh, ol, fin, ed, jh, jl, rh, rl, names, key, look, queue, lanes = byte(A[p], 1, 18)
    local jobs, refused, operations = jh * 256 + jl, rh * 256 + rl, oh * 256 + ol
    local behind, r, gone
    local rs, rb, f, fnote, e, enote, J
    local taken = false
    held, freed, resting = nil, false, false
    s, b, mark, taken_key = p + 2, past - bh * 256 - bl, nil, nil
    if refused > 0 then rs, rb = p + tonumber(A[s]), b + tonumber(A[s + 1]); s = s + 2 end
    if once > 0 then
      local k = P .. 'o:' .. A[s]
      if call('SET', k, '1', 'NX', 'PX', A[s + 1]) then mark = k
      elseif fin == 0 then return 'T'
      else taken = true end
      s = s + 2
    end
    if key > 0 then
      local k = A[s]
      local holds = call('SET', k, A[s + 1], 'NX', 'GET', 'PX', A[s + 2])
      if not holds then taken_key = k
      elseif holds == A[s + 3] then
        call('SET', k, A[s + 1], 'PX', A[s + 2])
        taken_key = k
      elseif holds ~= A[s + 1] then
        undo()
        return 'T', { holds }
      end
      s = s + 4
    end
    if fin > 0 then
      f = s
      s = s + fin
      local hand = A[f] .. ' ' .. A[f + 1]
      if call('HDEL', P .. 'h', hand) == 0 then undo(); return 'S' end
      held, heldlane = hand, A[f + 2]
      if A[f + 5] == '1' then fnote = A[b]; b = b + 1 end
      if taken then finish(P, f, fnote); return 'Q' end -- what comes with it happened before
    end
    if ed == 1 then
      e = s
      s = s + 5
      J = call('HMGET', P .. 'j:' .. A[e], 'm', 'v', 'st', 's', 'p', 'x', 'f')
      local no
      if J[1] and not J[3] then J.at = stands(P, match(J[1], '^%d+\n([^\n]*)'), A[e], J[4]) end
      if not J[1] then no = 'N'
      elseif not J[3] and not J.at then no = 'H'
      elseif A[e + 1] ~= '-1' and tonumber(A[e + 1]) ~= tonumber(J[2] or 0) then no = 'V' end
      if no then
        undo()
        if fin == 0 then return no end
        if A[f + 3] ~= '' then free(P, A[f + 3]) end
        wait(P, A[f + 2], A[f], after(1000)) -- the handler reads again and decides again
        held = nil
        return 'A'
      end
      if A[e + 4] % 2 == 1 then enote = A[b]; b = b + 1 end
    end
    if queue % 2 == 1 then behind = A[s]; s = s + 1 end
    if queue > 1 then r = s; s = s + 6 end
    local ids, at = jobs + refused, s
    if fin == 0 and ids > 0 and look ~= 1 then
      local there
      if ids == 1 then there = call('EXISTS', P .. 'j:' .. A[s])
      else
        local ks = {}
        for i = 1, ids do ks[i] = P .. 'j:' .. A[s + i - 1] end
        there = call('EXISTS', unpack(ks))
      end
      if there > 0 then undo(); return 'X' end
    end
    s = s + ids
    for _ = 1, lanes do
      local policy, rests = A[s + 1], paused(P, A[s])
      resting = resting or rests
      if policy == 'h' and not rests then hands(P)
      elseif sound(P, A[s]) >= MOST and policy == '0' and fin == 0 then undo(); return 'F' end
      s = s + 2
    end
    local replies = operations > 0 and {} or nothing
    for i = 1, operations do
      local extension, n = byte(A[s], 1, 2)
      local o, ok, reply = s, nil, nil
      s = s + 1 + n
      if behind and call('EXISTS', P .. 'k:' .. behind) == 1 then ok, reply = false, 'behind'
      else ok, reply = extensions[extension](P, now_ms, A, o, n) end
      replies[i] = tostring(reply or '')
      if not ok then
        if r then
          gone = admitted(P, r)
          if not gone then undo(); return 'F' end
        end
        if refused == 0 or fin > 0 then undo() end
        s, b = rs, rb
        for k = 1, refused do put(P, A[at + jobs + k - 1], replies, fin > 0) end
        if fin > 0 then finish(P, f, fnote) end
        local who = r and settle(P, r, gone)
        if who then replies[i + 1] = who; return 'P', replies end
        return fin > 0 and 'Q' or 'R', replies
      end
    end
    if ed == 1 then steer(P, e, enote, J) end
    for _ = 1, names do
      call('SET', P .. 'n:' .. A[s], A[s + 1], 'PX', A[s + 2])
      s = s + 3
    end
    for k = 1, jobs do put(P, A[at + k - 1], replies, fin > 0) end
    if fin > 0 then finish(P, f, fnote) end -- last: a verdict stands when its consequences do (DECISIONS.md 8)
    return resting and 'U' or freed and 'k' or 'K', replies
  end

  local out = { NOW, ' ' }
  p = p + 5
  while p <= n do
    local high, low = byte(A[p], 1, 2)
    local past = p + high * 256 + low
    local good, code, replies = pcall(change, p, past)
    if not good then
      pcall(undo)
      if held then call('HSET', A[p + 1] .. 'h', held, heldlane) end
      replies = { text(code) }
      code = 'E'
    end
    local k = #out
    if replies then
      out[k + 1] = code .. #replies .. ' '
      for i = 1, #replies do out[k + 1 + i] = #replies[i] .. ':' .. replies[i] end
    else
      out[k + 1] = code .. '0 '
    end
    p = past
  end
  local reply = table.concat(out)
  call('SET', memory, number .. '\n' .. reply, 'PX', REMEMBERED)
  return reply
end
