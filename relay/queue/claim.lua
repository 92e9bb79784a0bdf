-- claim.lua is the second half of a turn (turn.lua): leases renewed, lapsed ones taken back, parked jobs that expired let go,
-- and jobs that are due taken in hand. Never more than a group asks for: a job in hand is one that may have been acted upon.
-- KEYS[1]  prefix of a shard; see commit.lua
-- ARGV     A[i..]: caller, number of the call, most bytes of the answer,
--          n, then n leases held: prefix, session, lease_ms
--          n, then n prefixes to look after (lapsed leases, expired parking)
--          n, then n groups: name, session, lease_ms, want, per_lane, n, then n (lane, how many more of it), n, then n prefixes
-- Returns  { now_us, sessions lost, what is left, jobs, what became of the verdicts }, the middle three flat:
--          lost: prefix, session
--          left: group, prefix, why (m more may be due, else the due_us of the next, or c and a lane that has more than was asked for)
--          jobs: prefix, id, due_us, token, then the fields m b n v a r s x f ('' = none), b with its shared body
-- The same call again (a lost reply, sent again) gives the jobs it gave: they are in r:<caller>, if still held.
local function claim(A, i, committed)
  local memory, seq = KEYS[1] .. 'r:' .. A[i], A[i + 1]
  call('DEL', memory .. '.') -- a write first: a replica fails here and not one day, a full Redis lets the script through
  local lost, left, jobs, given, space = {}, {}, {}, {}, tonumber(A[i + 2])
  local horizon, never = num(HORIZON), num(NEVER)

  local function hand(P, id, at, token, j)
    local k = #jobs
    jobs[k + 1], jobs[k + 2], jobs[k + 3], jobs[k + 4] = P, id, at, token
    for f = 1, 9 do jobs[k + 4 + f] = j[f] or '' end
    space = space - #(j[2] or '') - #(j[3] or '')
  end

  local function tell(G, P, why)
    local k = #left
    left[k + 1], left[k + 2], left[k + 3] = G.name, P, why
  end

  local function until_(lease) return string.format('%.0f', now_ms + lease) end

  local function read(P, id)
    local j = call('HMGET', P .. 'j:' .. id, 'm', 'b', 'n', 'v', 'a', 'r', 's', 'x', 'f')
    if j[9] then j[2] = j[2] .. (call('GET', P .. 'b:' .. j[9]) or '') end
    return j
  end

  -- lapse takes back what a session that fell silent had in hand.
  local function lapse(P, session)
    local held, n = call('HGETALL', P .. 'h'), 0
    for k = 1, #held, 2 do
      local id, holder = match(held[k], '^(%S+) ([^.]+)')
      if holder == session then
        if n == 128 then return end -- the rest next time
        n = n + 1
        call('HDEL', P .. 'h', held[k])
        local j = call('HMGET', P .. 'j:' .. id, 'm', 's', 'st')
        if j[2] then free(P, j[2]) end
        if j[1] and not j[3] then
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
      local J = call('HMGET', P .. 'j:' .. id, 'm', 's', 'st', 'p')
      if J[1] then expire(P, id, J) else call('ZREM', P .. 'w', id) end
    end
  end

  -- draw takes at most n due jobs of a lane; those whose serial is in another hand go to its line and do not count. It is
  -- written who holds them before they leave the lane, and that is taken back when anything after it fails.
  local function draw(P, G, lane, n)
    local q, got = P .. 'q:' .. lane, 0
    for _ = 1, 8 do
      local ready = call('ZRANGEBYSCORE', q, '-inf', HORIZON, 'WITHSCORES', 'LIMIT', 0, n - got)
      if #ready == 0 then break end
      local seen, found, serials, busy, holds, behind = {}, {}, {}, {}, {}, {}
      local size = space
      for k = 1, #ready, 2 do
        local j = read(P, ready[k])
        seen[#seen + 1], found[#found + 1] = ready[k], j
        if j[7] then serials[#serials + 1] = j[7] end
        size = size - #(j[2] or '') - #(j[3] or '')
        if size <= 0 then break end
      end
      if #serials > 0 then
        local by = call('HMGET', P .. 'y', unpack(serials))
        for k = 1, #serials do busy[serials[k]] = by[k] end
      end
      local mine, fields, took = {}, {}, {}
      for k = 1, #seen do
        local id, j = seen[k], found[k]
        local serial = j[7]
        if not j[1] then -- its hash has expired: nothing to do
        elseif serial and busy[serial] and busy[serial] ~= id then behind[#behind + 1] = k
        else
          if serial and not busy[serial] then
            busy[serial] = id
            mine[#mine + 1] = serial
            mine[#mine + 1] = id
          end
          took[#took + 1] = k
          fields[#fields + 1] = id .. ' ' .. G.token
          holds[#holds + 1] = fields[#fields]
          holds[#holds + 1] = lane
        end
      end
      if #holds > 0 then call('HSET', P .. 'h', unpack(holds)) end
      local good, why = pcall(function()
        if #holds > 0 then call('ZADD', P .. 'z', until_(G.lease), G.session) end
        if #mine > 0 then call('HSET', P .. 'y', unpack(mine)) end
        for _, k in ipairs(behind) do queue(P, lane, seen[k], found[k][7], ready[2 * k]) end
        call('ZREM', q, unpack(seen))
      end)
      if not good then
        if #fields > 0 then call('HDEL', P .. 'h', unpack(fields)) end
        for k = 1, #mine, 2 do call('HDEL', P .. 'y', mine[k]) end
        error(text(why), 0)
      end
      for _, k in ipairs(took) do
        hand(P, seen[k], ready[2 * k], G.token, found[k])
        given[#given + 1] = P .. ' ' .. seen[k]
      end
      got = got + #took
      if got >= n or space <= 0 then break end
    end
    return got
  end

  -- open lists the due lanes of a group of which more is wanted and that are not paused, the one served longest ago first; the
  -- others are told; nextdue is when the first of the others is due.
  local function open(P, G)
    local lanes, nextdue = {}, never
    for from = 0, 896, 128 do
      local heads = call('ZRANGE', P .. 'g:' .. G.name, from, from + 127, 'WITHSCORES')
      for k = 1, #heads, 2 do
        local lane, at = heads[k], num(heads[k + 1])
        if at > horizon then return lanes, math.min(at, nextdue) end
        if (G.free[lane] or G.perlane) <= 0 then tell(G, P, 'c' .. lane)
        else
          local till = paused(P, lane)
          if not till then lanes[#lanes + 1] = lane
          elseif till * 1000 < nextdue then nextdue = till * 1000 end
        end
      end
      if #heads < 256 or #lanes >= G.want then break end
    end
    return lanes, nextdue
  end

  -- take shares what a group wants among its due lanes. A lane that was served stands in its group with the time of that.
  -- Once this turn has taken all that is wanted (of all, or of a lane, and then met a shard with nothing but such lanes), the
  -- shards behind are not looked at: there may be more, and the next turn begins with another shard (DECISIONS.md 18).
  local function take(P, G)
    if G.want <= 0 or space <= 0 or G.spent then return tell(G, P, 'm') end
    local told = #left
    local lanes, nextdue = open(P, G)
    local n, more = #lanes, false
    if n == 0 and #left > told and G.drained then G.spent = true end
    if n > 0 then
      local share, drained, served = math.max(1, math.floor(G.want / n)), {}, {}
      for round = 1, 2 do
        for k = 1, n do
          local lane = lanes[k]
          local free = G.free[lane] or G.perlane
          local ask = math.min(G.want, free)
          if round == 1 then ask = math.min(ask, share) end
          if ask > 0 and space > 0 and not drained[k] then
            local got = draw(P, G, lane, ask)
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
            if G.free[lane] > 0 then more = true else tell(G, P, 'c' .. lane) end
          end
          heads[#heads + 1] = lane
        end
      end
      call('ZADD', P .. 'g:' .. G.name, unpack(heads))
    end
    if nextdue < never then tell(G, P, string.format('%.0f', nextdue)) end
    if more then tell(G, P, 'm') end
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
  if old and num(match(old, '^%d+')) > num(seq) then return redis.error_reply('LATE a later call of this caller came first') end
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
