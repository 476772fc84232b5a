-- Reserves more under a lease and renews it.
--
-- ARGV: prefix, request id, micro-USD, lease in ms; then the limits of the lease's windows in their order.
-- Answers: extended | full | unknown (no such lease, or it is over)
--          missing (places of windows that are not initialised since a flush; a mere renewal needs none)

sweep()
local id, micro = ARGV[2], tonumber(ARGV[3])
local key = P .. 'lease:' .. id
local lease = redis.call('HMGET', key, 'b', 'x')
if not lease[1] or lease[2] then
  return answer('unknown')
end
local windows = cjson.decode(lease[1]).w
if micro > 0 then
  local places = uninitialised(windows)
  if #places > 0 then
    return answer('missing', unpack(places))
  end
  for i, window in ipairs(windows) do
    local state = redis.call('HMGET', P .. 'window:' .. window, 'c', 'o')
    if tonumber(state[1]) + tonumber(state[2] or 0) + micro > tonumber(ARGV[4 + i]) then
      return answer('full')
    end
  end
  for _, window in ipairs(windows) do
    redis.call('HINCRBY', P .. 'window:' .. window, 'o', ARGV[3])
  end
  redis.call('HINCRBY', key, 'r', ARGV[3])
end
redis.call('ZADD', LEASES, 'GT', int(NOW + tonumber(ARGV[4])), id)
return answer('extended')
