-- The allowance rider: how many customer service messages a user may still be written, run inside a script of the queue.
--
-- KEYS     none of its own: `prefix` carries the shard's tag.
--            la:<app>:<openid>  hash: n left, c the most n may be, u until when in ms, m:<message id> = taken and still open.
--                               Expires at u.
-- ARGV     A[o + 1] the move, A[o + 2] "<app>:<openid>"
--          g a trigger: A[o + 3] messages, A[o + 4] for how many ms, A[o + 5] since when (ms, 0 = now). What is larger stays:
--            allowances do not add up.
--          t take one for message A[o + 3]; A[o + 4] "1": go on without one. The same message takes one only
--          b give back what message A[o + 3] took     s it was used     z nothing is left, WeChat said so
-- Returns  ok, reply. Refused (nothing written): false, "no_allowance". Else true and how many are left.
return function(P, now_ms, A, o)
  local call, move = redis.call, A[o + 1]
  local key, now = P .. 'la:' .. A[o + 2], tonumber(now_ms)
  local v = call('HMGET', key, 'n', 'c', 'u')
  local n, most, till = tonumber(v[1] or 0), tonumber(v[2] or 0), tonumber(v[3] or 0)
  if till <= now then n, most, till = 0, 0, 0 end
  local function left() return true, string.format('%d', n) end
  local function set(name, to) call('HSET', key, name, string.format('%.0f', to)) end

  if move == 'g' then
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
  if move == 'z' then
    call('DEL', key)
    n = 0
    return left()
  end
  local mark = 'm:' .. A[o + 3]
  if move == 't' then
    if call('HEXISTS', key, mark) == 1 then return left() end
    if n < 1 then
      if A[o + 4] == '1' then return left() end
      return false, 'no_allowance'
    end
    n = n - 1
    set('n', n)
    call('HSET', key, mark, '1')
    return left()
  end
  if call('HDEL', key, mark) == 1 and move == 'b' and n < most then
    n = n + 1
    set('n', n)
  end
  return left()
end
