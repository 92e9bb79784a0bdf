-- ticket_use.lua marks a ticket as used; it stays until it expires, so that a repeat of its use can be answered.
-- KEYS[1]  the ticket
-- Returns  1 when it is marked, 0 when there is none (any more)
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'd', '1')
return 1
