-- ARGV: tenant, tag, route, id (empty: any), then exact keys. Removes those of them that match; returns how many did.
local tenant, tag, route, id = unpack(ARGV, 1, 4)
local removed = 0
for place = 5, #ARGV do
  local exact = ARGV[place]
  local held = redis.call('HMGET', prefix .. 'x:' .. exact, 'i', 't', 'r', 'g')
  if
    held[1]
    and (tenant == '' or tenant == held[2])
    and (route == '' or route == held[3])
    and (id == '' or id == held[1])
    and (tag == '' or string.find('\n' .. held[4] .. '\n', '\n' .. tag .. '\n', 1, true))
  then
    remove(exact)
    removed = removed + 1
  end
end
return removed
