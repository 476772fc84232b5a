-- Answers in Redis. KEYS[1] is the prefix of every key, with a hash tag, so that all live in one slot.
--   x:EXACT       hash: b the entry as MessagePack, i its id, t tenant, r route, g tags (one a line)
--   i:ID          the exact key of the entry with this id
--   f:FIELD:VALUE sorted set of exact keys by expiry, for FIELD tenant, route, tag
--   all           sorted set of all exact keys by expiry; `sizes` their bytes; `scopes` scopes by latest expiry
--   count         hash: bytes, evicted
-- Times are milliseconds since the epoch. Keys outlive their entries by GRACE_MS, so that sweeping finds the indexes.
local prefix = KEYS[1]
local GRACE_MS = 3600000

local function indexes(tenant, route, tags)
  local keys = { prefix .. 'f:tenant:' .. tenant, prefix .. 'f:route:' .. route }
  for tag in string.gmatch(tags, '[^\n]+') do
    keys[#keys + 1] = prefix .. 'f:tag:' .. tag
  end
  return keys
end

local function remove(exact)
  local key = prefix .. 'x:' .. exact
  local held = redis.call('HMGET', key, 'i', 't', 'r', 'g')
  if held[1] then
    redis.call('DEL', key, prefix .. 'i:' .. held[1])
    for _, index in ipairs(indexes(held[2], held[3], held[4])) do
      redis.call('ZREM', index, exact)
    end
  end
  local size = redis.call('HGET', prefix .. 'sizes', exact)
  if size then
    redis.call('HDEL', prefix .. 'sizes', exact)
    redis.call('HINCRBY', prefix .. 'count', 'bytes', -size)
  end
  redis.call('ZREM', prefix .. 'all', exact)
end
