-- allowance.lua: how many customer service messages a user may still be written, an extension of the queue.
-- KEYS     none of its own: P carries the shard's tag.
--            KEY_ALLOWANCE<app>:<openid>  hash: n left, c the most n may be, u until when in ms, m:<message id> = taken and not
--                                         yet ended. Expires at u.
-- ARGV     A[o + 1] the operation, A[o + 2] "<app>:<openid>"
--          ALLOW_GRANT   A[o + 3] messages, A[o + 4] for how many ms, A[o + 5] since when (ms, 0 = now). Allowances do not add up:
--                        what is larger stays
--          ALLOW_TAKE    one for message A[o + 3]; A[o + 4] "1": go on without one. The same message takes one only
--          ALLOW_RETURN  what message A[o + 3] took      ALLOW_USE  it was used      ALLOW_END  nothing is left, WeChat says
-- Returns  ok, reply. Refused (nothing written): false, NO_ALLOWANCE. Else true and how many are left.
-- Names in capitals are constants of Go: lua.go writes their values in their place.
return function(P, now_ms, A, o)
  local call, op = redis.call, A[o + 1]
  local key, now = P .. KEY_ALLOWANCE .. A[o + 2], tonumber(now_ms)
  local v = call('HMGET', key, 'n', 'c', 'u')
  local n, most, till = tonumber(v[1] or 0), tonumber(v[2] or 0), tonumber(v[3] or 0)
  if till <= now then n, most, till = 0, 0, 0 end
  local function left() return true, string.format('%d', n) end
  local function set(name, to) call('HSET', key, name, string.format('%.0f', to)) end

  if op == ALLOW_GRANT then
    local count, since = tonumber(A[o + 3]), tonumber(A[o + 5])
    if since == 0 or since > now then since = now end
    local ends = since + tonumber(A[o + 4])
    if ends <= now then return left() end
    if till == 0 then call('DEL', key) end -- what was taken of an older one is not given back to this
    n, most, till = math.max(n, count), math.max(most, count), math.max(till, ends)
    set('n', n)
    set('c', most)
    set('u', till)
    call('PEXPIREAT', key, string.format('%.0f', till))
    return left()
  end
  if op == ALLOW_END then
    call('DEL', key)
    n = 0
    return left()
  end
  local mark = 'm:' .. A[o + 3]
  if op == ALLOW_TAKE then
    if call('HEXISTS', key, mark) == 1 then return left() end
    if n < 1 then
      if A[o + 4] == '1' then return left() end
      return false, NO_ALLOWANCE
    end
    n = n - 1
    set('n', n)
    call('HSET', key, mark, '1')
    return left()
  end
  if call('HDEL', key, mark) == 1 and op == ALLOW_RETURN and n < most then
    n = n + 1
    set('n', n)
  end
  return left()
end
