-- audience_count.lua counts a message of an audience send from one state to another. It never refuses.
-- KEYS     none of its own: prefix names the shard; <prefix>as:<send> hash, state -> how many more (or fewer) are in it than were
--          made in it. Expires.
-- ARGV     A[o + 1] send; [2] the state it leaves; [3] the state it goes to; [4] how long the counts are kept (ms)
-- Returns  true, ''
return function(prefix, _, A, o)
  local key = prefix .. 'as:' .. A[o + 1]
  redis.call('HINCRBY', key, A[o + 2], -1)
  redis.call('HINCRBY', key, A[o + 3], 1)
  if redis.call('PTTL', key) < tonumber(A[o + 4]) then redis.call('PEXPIRE', key, A[o + 4]) end
  return true, ''
end
