-- audience_put.lua makes a loaded set of members an audience's own: readers see the old members before and the new ones after.
-- KEYS[1]  hash: name -> header "app\ntemplate\nkind\ntotal\nupdated ms\ngeneration" (kind: u users, o openids)
-- ARGV[1]  prefix of the partner's keys; [2] name; [3] app; [4] template or ''; [5] kind; [6] generation of the loaded members;
--          [7] generation it must replace, '' = any; [8] how many audiences a partner may have; [9] how many members one may have
-- Returns  the new header, or 'many' (audiences), 'large' (members), 'moved' (another generation is there now)
local was = redis.call('HGET', KEYS[1], ARGV[2])
local old = was and was:match('([^\n]*)$')
if ARGV[7] ~= '' and old ~= ARGV[7] then return 'moved' end
if not was and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[8]) then return 'many' end
local members = ARGV[1] .. 'm' .. ARGV[6]
local total = redis.call('ZCARD', members)
if total > tonumber(ARGV[9]) then return 'large' end
local t = redis.call('TIME')
local header = table.concat({ARGV[3], ARGV[4], ARGV[5], total, string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)), ARGV[6]}, '\n')
redis.call('PERSIST', members)
redis.call('HSET', KEYS[1], ARGV[2], header)
if old then redis.call('UNLINK', ARGV[1] .. 'm' .. old) end
return header
