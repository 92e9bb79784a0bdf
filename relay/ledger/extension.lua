-- extension.lua: one operation on the account of consent, run inside a script of the queue. The last file of the
-- extension.
-- KEYS     those of state.lua.
-- ARGV     A[o + 1] the head: the operation, kind ("-" = keep), cause (64 + its number), flags (48 + ...), 4-byte hash of the
--                   cause's name or of the message id; for some operations 4-byte numbers more
--          A[o + 2] "<app>:<openid>"   A[o + 3] template id
--          OP_ANSWER    flags: 1 rejects clear, 2 trust client: an accept proves and notes only. Numbers: CreateTime or 0,
--                       1 + pairing window in s (0: trust event)
--          OP_CLIENT    flags as above. Numbers: 0, as above, unproven credits allowed
--          OP_RESERVE   flags: 1 without a credit too. Numbers: period in s or 0. A[o + 4] message id, A[o + 5] value's hash or ""
--          OP_SPEND, OP_RETURN, OP_VOID    A[o + 4] message id
--          OP_ELSEWHERE a send of somebody else used a credit
--          OP_FORGET    A[o + 2] only
-- Returns  ok, reply. Refused (nothing written): false, "no_credit" | "too_soon <ms left>". Else true and
--          "delta credits reserved status kind changed cause"; of OP_FORGET "".
local operations
return function(P, now_ms, A, o)
  local op, kind, cause, flag = byte(A[o + 1], 1, 4)
  local answers = op == OP_ANSWER or op == OP_CLIENT
  if not answers and not operations then operations = messages() end
  if op == OP_FORGET then return operations[5](P, A[o + 2]) end
  local now = floor(tonumber(now_ms) / 1000)
  local L = load(P, A[o + 2], A[o + 3], not answers and A[o + 4])
  if kind ~= 45 and L.kind ~= kind - 48 then L.kind, L.dirty = kind - 48, true end
  cause = cause - 64
  if answers then
    if not L.found and not admitted(P, L, op == OP_CLIENT) then return answer(L, 0, false, 0) end
    return answered(P, now, A, o, L, cause, flag % 2 == 1, flag >= 50)
  end
  L.hash = sub(A[o + 1], 5, 8)
  if op == OP_RESERVE then return operations[1](P, tonumber(now_ms), A, o, L, flag == 49) end
  if op == OP_SPEND then return operations[2](P, tonumber(now_ms), now, A, o, L) end
  if op == OP_RETURN then return operations[3](P, now, A, o, L) end
  if op == OP_VOID then return operations[4](P, now, A, o, L, cause) end
  return operations[6](P, now, A, o, L, cause)
end
