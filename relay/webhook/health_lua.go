package webhook

import (
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// The states as Redis has them; healthy is the absence of one.
const (
	stateOpen = "open" // benched
	stateHalf = "half" // probing
	stateOff  = "off"  // disabled
)

// A health key is a hash:
//
//	st  state                     si  since (ms)
//	fl  failures in a row         wn  window: slot,good,bad;... (a slot is 1/10 of the window)
//	un  benched until (ms)        nx  how long the next bench is (ms)
//	ps  probes passed in a row    pb  a probe is under way until (ms)
//
// Every script returns {state, wait ms, failures in a row, transition, 1 if the caller is the probe, since ms, now ms}.
const healthHead = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local v = redis.call('HMGET', KEYS[1], 'st', 'fl', 'wn', 'un', 'nx', 'ps', 'pb', 'si')
local st, fl, wn = v[1] or '', tonumber(v[2] or 0), v[3] or ''
local un, nx, ps, pb, si = tonumber(v[4] or 0), tonumber(v[5] or 0), tonumber(v[6] or 0), tonumber(v[7] or 0), tonumber(v[8] or 0)
local function say(changed, probe)
  local wait = 0
  if st == 'open' then wait = math.max(un - now, 0) end
  if st == 'half' and pb > now and probe == 0 then wait = math.min(pb - now, $probeWait) end
  return {st, wait, fl, changed, probe, si, now}
end
local function write(...)
  redis.call('HSET', KEYS[1], ...)
  redis.call('PEXPIRE', KEYS[1], $kept)
end
`

// noteScript: KEYS[1] health; ARGV[1] successes, then ARGV[2] failures (0 or 1), ARGV[3] 1 if gone.
var noteScript = healthLua(`
local good, bad = tonumber(ARGV[1]), tonumber(ARGV[2])
if st == 'off' then return say('', 0) end
if ARGV[3] == '1' then
  redis.call('DEL', KEYS[1])
  st, si = 'off', now
  write('st', st, 'si', si)
  return say('disabled', 0)
end
if st == 'open' then return say('', 0) end -- was under way when it opened
if st == 'half' then
  if bad > 0 then
    st, fl, nx = 'open', fl + 1, math.min(nx * 2, $longest)
    un = now + nx
    write('st', st, 'fl', fl, 'un', un, 'nx', nx, 'ps', 0, 'pb', 0)
    return say('', 0)
  end
  ps, pb, fl = ps + 1, 0, 0
  if ps < $probes then
    write('ps', ps, 'pb', 0, 'fl', 0)
    return say('', 0)
  end
  redis.call('DEL', KEYS[1])
  st, si = '', 0
  return say('recovered', 0)
end
if good > 0 then fl = 0 end
fl = fl + bad
local slot, kept, g, b, seen = math.floor(now / $slot), {}, 0, 0, false
for s, x, y in wn:gmatch('(%d+),(%d+),(%d+)') do
  s, x, y = tonumber(s), tonumber(x), tonumber(y)
  if s == slot then x, y, seen = x + good, y + bad, true end
  if s > slot - $slots then
    kept[#kept + 1] = string.format('%d,%d,%d', s, x, y)
    g, b = g + x, b + y
  end
end
if not seen then
  kept[#kept + 1] = string.format('%d,%d,%d', slot, good, bad)
  g, b = g + good, b + bad
end
if bad > 0 and (fl >= $after or (g + b >= $outof and b * 100 >= (g + b) * $share)) then
  st, si, nx = 'open', now, $first
  un = now + nx
  write('st', st, 'si', si, 'fl', fl, 'un', un, 'nx', nx, 'ps', 0, 'pb', 0, 'wn', '')
  return say('benched', 0)
end
write('fl', fl, 'wn', table.concat(kept, ';'))
return say('', 0)`)

// gateScript: KEYS[1] health.
var gateScript = healthLua(`
if st == 'open' and un <= now or st == 'half' and pb <= now then
  if st == 'open' then ps = 0 end
  st, pb = 'half', now + $probeTime
  write('st', st, 'pb', pb, 'ps', ps)
  return say('', 1)
end
return say('', 0)`)

// readScript: KEYS[1] health.
var readScript = healthLua(`return say('', 0)`)

func healthLua(body string) *redis.Script {
	ms := func(d int64) string { return strconv.FormatInt(d, 10) }
	figures := strings.NewReplacer(
		"$probeWait", ms(probeWait.Milliseconds()), "$probeTime", ms(probeTime.Milliseconds()), "$probes", ms(probesToPass),
		"$kept", ms(healthKept.Milliseconds()), "$longest", ms(benchLongest.Milliseconds()), "$first", ms(benchFirst.Milliseconds()),
		"$slots", ms(windowSlots), "$slot", ms(benchWindow.Milliseconds()/windowSlots),
		"$after", ms(benchAfter), "$outof", ms(benchOutOf), "$share", ms(benchShare))
	return redis.NewScript(figures.Replace(healthHead + body))
}
