-- ticket_show.lua makes a ticket the openid's that shows it first.
-- KEYS[1]  the ticket
-- ARGV[1]  app; [2] openid; [3] serial of the binding to be made, kept by the first call
-- Returns  {partner, user, serial, '1' when the ticket was used, else '0'}; nil when there is no such ticket of this app, or another
--          openid has shown it
local v = redis.call('HMGET', KEYS[1], 'p', 'a', 'u', 'o', 's', 'd')
if not v[1] or v[2] ~= ARGV[1] or (v[4] and v[4] ~= ARGV[2]) then return false end
local serial = v[5] or ARGV[3]
redis.call('HSET', KEYS[1], 'o', ARGV[2], 's', serial)
return {v[1], v[3], serial, v[6] or '0'}
