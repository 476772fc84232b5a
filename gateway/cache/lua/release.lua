-- ARGV: exact, owner. Gives the lease back if it is still the owner's; returns whether it was.
local key = prefix .. 'l:' .. ARGV[1]
if redis.call('GET', key) == ARGV[2] then
  return redis.call('DEL', key)
end
return 0
