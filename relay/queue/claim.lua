-- claim.lua is the second half of a turn (turn.lua): leases renewed, lapsed ones taken back, parked jobs that expired let go, and jobs that
-- are due taken in hand. Never more than a group has free slots: a job in hand is one that may have been acted upon (R-2).
-- KEYS[1]  prefix of a shard; see commit.lua
-- A[i..]   caller, number of the call, most bytes of the answer,
--          n, then n leases held: prefix, session, lease_ms
--          n, then n prefixes to look after (lapsed leases, expired parking)
--          n, then n groups: name, session, lease_ms, want, per_lane, n, then n (lane, slots free in it), n, then n prefixes
-- Returns  { now_us, sessions lost, what is left, jobs, what became of the verdicts }, the middle three flat:
--          lost: prefix, session
--          left: group, prefix, why (m more is due, c more is due in lanes without a free slot, else the due_us of the next)
--          jobs: prefix, id, due_us, token, then the fields m b n v a r s x ('' = none)
-- The same call again (a lost reply, sent again) gives the jobs it gave: they are in r:<caller>, if still held.
local function claim(A, i, committed)
  local memory, seq = KEYS[1] .. 'r:' .. A[i], A[i + 1]
  call('DEL', memory .. '.') -- a write first: a replica fails here and not one day, a full Redis lets the script through
  local lost, left, jobs, given, room = {}, {}, {}, {}, tonumber(A[i + 2])
  local horizon, never = num(HORIZON), num(NEVER)

  local function hand(P, id, at, token, j)
    local k = #jobs
    jobs[k + 1], jobs[k + 2], jobs[k + 3], jobs[k + 4] = P, id, at, token
    for f = 1, 8 do jobs[k + 4 + f] = j[f] or '' end
    room = room - #(j[2] or '') - #(j[3] or '')
  end

  local function tell(G, P, why)
    local k = #left
    left[k + 1], left[k + 2], left[k + 3] = G.name, P, why
  end

  local function until_(lease) return string.format('%.0f', now_ms + lease) end

  local function read(P, id) return call('HMGET', P .. 'j:' .. id, 'm', 'b', 'n', 'v', 'a', 'r', 's', 'x') end

  -- lapse takes back what a session that fell silent had in hand.
  local function lapse(P, session)
    local held, n = call('HGETALL', P .. 'h'), 0
    for k = 1, #held, 2 do
      local id, holder = match(held[k], '^(%S+) ([^.]+)')
      if holder == session then
        if n == 128 then return end -- the rest next time
        n = n + 1
        call('HDEL', P .. 'h', held[k])
        local j = call('HMGET', P .. 'j:' .. id, 'm', 's')
        if j[2] then free(P, j[2]) end
        if j[1] then
          call('HINCRBY', P .. 'j:' .. id, 'r', 1)
          wait(P, held[k + 1], id, NOW)
        end
      end
    end
    call('ZREM', P .. 'z', session)
  end

  local function lookafter(P)
    for _, session in ipairs(call('ZRANGEBYSCORE', P .. 'z', '-inf', NOW_MS, 'LIMIT', 0, 8)) do lapse(P, session) end
    for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'w', '-inf', NOW_MS, 'LIMIT', 0, 64)) do
      local j = call('HMGET', P .. 'j:' .. id, 'm', 'p')
      if j[1] then
        local lane = match(j[1], '^%d+\n([^\n]*)')
        leave(P, lane, id, false, 'parked', j[2])
        call('HDEL', P .. 'j:' .. id, 'st', 'p')
        wait(P, lane, id, NOW)
      else
        call('ZREM', P .. 'w', id)
      end
    end
  end

  -- draw takes at most n due jobs of a lane; those whose serial is in another hand go to its line and do not count.
  local function draw(P, G, lane, n, holds)
    local q, got = P .. 'q:' .. lane, 0
    for _ = 1, 8 do
      local due = call('ZRANGEBYSCORE', q, '-inf', HORIZON, 'WITHSCORES', 'LIMIT', 0, n - got)
      if #due == 0 then break end
      local taken, found, serials, held, held_by = {}, {}, {}, {}, {}
      local size = room
      for k = 1, #due, 2 do
        local j = read(P, due[k])
        taken[#taken + 1], found[#found + 1] = due[k], j
        if j[7] then serials[#serials + 1] = j[7] end
        size = size - #(j[2] or '') - #(j[3] or '')
        if size <= 0 then break end
      end
      if #serials > 0 then
        local by = call('HMGET', P .. 'y', unpack(serials))
        for k = 1, #serials do held_by[serials[k]] = by[k] end
      end
      for k = 1, #taken do
        local id, j = taken[k], found[k]
        local serial = j[7]
        if not j[1] then -- its hash was deleted by hand: nothing to do
        elseif serial and held_by[serial] and held_by[serial] ~= id then
          queue(P, lane, id, serial, due[2 * k])
        else
          if serial then
            held_by[serial] = id
            held[#held + 1] = serial
            held[#held + 1] = id
          end
          hand(P, id, due[2 * k], G.token, j)
          holds[#holds + 1] = id .. ' ' .. G.token
          holds[#holds + 1] = lane
          given[#given + 1] = P .. ' ' .. id
          got = got + 1
        end
      end
      if #held > 0 then call('HSET', P .. 'y', unpack(held)) end
      call('ZREM', q, unpack(taken))
      if got >= n or room <= 0 then break end
    end
    return got
  end

  -- open lists the due lanes of a group that have a free slot and are not paused, the one served longest ago first;
  -- capped tells that some have no slot, nextdue when the first of the others is due.
  local function open(P, G)
    local lanes, capped, paused = {}, false, nil
    for from = 0, 896, 128 do
      local heads = call('ZRANGE', P .. 'g:' .. G.name, from, from + 127, 'WITHSCORES')
      for k = 1, #heads, 2 do
        local lane, at = heads[k], num(heads[k + 1])
        if at > horizon then return lanes, capped, at end
        if (G.free[lane] or G.perlane) <= 0 then capped = true
        else
          if not paused then
            paused = {}
            local p = call('HGETALL', P .. 'p')
            for m = 1, #p, 2 do if tonumber(p[m + 1]) > now_ms then paused[p[m]] = true end end
          end
          if not paused[lane] then lanes[#lanes + 1] = lane end
        end
      end
      if #heads < 256 or #lanes >= G.want then break end
    end
    return lanes, capped, never
  end

  -- take shares what a group wants among its due lanes. A lane that was served stands in its group with the time of that.
  -- Once this turn has taken the last slot (of all, or of a lane, and then met a shard with nothing but such lanes), the shards
  -- behind are not looked at: there may be more, and the next turn begins with another shard (DECISIONS.md 18).
  local function take(P, G)
    if G.want <= 0 or room <= 0 or G.spent then return tell(G, P, 'm') end
    local lanes, capped, nextdue = open(P, G)
    local n, more = #lanes, false
    if n == 0 and capped and G.drained then G.spent = true end
    if n > 0 then
      local holds, share, drained, served = {}, math.max(1, math.floor(G.want / n)), {}, {}
      for round = 1, 2 do
        for k = 1, n do
          local lane = lanes[k]
          local free = G.free[lane] or G.perlane
          local ask = math.min(G.want, free)
          if round == 1 then ask = math.min(ask, share) end
          if ask > 0 and room > 0 and not drained[k] then
            local got = draw(P, G, lane, ask, holds)
            G.want, G.free[lane], served[k] = G.want - got, free - got, true
            drained[k] = got < ask
            if free <= got then G.drained = true end
          end
        end
        if G.want <= 0 then break end
      end
      local heads = {}
      for k = 1, n do
        local lane = lanes[k]
        if not served[k] then more = true
        else
          local head = call('ZRANGE', P .. 'q:' .. lane, 0, 0, 'WITHSCORES')
          local at = num(head[2] or NEVER)
          if at > horizon then
            heads[#heads + 1] = head[2] or NEVER
            if at < nextdue then nextdue = at end
          else
            heads[#heads + 1] = NOW
            if G.free[lane] > 0 then more = true else capped = true end
          end
          heads[#heads + 1] = lane
        end
      end
      call('ZADD', P .. 'g:' .. G.name, unpack(heads))
      if #holds > 0 then
        call('HSET', P .. 'h', unpack(holds))
        call('ZADD', P .. 'z', until_(G.lease), G.session)
      end
    end
    if nextdue < never then tell(G, P, string.format('%.0f', nextdue)) end
    if more then tell(G, P, 'm') elseif capped then tell(G, P, 'c') end
  end

  i = i + 3
  local function arg()
    i = i + 1
    return A[i - 1]
  end
  local function several(f)
    local t = {}
    for k = 1, tonumber(arg()) do t[k] = f() end
    return t
  end

  local beats = several(function() return { arg(), arg(), tonumber(arg()) } end)
  local looked = several(arg)
  local groups = several(function()
    local G = { name = arg(), session = arg(), lease = tonumber(arg()), want = tonumber(arg()), perlane = tonumber(arg()), free = {} }
    several(function()
      local lane = arg()
      G.free[lane] = tonumber(arg())
      return true
    end)
    G.prefixes, G.token = several(arg), G.session .. '.' .. seq
    return G
  end)

  for _, v in ipairs(beats) do
    if call('ZSCORE', v[1] .. 'z', v[2]) then
      call('ZADD', v[1] .. 'z', until_(v[3]), v[2])
    else
      local k = #lost
      lost[k + 1], lost[k + 2] = v[1], v[2]
    end
  end

  local old = call('GET', memory)
  if old and sub(old, 1, #seq + 1) == seq .. '\n' then
    for _, G in ipairs(groups) do
      for P, id in string.gmatch(sub(old, #seq + 2), '(%S+) (%S+)\n') do
        if call('HEXISTS', P .. 'h', id .. ' ' .. G.token) == 1 then
          hand(P, id, NOW, G.token, read(P, id))
          call('ZADD', P .. 'z', until_(G.lease), G.session)
        end
      end
    end
    return { NOW, lost, left, jobs, committed }
  end

  for _, P in ipairs(looked) do lookafter(P) end
  for _, G in ipairs(groups) do
    for _, P in ipairs(G.prefixes) do take(P, G) end
  end
  if #given > 0 then call('SET', memory, seq .. '\n' .. table.concat(given, '\n') .. '\n', 'PX', 86400000) end
  return { NOW, lost, left, jobs, committed }
end
