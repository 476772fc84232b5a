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
local lease_key = P .. 'lease:' .. id

if budgets > 0 then
  local epoch = redis.call('GET', KEYS[1])
  if not epoch then
    return answer('cold')
  elseif epoch ~= ARGV[3] then
    return answer('changed')
  end
end

local held = redis.call('HMGET', lease_key, 'b', 'x')
if held[1] and not held[2] then
  return answer('held', held[1])
elseif held[1] or redis.call('EXISTS', P .. 'gone:' .. id) == 1 then
  return answer('ended')
end

local missing, states = {}, {}
for i = 0, budgets - 1 do
  local state = redis.call('HMGET', P .. 'window:' .. ARGV[10 + 2 * i], 'c', 'o')
  if not state[1] then
    missing[#missing + 1] = i
  end
  states[i] = {tonumber(state[1] or 0), tonumber(state[2] or 0)}
end
if #missing > 0 then
  return answer('missing', unpack(missing))
end

for i = 0, budgets - 1 do
  if states[i][1] + states[i][2] + micro > tonumber(ARGV[11 + 2 * i]) then
    return answer('budget', i, states[i][1], states[i][2])
  end
end

local levels = {}
for i = 0, rates - 1 do
  local at = rates_at + 3 * i
  local per_minute, cost = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local level = level_of(ARGV[at], per_minute)
  -- A cost above the whole bucket is admitted when it is full, and leaves it in debt.
  local lacking = math.min(cost, per_minute) - level
  if lacking > 1e-6 then
    local wait_ms = math.ceil(lacking * 60000 / per_minute)
    return answer('rate', i, math.floor(level), full_in(level, per_minute), wait_ms)
  end
  levels[i] = level - cost
end

for i = 0, slots - 1 do
  local at = slots_at + 2 * i
  if tonumber(redis.call('GET', P .. 'slots:' .. ARGV[at]) or 0) >= tonumber(ARGV[at + 1]) then
    return answer('slot', i)
  end
end

local result = {}
for i = 0, budgets - 1 do
  result[#result + 1] = states[i][1]
  result[#result + 1] = redis.call('HINCRBY', P .. 'window:' .. ARGV[10 + 2 * i], 'o', ARGV[4])
end
for i = 0, rates - 1 do
  local at = rates_at + 3 * i
  local per_minute = tonumber(ARGV[at + 1])
  set_level(ARGV[at], per_minute, levels[i])
  result[#result + 1] = math.max(0, math.floor(levels[i]))
  result[#result + 1] = full_in(levels[i], per_minute)
end
for i = 0, slots - 1 do
  redis.call('INCR', P .. 'slots:' .. ARGV[slots_at + 2 * i])
end
local owner_at = slots_at + 2 * slots
redis.call('HSET', lease_key, 'b', ARGV[6], 'r', ARGV[4], 'w', ARGV[owner_at])
own(ARGV[owner_at], ARGV[owner_at + 1], id)
redis.call('ZADD', LEASES, int(NOW + tonumber(ARGV[5])), id)
return answer('granted', unpack(result))
