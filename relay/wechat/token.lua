-- token.lua stands before the scripts of an app's token and has what they share.
-- KEYS[1]  wx:{t:<appid>}, a hash with all that replicas share about one app's token. Times are Redis' own, in ms:
--            v d x r f n        the token: encrypted value, digest, expiry, due for renewal, fetched at, fence it came with
--            lo lu ln           the lease: owner, until, last fence given
--            bc bm bf bk bu ba  last refusal of the token endpoint: code, message, config fingerprint, count, not before,
--                               code alerted
--            hd ha hp hy hk     healing: digest found bad, when, 1 = not yet replaced, day and count of that day
--            ga gy gk           force_refresh: last, day and count of that day
-- KEYS[2]  wx:{t:<appid>}:log, the latest changes of the token, newest first: "<at ms> <life left ms> <JSON>"
-- Constants (from script.go): HASH_KEPT LOG_KEPT LOG_LENGTH
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local day = math.floor((now / 1000 + 28800) / 86400) -- Beijing's
local key = KEYS[1]

local function get(field) return redis.call('HGET', key, field) or '' end

local function num(field) return tonumber(redis.call('HGET', key, field) or '0') end

local function usable() return num('x') > now end

-- token is the head of every answer: state, life left, due in, age, encrypted value ('' = none usable), digest, fence.
local function token(state, more)
  local x = num('x')
  local answer = { state, x - now, num('r') - now, now - num('f'), get('v'), get('d'), num('n') }
  if x <= now then answer[5], answer[6] = '', '' end
  for _, m in ipairs(more or {}) do answer[#answer + 1] = m end
  return answer
end

local function keep() redis.call('PEXPIRE', key, HASH_KEPT) end

-- note writes one change; an empty one is none.
local function note(change, left)
  if change == '' then return end
  redis.call('LPUSH', KEYS[2], string.format('%.0f %.0f %s', now, left, change))
  redis.call('LTRIM', KEYS[2], 0, LOG_LENGTH - 1)
  redis.call('PEXPIRE', KEYS[2], LOG_KEPT)
end
