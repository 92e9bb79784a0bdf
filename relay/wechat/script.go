package wechat

import "github.com/redis/go-redis/v9"

// All that replicas share about one app's token is one hash, wx:{t:<appid>}, so that every script touches one key of
// one slot. It expires two days after its last change. Times are Redis' own, in milliseconds.
//
//	v d x r f n   the token: sealed value, digest, expiry, when it is due for renewal, fetched at, fence it came with
//	lo lu ln      the lease: owner, until, last fence given
//	bc bm bf bk bu ba   last refusal of the token endpoint: code, message, config fingerprint, count, not before, code alerted
//	hd ha hp hy hk      healing: digest found bad, when, 1 = not yet replaced, day and count of that day
//	ga gy gk      force_refresh: last, day and count of that day
//
// Explicit times instead of key expiry: one hash then holds everything, and a script sees all of it at once.

const scriptHead = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local day = math.floor((now / 1000 + 28800) / 86400)
local key = KEYS[1]
local function get(f) return redis.call('HGET', key, f) or '' end
local function num(f) return tonumber(redis.call('HGET', key, f) or '0') end
local function token(state, extra)
  local x = num('x')
  local reply = {state, x - now, num('r') - now, now - num('f'), get('v'), get('d'), num('n')}
  if x <= now then reply[5], reply[6] = '', '' end
  for _, e in ipairs(extra or {}) do reply[#reply + 1] = e end
  return reply
end
local function keep() redis.call('PEXPIRE', key, 172800000) end
`

// leaseScript looks at the token and takes the lease when it is due, in one step: certmagic's "look again after the
// lock" without the gap.
// KEYS: the app's hash. ARGV: owner, lease ms, config fingerprint, digest of a token that will not do ("" = none).
// Returns state, left, due in, age, sealed token ("" = none usable), digest, fence of the token, then
// fresh: -; busy: -; waiting: pause ms, code, message; yours: fence, digest found bad and not replaced yet ("").
var leaseScript = redis.NewScript(scriptHead + `
local usable = num('x') > now and get('d') ~= ARGV[4]
if usable and num('r') > now then return token('fresh') end
local bu = num('bu')
if bu > now and get('bf') == ARGV[3] then
  return token('waiting', {bu - now, num('bc'), get('bm')})
end
if num('lu') > now and get('lo') ~= ARGV[1] then return token('busy') end
local fence = redis.call('HINCRBY', key, 'ln', 1)
redis.call('HSET', key, 'lo', ARGV[1], 'lu', now + ARGV[2])
keep()
return token('yours', {fence, get('hp') == '1' and get('hd') or ''})
`)

// storeScript writes a fetched token, unless a later lease has written already (fence), or the token is put back by
// one who still had it (restore) and it was found bad meanwhile.
// KEYS: the app's hash. ARGV: owner, fence (0 = fetched without a lease, Redis was away), sealed, digest, life ms,
// due in ms, restore 1|0.
// Returns state (kept | late), then as leaseScript.
var storeScript = redis.NewScript(scriptHead + `
local fence = tonumber(ARGV[2])
local usable = num('x') > now
local late = num('n') > fence
if fence == 0 then late = usable end
if ARGV[7] == '1' and (usable or get('hd') == ARGV[4]) then late = true end
if get('lo') == ARGV[1] then redis.call('HDEL', key, 'lo', 'lu') end
if late then return token('late') end
redis.call('HSET', key, 'v', ARGV[3], 'd', ARGV[4], 'x', now + ARGV[5], 'r', now + ARGV[6], 'f', now)
if fence > 0 then redis.call('HSET', key, 'n', fence) end
redis.call('HDEL', key, 'hp', 'bc', 'bm', 'bf', 'bk', 'bu', 'ba')
keep()
return token('kept')
`)

// failScript gives the lease back after a failure and says when to ask again: the first pause doubled per failure in a row of
// the same code, at most cap.
// KEYS: the app's hash. ARGV: owner, config fingerprint, code, message, first pause ms, cap ms, alert from the n-th on.
// Returns pause ms, 1 when somebody should be told now (once per code until a token is got).
var failScript = redis.NewScript(scriptHead + `
local n = 1
if get('bc') == ARGV[3] and get('bf') == ARGV[2] then n = num('bk') + 1 end
if get('bf') ~= ARGV[2] then redis.call('HDEL', key, 'ba') end
local pause = tonumber(ARGV[5])
for _ = 2, math.min(n, 20) do pause = math.min(pause * 2, tonumber(ARGV[6])) end
redis.call('HSET', key, 'bc', ARGV[3], 'bm', ARGV[4], 'bf', ARGV[2], 'bk', n, 'bu', now + pause)
if get('lo') == ARGV[1] then redis.call('HDEL', key, 'lo', 'lu') end
local tell = 0
if n >= tonumber(ARGV[7]) and get('ba') ~= ARGV[3] then
  redis.call('HSET', key, 'ba', ARGV[3])
  tell = 1
end
keep()
return {pause, tell}
`)

// badScript forgets the token, but only when it is the one reported (compare and delete), and not more often than
// every spacing: one value is healed once in 30 s, whoever reports it.
// KEYS: the app's hash. ARGV: digest, spacing ms, 1 = spacing holds between different values too (each healing costs
// a token of a small quota), healings per day before slow spacing, slow spacing ms.
// Returns state (newer | gone | tried | healing), then as leaseScript, then healings today.
var badScript = redis.NewScript(scriptHead + `
if get('v') == '' or num('x') <= now then return token('gone', {0}) end
if get('d') ~= ARGV[1] then return token('newer', {0}) end
local k = 0
if num('hy') == day then k = num('hk') end
local since = now - num('ha')
local spacing = tonumber(ARGV[2])
if ARGV[3] == '1' and k >= tonumber(ARGV[4]) then spacing = tonumber(ARGV[5]) end
if (get('hd') == ARGV[1] or ARGV[3] == '1') and since < spacing then return token('tried', {k}) end
local reply = token('healing', {k + 1})
redis.call('HSET', key, 'hd', ARGV[1], 'ha', now, 'hp', '1', 'hy', day, 'hk', k + 1)
redis.call('HDEL', key, 'v', 'd', 'x', 'r', 'f')
keep()
return reply
`)

// forceScript asks for one force_refresh: WeChat allows 20 a day (Beijing's), at least 30 s apart.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-access-token/api_getstableaccesstoken
// KEYS: the app's hash. ARGV: spacing ms, per day.
// Returns 1 (go) or 0.
var forceScript = redis.NewScript(scriptHead + `
local k = 0
if num('gy') == day then k = num('gk') end
if k >= tonumber(ARGV[2]) or now - num('ga') < tonumber(ARGV[1]) then return 0 end
redis.call('HSET', key, 'ga', now, 'gy', day, 'gk', k + 1)
keep()
return 1
`)
