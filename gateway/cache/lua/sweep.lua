-- ARGV: now_ms, the most to remove. Removes entries that have expired; returns how many.
local expired = redis.call('ZRANGEBYSCORE', prefix .. 'all', '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, exact in ipairs(expired) do
  remove(exact)
end
redis.call('ZREMRANGEBYSCORE', prefix .. 'scopes', '-inf', ARGV[1])
return #expired
