-- Put in front of every other script: key names, Redis' own clock, counters, buckets, leases that are over.
--
-- KEYS[1] is PREFIX:epoch and says which node owns the hash tag; every other key is made from ARGV[1], `{NAME}:`, and
-- so lives in the same slot. They cannot all be declared: which leases are over is known only here.
--
--   epoch         random text, made once after Redis was empty; a different one tells replicas that it was flushed
--   run           the start of the server since which all this is here, see fresh.lua
--   leases        sorted set: request id -> millisecond at which its lease is over
--   lease:ID      hash: b terms (JSON: w windows, k {rate, per_minute, estimate}, n slots), r micro-USD reserved,
--                 x "1" once it was committed because it was over, a "1" if a replica brought it back after a flush,
--                 w its owner
--   owner:NAME    sorted set: request id -> the start of this owner that has its lease, until it is ended
--   alive:NAME    sorted set: a start of this owner -> millisecond at which it was heard of last
--   gone:ID       this request has ended; whatever of it arrives late from a broken connection changes nothing
--   window:ID     hash: o reserved, c committed (there once the ledger was asked: `t` Redis' and `m` the asker's own
--                 millisecond at which it was, `by` the asker), p committed before that
--   rate:ID       two doubles: level, millisecond at which it was; absent when full
--   slots:ID      requests under way
--
-- Time is Redis' own, not the callers': one clock for buckets and leases, however far the replicas' clocks are apart.

local P = ARGV[1]
local LEASES = P .. 'leases'
local ALIVE_MS = 3000
local clock = redis.call('TIME')
local NOW = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local EPOCH = redis.call('GET', KEYS[1]) or ''

local function answer(status, ...)
  return {status, EPOCH, NOW, ...}
end

-- The last argument is the millisecond at which the caller gives up: what runs after that, from the buffer of a broken
-- connection when a frozen server goes on, does nothing.
if NOW > tonumber(table.remove(ARGV)) then
  return answer('late')
end

-- Lua's own conversion turns large numbers into 1e+15, which HINCRBY refuses.
local function int(number)
  return string.format('%.0f', number)
end

-- Places (from 0) of the windows whose truth the ledger must be asked first.
local function uninitialised(windows)
  local places = {}
  for i, window in ipairs(windows) do
    if redis.call('HEXISTS', P .. 'window:' .. window, 'c') == 0 then
      places[#places + 1] = i - 1
    end
  end
  return places
end

-- Changes what is reserved and committed in a window. Before the ledger was asked, what is committed is kept apart; a
-- window of which nothing is here stays so.
local function count(window, reserved, committed)
  local key = P .. 'window:' .. window
  local field = 'c'
  if redis.call('HEXISTS', key, 'c') == 0 then
    if redis.call('EXISTS', key) == 0 then
      return
    end
    field = 'p'
  end
  if committed ~= 0 then
    redis.call('HINCRBY', key, field, int(committed))
  end
  if reserved ~= 0 then
    redis.call('HINCRBY', key, 'o', int(reserved))
  end
end

local function free(slots)
  for _, id in ipairs(slots) do
    if redis.call('DECR', P .. 'slots:' .. id) <= 0 then
      redis.call('DEL', P .. 'slots:' .. id)
    end
  end
end

-- Remembers whose lease it is.
local function own(owner, start, id)
  redis.call('ZADD', P .. 'owner:' .. owner, start, id)
end

-- What an owner has left can be ended for two days after it, or the last lease of it that was over, was heard of.
local function keep(owner)
  redis.call('EXPIRE', P .. 'owner:' .. owner, 172800)
end

-- Leases that are over are committed at what they reserved. At most 128 in one go, so that no call takes long: the rest
-- stays reserved, which leaves as little room in a budget.
local function sweep()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', NOW, 'LIMIT', 0, 128)) do
    local key = P .. 'lease:' .. id
    local lease = redis.call('HMGET', key, 'b', 'r', 'w')
    if lease[1] then
      local terms = cjson.decode(lease[1])
      for _, window in ipairs(terms.w) do
        count(window, -lease[2], tonumber(lease[2]))
      end
      keep(lease[3])
      free(terms.n)
      redis.call('HSET', key, 'x', '1')
      redis.call('EXPIRE', key, 79200)  -- sooner than its row is deleted: without one it would end as if never sent
    end
    redis.call('ZREM', LEASES, id)
  end
end

-- What a rate has left, from the value of its key.
local function level_of(value, per_minute)
  if not value then
    return per_minute
  end
  local level, at = struct.unpack('dd', value)
  return math.min(per_minute, level + math.max(0, NOW - at) * per_minute / 60000)
end

local function full_in(level, per_minute)
  return math.ceil((per_minute - level) * 60000 / per_minute)
end

-- Answers in how many milliseconds it is full.
local function set_level(key, per_minute, level)
  local full_ms = full_in(level, per_minute)
  if full_ms <= 0 then
    redis.call('DEL', key)
  else
    redis.call('SET', key, struct.pack('dd', level, NOW), 'PX', int(full_ms))
  end
  return full_ms
end
