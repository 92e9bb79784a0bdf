-- health.lua stands before the scripts of an endpoint's circuit breaker: it reads the state and has what they share.
-- KEYS[1]  hash of one endpoint, expires KEPT ms after its last change:
--            st  state: open (benched) | half (probing) | off (disabled); absent = healthy
--            si  since (ms)                   fl  failures in a row
--            wn  window: "slot,good,bad;..."  un  benched until (ms)
--            nx  length of the next bench     ps  probes passed in a row
--            pb  a probe is in flight until (ms)
--            wy  why it is benched or disabled
--            pl  what becomes of the deliveries held while it was disabled (Plan); it outlives the healthy state
-- Returns  {state, wait ms, failures in a row, transition, 1 if the caller is the probe, since ms, now ms, why, plan}
-- Constants (from health.go): PROBE_WAIT PROBE_TIME PROBES KEPT FIRST LONGEST SLOT SLOTS AFTER OUT_OF SHARE
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local v = redis.call('HMGET', KEYS[1], 'st', 'fl', 'wn', 'un', 'nx', 'ps', 'pb', 'si', 'wy', 'pl')
local st, fl, wn = v[1] or '', tonumber(v[2] or 0), v[3] or ''
local un, nx, ps, pb, si = tonumber(v[4] or 0), tonumber(v[5] or 0), tonumber(v[6] or 0), tonumber(v[7] or 0), tonumber(v[8] or 0)
local wy, pl = v[9] or '', v[10] or ''

local function answer(transition, probe)
  local wait = 0
  if st == 'open' then wait = math.max(un - now, 0) end
  if st == 'half' and pb > now and probe == 0 then wait = math.min(pb - now, PROBE_WAIT) end
  return { st, wait, fl, transition, probe, si, now, wy, pl }
end

local function write(...)
  redis.call('HSET', KEYS[1], ...)
  redis.call('PEXPIRE', KEYS[1], KEPT)
end

-- close forgets all but the plan.
local function close()
  redis.call('HDEL', KEYS[1], 'st', 'fl', 'wn', 'un', 'nx', 'ps', 'pb', 'si', 'wy')
  st, si, fl, wy = '', 0, 0, ''
end

-- off disables the endpoint; an older plan no longer holds.
local function off(why)
  redis.call('DEL', KEYS[1])
  st, si, fl, wy, pl = 'off', now, 0, why, ''
  write('st', st, 'si', si, 'wy', wy)
end
