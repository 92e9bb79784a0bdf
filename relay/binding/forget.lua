-- forget.lua empties the slot of an openid into a record of what must be removed elsewhere.
-- KEYS[1]  hash: what was found; KEYS[2] entries of partners; KEYS[3] identity; KEYS[4] sessions; KEYS[5] session_key;
--          KEYS[6], KEYS[7] legacy credentials and who holds them
-- ARGV[1]  how long what was found is kept (ms)
-- Returns  what was found now or the last time: {field, value, ...}. Fields: 'p' partner = its entry, 'n' = unionid, 's' name of a
--          session = '1'
local found = {}
local entries = redis.call('HGETALL', KEYS[2])
for i = 1, #entries, 2 do
  found[#found + 1] = 'p' .. entries[i]
  found[#found + 1] = entries[i + 1]
end
local unionid = redis.call('HGET', KEYS[3], 'u')
if unionid then
  found[#found + 1] = 'n'
  found[#found + 1] = unionid
end
for _, name in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
  found[#found + 1] = 's' .. name
  found[#found + 1] = '1'
end
if #found > 0 then
  if #entries > 0 then redis.call('DEL', KEYS[1]) end
  for i = 1, #found, 2 do redis.call('HSET', KEYS[1], found[i], found[i + 1]) end
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7])
return redis.call('HGETALL', KEYS[1])
