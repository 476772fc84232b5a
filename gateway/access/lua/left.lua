-- Tells leases that earlier starts of an owner have left, also those that are over, some at a time.
--
-- A start that was heard of lately may live: of a copied journal folder, or with a command under way. It is left alone.
--
-- ARGV: prefix, owner, the first start that has nothing to do with it, how many leases to pass over.
-- Answers: done, 1 if a start was left alone, leases looked at, of those the ones of such a start, ids of the others

local owned, beats = P .. 'owner:' .. ARGV[2], P .. 'alive:' .. ARGV[2]
local lives, living = {}, 0
for _, start in ipairs(redis.call('ZRANGEBYSCORE', beats, int(NOW - ALIVE_MS), '+inf')) do
  if tonumber(start) < tonumber(ARGV[3]) then
    lives[start] = true
    living = 1
  end
end
local found = redis.call('ZRANGEBYSCORE', owned, '-inf', '(' .. ARGV[3], 'WITHSCORES', 'LIMIT', ARGV[4], 64)
local passed, ids = 0, {}
for at = 1, #found, 2 do
  if redis.call('EXISTS', P .. 'lease:' .. found[at]) == 0 then
    redis.call('ZREM', owned, found[at])
  elseif lives[found[at + 1]] then
    passed = passed + 1
  else
    ids[#ids + 1] = found[at]
  end
end
return answer('done', living, #found / 2, passed, unpack(ids))
