-- Tells whether the server may drop keys to make room.
--
-- ARGV: prefix.
-- Answers: done, its maxmemory-policy ('' where it never drops any)

local memory = redis.call('INFO', 'memory')
local policy = string.match(memory, 'maxmemory_policy:([%w-]+)')
if policy == 'noeviction' or string.match(memory, 'maxmemory:(%d+)') == '0' then
  policy = ''
end
return answer('done', policy or '')
