-- turn.lua is the end of the script that claims and commits: verdicts in, jobs out. What a verdict frees can be claimed in
-- the same call (DECISIONS.md 20).
-- KEYS[1]  prefix of a shard; see commit.lua
-- ARGV     where the claim begins (0 = there is none), then what commit.lua reads, unless the claim begins right here, then
--          what claim.lua reads
-- Returns  what claim.lua returns, or what commit.lua does
local at, committed = tonumber(ARGV[1]), ''
if at ~= 2 then committed = commit(ARGV, 2, at > 0 and at - 1 or #ARGV) end
if at == 0 or committed.err then return committed end
return claim(ARGV, at, committed)
