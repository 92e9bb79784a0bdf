-- note.lua notes who an openid is: when it was first seen, its unionid, its session_key, a session.
-- KEYS[1]  hash: f first seen (ms), u unionid, w until when (ms) a login has the news that this user is new
-- KEYS[2]  string: the sealed session_key; KEYS[3] sorted set: names of sessions by their end (ms)
-- ARGV[1]  unionid or ''; [2] sealed session_key or ''; [3] how long the key lives (ms); [4] name of a session or '' (no login);
--          [5] how long a session lives (ms); [6] how many sessions are kept; [7] how long a login has the news (ms)
-- Returns  {'1' when the user is new, unionid before, unionid now}. Of several logins of a new user one is told so; when it does not
--          confirm (HDEL w) within ARGV[7], the next login is.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local new = redis.call('HSETNX', KEYS[1], 'f', now) == 1
if ARGV[4] ~= '' then
  local news = tonumber(redis.call('HGET', KEYS[1], 'w') or '')
  new = new or news and news <= now
  if new then redis.call('HSET', KEYS[1], 'w', string.format('%.0f', now + ARGV[7])) end
end
local before = redis.call('HGET', KEYS[1], 'u') or ''
local unionid = before
if ARGV[1] ~= '' and ARGV[1] ~= before then
  unionid = ARGV[1]
  redis.call('HSET', KEYS[1], 'u', unionid)
end
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
if ARGV[4] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  redis.call('ZADD', KEYS[3], now + ARGV[5], ARGV[4])
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - ARGV[6])
  redis.call('PEXPIRE', KEYS[3], ARGV[5])
end
return {new and '1' or '0', before, unionid}
