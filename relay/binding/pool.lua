-- pool.lua keeps the pool of legacy credentials (form_id, prepay_id) of one openid.
-- KEYS[1]  hash: name -> "kind,left,total,expires ms,serial,sealed id". A used one stays until it expires, so that it is known. An
--          entry without a sealed id has the id itself as its name.
-- KEYS[2]  hash: holder (message id) -> name. Both live as long as the youngest credential.
-- ARGV[1]  operation, and what follows it. Returns is told beside each:
--          add   name, kind, uses, life (ms), how many are kept, sealed id   1 when it was not there, else 0
--          take  holder, kind or ''   {name, kind, left, expires ms, sealed id}, or nil when there is none. A holder takes the same again
--          any   1 when a new holder would find one, else 0
--          back  holder, '1' to return the use or '0' to drop the credential   1 when the holder held one, else 0
-- Returns  what the operation says above
local call = redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local all, count, last = {}, 0, 0
local raw = call('HGETALL', KEYS[1])
for i = 1, #raw, 2 do
  local kind, left, total, expires, serial, id = raw[i + 1]:match('^([%w_]+),(%d+),(%d+),(%d+),(%d+),?(.*)$')
  if tonumber(expires) <= now then
    call('HDEL', KEYS[1], raw[i])
  else
    all[raw[i]] = {kind = kind, left = tonumber(left), total = tonumber(total), expires = tonumber(expires), serial = tonumber(serial), id = id}
    count, last = count + 1, math.max(last, tonumber(serial))
  end
end
local held = call('HGETALL', KEYS[2])
for i = 1, #held, 2 do
  if not all[held[i + 1]] then call('HDEL', KEYS[2], held[i]) end
end

local function write(name, c)
  call('HSET', KEYS[1], name, string.format('%s,%d,%d,%.0f,%d,', c.kind, c.left, c.total, c.expires, c.serial) .. c.id)
end

local function oldest(fits)
  local best
  for name, c in pairs(all) do
    if fits(c) and (not best or c.serial < all[best].serial) then best = name end
  end
  return best
end

local function add(name, kind, uses, life, most, id)
  if all[name] then return 0 end
  if count >= tonumber(most) then call('HDEL', KEYS[1], oldest(function() return true end)) end
  write(name, {kind = kind, left = tonumber(uses), total = tonumber(uses), expires = now + life, serial = last + 1, id = id})
  call('PEXPIRE', KEYS[1], life)
  call('PEXPIRE', KEYS[2], life)
  return 1
end

local function take(holder, kind)
  local name = call('HGET', KEYS[2], holder)
  local c = name and all[name]
  if not c then
    name = oldest(function(c) return c.left > 0 and (kind == '' or kind == c.kind) end)
    if not name then return false end
    c = all[name]
    c.left = c.left - 1
    write(name, c)
    call('HSET', KEYS[2], holder, name)
    call('PEXPIRE', KEYS[2], math.max(call('PTTL', KEYS[1]), 1))
  end
  return {name, c.kind, tostring(c.left), string.format('%.0f', c.expires), c.id}
end

local function back(holder, use)
  local name = call('HGET', KEYS[2], holder)
  local c = name and all[name]
  if not c then return 0 end
  call('HDEL', KEYS[2], holder)
  if use == '1' then
    if c.left < c.total then c.left = c.left + 1 end
  else
    c.left, c.total = 0, 0
  end
  write(name, c)
  return 1
end

if ARGV[1] == 'add' then return add(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]) end
if ARGV[1] == 'take' then return take(ARGV[2], ARGV[3]) end
if ARGV[1] == 'back' then return back(ARGV[2], ARGV[3]) end
return oldest(function(c) return c.left > 0 end) and 1 or 0
