-- token_lease.lua looks at the token and takes the lease when it is due, in one step.
-- KEYS     see token.lua
-- ARGV     owner, lease (ms), config fingerprint, digest of a token that will not do ('' = none)
-- Returns  see token.lua, state fresh | busy | waiting | yours; then
--          waiting: pause (ms), code, message;  yours: fence, digest found bad and not replaced yet ('')
if num('x') > now and get('d') ~= ARGV[4] and num('r') > now then return token('fresh') end
local rest = num('bu')
if rest > now and get('bf') == ARGV[3] then
  return token('waiting', { rest - now, num('bc'), get('bm') })
end
if num('lu') > now and get('lo') ~= ARGV[1] then return token('busy') end
local fence = redis.call('HINCRBY', key, 'ln', 1)
redis.call('HSET', key, 'lo', ARGV[1], 'lu', now + ARGV[2])
keep()
return token('yours', { fence, get('hp') == '1' and get('hd') or '' })
