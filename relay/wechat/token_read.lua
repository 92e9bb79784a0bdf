-- token_read.lua reads the state of an app's token and its latest changes, without taking anything.
-- KEYS     see token.lua
-- Returns  see token.lua, state read; then refusal code (0 = none), its message, asked again in (ms), healings today,
--          forced refreshes today, and the changes
local heals, forced = 0, 0
if num('hy') == day then heals = num('hk') end
if num('gy') == day then forced = num('gk') end
local answer = token('read', { num('bc'), get('bm'), math.max(num('bu') - now, 0), heals, forced })
for _, change in ipairs(redis.call('LRANGE', KEYS[2], 0, LOG_LENGTH - 1)) do answer[#answer + 1] = change end
return answer
