-- Brings open leases back after a flush. A lease that is here already, or has ended, stays as it is.
--
-- ARGV: prefix, owner, its start; then per lease: request id, reserved micro-USD, ms until it is over, terms.
-- Answers: done

for at = 4, #ARGV, 4 do
  local id = ARGV[at]
  local key = P .. 'lease:' .. id
  if redis.call('EXISTS', key, P .. 'gone:' .. id) == 0 then
    local terms = cjson.decode(ARGV[at + 3])
    redis.call('HSET', key, 'b', ARGV[at + 3], 'r', ARGV[at + 1], 'a', '1', 'w', ARGV[2])
    own(ARGV[2], ARGV[3], id)
    redis.call('ZADD', LEASES, int(NOW + tonumber(ARGV[at + 2])), id)
    for _, window in ipairs(terms.w) do
      local window_key = P .. 'window:' .. window
      redis.call('HINCRBY', window_key, 'o', ARGV[at + 1])
      if redis.call('HEXISTS', window_key, 'c') == 0 then
        redis.call('EXPIRE', window_key, 172800)  -- until it is initialised, if it ever is
      end
    end
    for _, slot in ipairs(terms.n) do
      redis.call('INCR', P .. 'slots:' .. slot)
    end
  end
end
return answer('done')
