-- How many dead letters there are, and the metas of some, oldest first. Ids without a hash are removed.
-- ARGV: offset, limit.
local found = {}
for _, id in ipairs(redis.call('ZRANGE', ids, '-inf', '+inf', 'BYSCORE', 'LIMIT', ARGV[1], ARGV[2])) do
  local meta = redis.call('HGET', records .. id, 'meta')
  if meta then
    found[#found + 1] = meta
  else
    redis.call('ZREM', ids, id)
  end
end
return {redis.call('ZCARD', ids), found}
