-- erase.lua deletes keys of a shard whose names say who somebody is. It never refuses.
-- KEYS     none of its own: prefix names the shard
-- ARGV     A[o + 1..n] names of keys behind the prefix
-- Returns  true, ''
return function(prefix, _, A, o, n)
  for i = 1, n do redis.call('DEL', prefix .. A[o + i]) end
  return true, ''
end
