-- read.lua: a user's subscriptions with the ids of their templates, at one moment.
-- KEYS[1]  the user's hash, see state.lua
-- ARGV[1]  the shard's prefix   [2] a template id, or "" for all
-- Returns  template id, value of field 2c, value of field 2c+1 (or ""), one after another.
-- Names in capitals are constants of Go: lua.go writes their values in their place.
local function pair(c)
  local v = redis.call('HMGET', KEYS[1], 2 * c, 2 * c + 1)
  return v[1], v[2] or ''
end

local out = {}
if ARGV[2] ~= '' then
  local c = redis.call('HGET', ARGV[1] .. KEY_CODES, ARGV[2])
  local near, far
  if c then near, far = pair(tonumber(c)) end
  if near then out = { ARGV[2], near, far } end
  return out
end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local c = tonumber(field) -- nil: a reservation
  if c and c % 2 == 0 then
    local id = redis.call('HGET', ARGV[1] .. KEY_IDS, c / 2)
    if id then
      local near, far = pair(c / 2)
      out[#out + 1] = id
      out[#out + 1] = near
      out[#out + 1] = far
    end
  end
end
return out
