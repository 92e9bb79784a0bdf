-- depths.lua counts the jobs of one shard.
-- KEYS[1]  prefix of the shard
-- ARGV     none
-- Returns  { now_us, then flat: lane, state, count, due_us of the oldest ready one or '' }
local P, out, lanes, sums = KEYS[1], { NOW }, {}, {}
local function tell(lane, state, n, at)
  n = tonumber(n)
  if n == 0 then return end
  local k = #out
  out[k + 1], out[k + 2], out[k + 3], out[k + 4] = lane, state, n, at or ''
end
for _, group in ipairs(call('SMEMBERS', P .. 'gs')) do
  for _, lane in ipairs(call('ZRANGE', P .. 'g:' .. group, 0, -1)) do
    local q = P .. 'q:' .. lane
    local ready = call('ZCOUNT', q, '-inf', HORIZON)
    if ready > 0 then tell(lane, 'ready', ready, call('ZRANGE', q, 0, 0, 'WITHSCORES')[2]) end
    tell(lane, 'later', call('ZCARD', q) - ready)
    tell(lane, 'buried', call('ZCOUNT', P .. 'd:' .. lane, '(' .. NOW_MS, '+inf'))
  end
end
local u = call('HGETALL', P .. 'u')
for k = 1, #u, 2 do
  tell(sub(u[k], 2), sub(u[k], 1, 1) == 'p' and 'parked' or 'ready', u[k + 1])
end
local h = call('HVALS', P .. 'h')
for _, lane in ipairs(h) do
  if not sums[lane] then lanes[#lanes + 1] = lane end
  sums[lane] = (sums[lane] or 0) + 1
end
for _, lane in ipairs(lanes) do tell(lane, 'leased', sums[lane]) end
return out
