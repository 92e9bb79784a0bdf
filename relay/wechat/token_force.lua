-- token_force.lua asks for one force_refresh: WeChat allows 20 a day, at least 30 s apart.
-- https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-access-token/api_getstableaccesstoken
-- KEYS     see token.lua
-- ARGV     spacing (ms), how many a day
-- Returns  1 (go) or 0
local k = 0
if num('gy') == day then k = num('gk') end
if k >= tonumber(ARGV[2]) or now - num('ga') < tonumber(ARGV[1]) then return 0 end
redis.call('HSET', key, 'ga', now, 'gy', day, 'gk', k + 1)
keep()
return 1
