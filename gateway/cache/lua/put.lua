-- ARGV: exact, id, scope, tenant, route, tags, expires_ms, now_ms, size, max_bytes, entry.
-- Replaces the entry with this exact key or this id, then gives up those that expire soonest until there is room.
local exact, id, scope, tenant, route, tags = unpack(ARGV, 1, 6)
local expires, now, size, most = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local until_ms = expires + GRACE_MS
remove(exact)
local namesake = redis.call('GET', prefix .. 'i:' .. id)
if namesake then
  remove(namesake)
end
local key = prefix .. 'x:' .. exact
redis.call('HSET', key, 'b', ARGV[11], 'i', id, 't', tenant, 'r', route, 'g', tags)
redis.call('PEXPIREAT', key, until_ms)
redis.call('SET', prefix .. 'i:' .. id, exact, 'PXAT', until_ms)
for _, index in ipairs(indexes(tenant, route, tags)) do
  redis.call('ZREMRANGEBYSCORE', index, '-inf', now - GRACE_MS)
  redis.call('ZADD', index, expires, exact)
  redis.call('PEXPIREAT', index, until_ms, 'NX')
  redis.call('PEXPIREAT', index, until_ms, 'GT')
end
redis.call('ZADD', prefix .. 'all', expires, exact)
redis.call('ZADD', prefix .. 'scopes', 'GT', expires, scope)
redis.call('HSET', prefix .. 'sizes', exact, size)
local bytes = redis.call('HINCRBY', prefix .. 'count', 'bytes', size)
local turns = 500 -- a bound that was lowered is reached by many puts, not by one that holds up everybody
while bytes > most and turns > 0 do
  turns = turns - 1
  local soonest = redis.call('ZRANGE', prefix .. 'all', 0, 0, 'WITHSCORES')
  if #soonest == 0 then
    break
  end
  remove(soonest[1])
  if tonumber(soonest[2]) > now then
    redis.call('HINCRBY', prefix .. 'count', 'evicted', 1)
  end
  bytes = tonumber(redis.call('HGET', prefix .. 'count', 'bytes'))
end
return bytes
