-- token_report.lua forgets the token, but only when it is the one reported (compare and delete), and no more often than
-- the spacing: one value is healed once in that time, whoever reports it.
-- KEYS     see token.lua
-- ARGV     digest, spacing (ms), 1 = spacing holds between different values too (each healing costs a token of a small
--          quota), healings a day before slow spacing, slow spacing (ms), change to be noted when it is forgotten
-- Returns  see token.lua, state newer | gone | tried | healing; then healings today
if get('v') == '' or not usable() then return token('gone', { 0 }) end
if get('d') ~= ARGV[1] then return token('newer', { 0 }) end
local k = 0
if num('hy') == day then k = num('hk') end
local since = now - num('ha')
local spacing = tonumber(ARGV[2])
if ARGV[3] == '1' and k >= tonumber(ARGV[4]) then spacing = tonumber(ARGV[5]) end
if (get('hd') == ARGV[1] or ARGV[3] == '1') and since < spacing then return token('tried', { k }) end
local answer = token('healing', { k + 1 })
note(ARGV[6], num('x') - now)
redis.call('HSET', key, 'hd', ARGV[1], 'ha', now, 'hp', '1', 'hy', day, 'hk', k + 1)
redis.call('HDEL', key, 'v', 'd', 'x', 'r', 'f')
keep()
return answer
