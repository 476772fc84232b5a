-- ARGV: exact, owner, ttl_ms. Takes the lease, or renews the owner's own; returns whether the owner has it now.
local key = prefix .. 'l:' .. ARGV[1]
local owner = redis.call('GET', key)
if owner and owner ~= ARGV[2] then
  return 0
end
redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
return 1
