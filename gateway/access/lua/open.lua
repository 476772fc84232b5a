-- Initialises windows with what the ledger has for them. The first answer stands.
--
-- ARGV: prefix, epoch before the ledger was asked, asker; then per window: id, micro-USD, Redis' ms when the ledger
--       was asked, the asker's own, second at which the window may be forgotten (0: never).
-- Answers: done | changed (flushed since; nothing was written)

if EPOCH ~= ARGV[2] then
  return answer('changed')
end
for at = 4, #ARGV, 5 do
  local key = P .. 'window:' .. ARGV[at]
  if redis.call('HEXISTS', key, 'c') == 0 then
    local before = tonumber(redis.call('HGET', key, 'p') or 0)
    redis.call('HDEL', key, 'p')
    redis.call('HSET', key, 'c', int(tonumber(ARGV[at + 1]) + before), 't', ARGV[at + 2], 'm', ARGV[at + 3], 'by', ARGV[3])
    if ARGV[at + 4] == '0' then
      redis.call('PERSIST', key)
    else
      redis.call('EXPIREAT', key, math.max(tonumber(ARGV[at + 4]), tonumber(clock[1]) + 3600))
    end
  end
end
return answer('done')
