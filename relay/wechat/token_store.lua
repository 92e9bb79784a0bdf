-- token_store.lua writes a fetched token, unless a later lease has written already (fence), or a token is put back that
-- was found bad meanwhile (restore).
-- KEYS     see token.lua
-- ARGV     owner, fence (0 = fetched without a lease while Redis was away), encrypted value, digest, life (ms), due in (ms),
--          restore 1|0, change to be noted when it is another token than the last one
-- Returns  see token.lua, state kept | late
local fence = tonumber(ARGV[2])
local late = num('n') > fence
if fence == 0 then late = usable() end
if ARGV[7] == '1' and (usable() or get('hd') == ARGV[4]) then late = true end
if get('lo') == ARGV[1] then redis.call('HDEL', key, 'lo', 'lu') end
if late then return token('late') end
if ARGV[7] == '0' and get('ld') ~= ARGV[4] then note(ARGV[8], 0) end
redis.call('HSET', key, 'v', ARGV[3], 'd', ARGV[4], 'ld', ARGV[4], 'x', now + ARGV[5], 'r', now + ARGV[6], 'f', now)
if fence > 0 then redis.call('HSET', key, 'n', fence) end
redis.call('HDEL', key, 'hp', 'bc', 'bm', 'bf', 'bk', 'bu', 'ba')
keep()
return token('kept')
