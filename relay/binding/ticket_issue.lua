-- ticket_issue.lua makes a ticket.
-- KEYS[1]  hash: p partner, a app, u user; ticket_show.lua adds o and s, ticket_use.lua d
-- ARGV[1]  how long it lives (ms); [2] partner; [3] app; [4] user
-- Returns  when it expires (ms)
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], 'p', ARGV[2], 'a', ARGV[3], 'u', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1])
