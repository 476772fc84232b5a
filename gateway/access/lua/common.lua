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
--   bucket:ID     hash: l level, t millisecond; absent when full
--   slots:ID      requests under way
--
-- Time is Redis' own, not the callers': one clock for buckets and leases, however far the replicas' clocks are apart.

local P = ARGV[1]
local LEASES = P .. 'leases'
local ALIVE_MS = 3000
local clock = redis.call('TIME')
local NOW = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- The last argument is the millisecond at which the caller gives up: what runs after that, from the buffer of a broken
-- connection when a frozen server goes on, does nothing.
if NOW > tonumber(table.remove(ARGV)) then
  return {'late', redis.call('GET', KEYS[1]) or '', NOW}
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

local function commit(window, amount)
  local key = P .. 'window:' .. window
  if redis.call('HEXISTS', key, 'c') == 1 then
    redis.call('HINCRBY', key, 'c', int(amount))
  elseif redis.call('EXISTS', key) == 1 then
    redis.call('HINCRBY', key, 'p', int(amount))
  end
end

local function unreserve(window, amount)
  local key = P .. 'window:' .. window
  if redis.call('EXISTS', key) == 1 then
    redis.call('HINCRBY', key, 'o', int(0 - tonumber(amount)))
  end
end

local function free(slots)
  for _, id in ipairs(slots) do
    if redis.call('DECR', P .. 'slots:' .. id) <= 0 then
      redis.call('DEL', P .. 'slots:' .. id)
    end
  end
end

-- Remembers whose lease it is, for as long as it can be ended.
local function own(owner, start, id)
  redis.call('ZADD', P .. 'owner:' .. owner, start, id)
  redis.call('EXPIRE', P .. 'owner:' .. owner, 172800)
end

-- Leases that are over are committed at what they reserved. At most 128 in one go, so that no call takes long: the rest
-- stays reserved, which leaves as little room in a budget.
local function sweep()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', NOW, 'LIMIT', 0, 128)) do
    local key = P .. 'lease:' .. id
    local lease = redis.call('HMGET', key, 'b', 'r')
    if lease[1] then
      local terms = cjson.decode(lease[1])
      for _, window in ipairs(terms.w) do
        unreserve(window, lease[2])
        commit(window, tonumber(lease[2]))
      end
      free(terms.n)
      redis.call('HSET', key, 'x', '1')
      redis.call('EXPIRE', key, 79200)  -- sooner than its row is deleted: without one it would end as if never sent
    end
    redis.call('ZREM', LEASES, id)
  end
end

local function level_of(rate, per_minute)
  local bucket = redis.call('HMGET', P .. 'bucket:' .. rate, 'l', 't')
  if not bucket[1] then
    return per_minute
  end
  local passed = math.max(0, NOW - tonumber(bucket[2]))
  return math.min(per_minute, tonumber(bucket[1]) + passed * per_minute / 60000)
end

local function full_in(level, per_minute)
  return math.ceil((per_minute - level) * 60000 / per_minute)
end

local function set_level(rate, per_minute, level)
  local key = P .. 'bucket:' .. rate
  local full_ms = full_in(level, per_minute)
  if full_ms <= 0 then
    redis.call('DEL', key)
  else
    redis.call('HSET', key, 'l', string.format('%.6f', level), 't', int(NOW))
    redis.call('PEXPIRE', key, int(full_ms))
  end
end

local function answer(status, ...)
  return {status, redis.call('GET', KEYS[1]) or '', NOW, ...}
end
