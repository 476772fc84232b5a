-- Tells that an owner lives, ends leases that are over, tells the epoch, and reads windows for metrics.
--
-- ARGV: prefix, epoch to begin where there is none ('' to leave it), owner, its start; then window ids.
-- Answers: done, c o per window (c is -1 for one that is not initialised)

if ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2], 'NX')
  EPOCH = redis.call('GET', KEYS[1])
end
local beats = P .. 'alive:' .. ARGV[3]
redis.call('ZREMRANGEBYSCORE', beats, '-inf', int(NOW - ALIVE_MS))
redis.call('ZADD', beats, int(NOW), ARGV[4])
redis.call('PEXPIRE', beats, ALIVE_MS)
keep(ARGV[3])
sweep()
local states = {}
for i = 5, #ARGV do
  local state = redis.call('HMGET', P .. 'window:' .. ARGV[i], 'c', 'o')
  states[#states + 1] = tonumber(state[1] or -1)
  states[#states + 1] = tonumber(state[2] or 0)
end
return answer('done', unpack(states))
