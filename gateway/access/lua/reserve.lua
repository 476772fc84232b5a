-- Takes a lease over everything that applies, or nothing.
--
-- ARGV: prefix, request id, epoch the caller knows, micro-USD, lease in ms, terms, number of budgets, rates, slots;
--       then per budget: window id, limit; per rate: id, per minute, cost; per slot: id, most; the owner, its start.
-- Answers: granted, c o per window, level full_in_ms per rate
--          held (terms of the lease that this id has) | ended
--          cold (flushed) | changed (flushed, and another replica has begun) | missing (places of unknown windows)
--          budget (place, c, o) | rate (place, level, full_in_ms, wait_ms) | slot (place)

sweep()
local id, micro = ARGV[2], tonumber(ARGV[4])
local budgets, rates, slots = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local rates_at = 10 + 2 * budgets
local slots_at = rates_at + 3 * rates
local owner_at = slots_at + 2 * slots
local lease_key, gone_key = P .. 'lease:' .. id, P .. 'gone:' .. id

if budgets > 0 then
  if EPOCH == '' then
    return answer('cold')
  elseif EPOCH ~= ARGV[3] then
    return answer('changed')
  end
end

if redis.call('EXISTS', lease_key, gone_key) > 0 then
  local held = redis.call('HMGET', lease_key, 'b', 'x')
  if held[1] and not held[2] then
    return answer('held', held[1])
  end
  return answer('ended')
end

local windows, committed, reserved, missing = {}, {}, {}, {}
for i = 1, budgets do
  windows[i] = P .. 'window:' .. ARGV[8 + 2 * i]
  local state = redis.call('HMGET', windows[i], 'c', 'o')
  if not state[1] then
    missing[#missing + 1] = i - 1
  end
  committed[i], reserved[i] = tonumber(state[1] or 0), tonumber(state[2] or 0)
end
if #missing > 0 then
  return answer('missing', unpack(missing))
end
for i = 1, budgets do
  if committed[i] + reserved[i] + micro > tonumber(ARGV[9 + 2 * i]) then
    return answer('budget', i - 1, committed[i], reserved[i])
  end
end

local keys = {}
for i = 1, rates do
  keys[i] = P .. 'rate:' .. ARGV[rates_at + 3 * (i - 1)]
end
for i = 1, slots do
  keys[rates + i] = P .. 'slots:' .. ARGV[slots_at + 2 * (i - 1)]
end
local values = {}
if #keys > 0 then
  values = redis.call('MGET', unpack(keys))
end

local levels = {}
for i = 1, rates do
  local at = rates_at + 3 * (i - 1)
  local per_minute, cost = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local level = level_of(values[i], per_minute)
  -- A cost above the whole bucket is admitted when it is full, and leaves it in debt.
  local lacking = math.min(cost, per_minute) - level
  if lacking > 1e-6 then
    local wait_ms = math.ceil(lacking * 60000 / per_minute)
    return answer('rate', i - 1, math.floor(level), full_in(level, per_minute), wait_ms)
  end
  levels[i] = level - cost
end
for i = 1, slots do
  if tonumber(values[rates + i] or 0) >= tonumber(ARGV[slots_at + 2 * i - 1]) then
    return answer('slot', i - 1)
  end
end

local result = {}
for i = 1, budgets do
  result[#result + 1] = committed[i]
  result[#result + 1] = redis.call('HINCRBY', windows[i], 'o', ARGV[4])
end
for i = 1, rates do
  local full_ms = set_level(keys[i], tonumber(ARGV[rates_at + 3 * i - 2]), levels[i])
  result[#result + 1] = math.max(0, math.floor(levels[i]))
  result[#result + 1] = full_ms
end
for i = 1, slots do
  redis.call('INCR', keys[rates + i])
end
redis.call('HSET', lease_key, 'b', ARGV[6], 'r', ARGV[4], 'w', ARGV[owner_at])
own(ARGV[owner_at], ARGV[owner_at + 1], id)
redis.call('ZADD', LEASES, int(NOW + tonumber(ARGV[5])), id)
return answer('granted', unpack(result))
