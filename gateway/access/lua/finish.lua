-- Ends leases: settle, or release (charged 0, tokens 0). Any number of times with the same effect as once.
--
-- ARGV: prefix, caller, ms by which rows reach the ledger late; then per end: request id, charged micro-USD, tokens
--       used, epoch in which the caller knew its lease to be here, the caller's own ms at the end of the request, the
--       same in Redis' time, the lease's terms ('' if the caller does not know them), '1' to keep a late reserve of
--       this id out.
-- Answers: done; then pairs of places (from 0), of an end and of one of its windows whose truth the ledger must be
--          asked first. Nothing was changed for such an end.

local CALLER, LAG_MS = ARGV[2], tonumber(ARGV[3])
local result = {}

-- Whether all windows are initialised; tells those that are not.
local function counted(place, windows)
  local missing = uninitialised(windows)
  for _, window in ipairs(missing) do
    result[#result + 1] = place
    result[#result + 1] = window
  end
  return #missing == 0
end

-- After a flush, the ledger was asked what a window has cost. Was this request's row in the answer? The asker's own
-- rows were if the request had ended by then; another replica's if it had ended long enough before.
local function in_truth(window, own_ms, redis_ms)
  local asked = redis.call('HMGET', P .. 'window:' .. window, 'by', 't', 'm')
  if not asked[1] then
    return false
  elseif asked[1] == CALLER then
    return tonumber(own_ms) <= tonumber(asked[3])
  end
  return tonumber(redis_ms) <= tonumber(asked[2]) - LAG_MS
end

local function finish_unknown(place, id, charged, epoch, own_ms, redis_ms, terms, undo)
  local gone = P .. 'gone:' .. id
  if undo == '1' then
    redis.call('SET', gone, '1', 'EX', 3600)
    return
  elseif terms == '' or epoch == EPOCH or redis.call('EXISTS', gone) == 1 then
    return  -- ended before
  end
  -- It was flushed away, or was granted while Redis was away.
  local windows = cjson.decode(terms).w
  if not counted(place, windows) then
    return
  end
  redis.call('SET', gone, '1', 'EX', 86400)
  for _, window in ipairs(windows) do
    if not in_truth(window, own_ms, redis_ms) then
      count(window, 0, charged)
    end
  end
end

local function finish(place, id, charged, tokens, epoch, own_ms, redis_ms, known, undo)
  local key = P .. 'lease:' .. id
  local lease = redis.call('HMGET', key, 'b', 'r', 'x', 'a', 'w')
  if not lease[1] then
    return finish_unknown(place, id, charged, epoch, own_ms, redis_ms, known, undo)
  end
  local terms, reserved, over, adopted = cjson.decode(lease[1]), tonumber(lease[2]), lease[3], lease[4]
  if adopted and not counted(place, terms.w) then
    return
  end
  for _, window in ipairs(terms.w) do
    local amount = charged
    if adopted and in_truth(window, own_ms, redis_ms) then
      amount = 0
    end
    if over then
      count(window, 0, amount - reserved)  -- it was over, and committed at what it had reserved
    else
      count(window, -reserved, amount)
    end
  end
  if not over then
    free(terms.n)
  end
  for _, rate in ipairs(terms.k) do
    local rate_key, per_minute = P .. 'rate:' .. rate[1], rate[2]
    local level = level_of(redis.call('GET', rate_key), per_minute) + rate[3] - tokens
    set_level(rate_key, per_minute, math.min(per_minute, level))
  end
  redis.call('DEL', key)
  redis.call('ZREM', LEASES, id)
  redis.call('ZREM', P .. 'owner:' .. lease[5], id)
  if adopted or undo == '1' then
    redis.call('SET', P .. 'gone:' .. id, '1', 'EX', 86400)
  end
end

for at = 4, #ARGV, 8 do
  finish((at - 4) / 8, ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), unpack(ARGV, at + 3, at + 7))
end
return answer('done', unpack(result))
