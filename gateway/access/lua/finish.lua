-- Ends a lease: settle, or release (charged 0, tokens 0). Any number of times with the same effect as once.
--
-- ARGV: prefix, request id, charged micro-USD, tokens used, epoch in which the caller knew its lease to be here,
--       caller, its own ms at the end of the request, the same in Redis' time, ms by which rows reach the ledger late,
--       the lease's terms ('' if the caller does not know them), '1' to keep a late reserve of this id out.
-- Answers: done | missing (places of windows whose truth the ledger must be asked first; nothing was changed)

local id, charged = ARGV[2], tonumber(ARGV[3])
local key, gone = P .. 'lease:' .. id, P .. 'gone:' .. id
local lease = redis.call('HMGET', key, 'b', 'r', 'x', 'a', 'w')

-- After a flush, the ledger was asked what a window has cost. Was this request's row in the answer? The asker's own
-- rows were if the request had ended by then; another replica's if it had ended long enough before.
local function in_truth(window)
  local asked = redis.call('HMGET', P .. 'window:' .. window, 'by', 't', 'm')
  if not asked[1] then
    return false
  elseif asked[1] == ARGV[6] then
    return tonumber(ARGV[7]) <= tonumber(asked[3])
  end
  return tonumber(ARGV[8]) <= tonumber(asked[2]) - tonumber(ARGV[9])
end

if not lease[1] then
  if ARGV[11] == '1' then
    redis.call('SET', gone, '1', 'EX', 3600)
    return answer('done')
  end
  local epoch = redis.call('GET', KEYS[1]) or ''
  if ARGV[10] == '' or epoch == ARGV[5] or redis.call('EXISTS', gone) == 1 then
    return answer('done')  -- ended before
  end
  -- It was flushed away, or was granted while Redis was away.
  local terms = cjson.decode(ARGV[10])
  local places = uninitialised(terms.w)
  if #places > 0 then
    return answer('missing', unpack(places))
  end
  redis.call('SET', gone, '1', 'EX', 86400)
  for _, window in ipairs(terms.w) do
    if not in_truth(window) then
      commit(window, charged)
    end
  end
  return answer('done')
end

local terms = cjson.decode(lease[1])
if lease[4] then
  local places = uninitialised(terms.w)
  if #places > 0 then
    return answer('missing', unpack(places))
  end
end
for _, window in ipairs(terms.w) do
  local amount = charged
  if lease[4] and in_truth(window) then
    amount = 0
  end
  if lease[3] then
    commit(window, amount - tonumber(lease[2]))  -- it was over, and committed at what it had reserved
  else
    unreserve(window, lease[2])
    commit(window, amount)
  end
end
if not lease[3] then
  free(terms.n)
end
for _, rate in ipairs(terms.k) do
  local level = level_of(rate[1], rate[2]) + rate[3] - tonumber(ARGV[4])
  set_level(rate[1], rate[2], math.min(rate[2], level))
end
redis.call('DEL', key)
redis.call('ZREM', LEASES, id)
redis.call('ZREM', P .. 'owner:' .. lease[5], id)
if lease[4] or ARGV[11] == '1' then
  redis.call('SET', gone, '1', 'EX', 86400)
end
return answer('done')
