-- Run before the scripts are loaded, which is when the server has started: what it may have read from its disk, or
-- copied from the server it stands in for, is older than what was granted. All of it is forgotten, once per start, so
-- that it is counted anew from the ledger like after a flush. A server that lost nothing but its scripts keeps all.
--
-- KEYS[1] is PREFIX:epoch, as in common.lua. ARGV: prefix.

local started = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local key = ARGV[1] .. 'run'
if redis.call('GET', key) ~= started then
  local cursor = '0'
  repeat
    local found = redis.call('SCAN', cursor, 'MATCH', ARGV[1] .. '*', 'COUNT', 1000)
    cursor = found[1]
    for _, old in ipairs(found[2]) do
      redis.call('DEL', old)
    end
  until cursor == '0'
  redis.call('SET', key, started)
end
