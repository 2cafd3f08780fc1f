-- Deletes a dead letter; 1 where it was there. ARGV: id.
local bytes = forget(ARGV[1])
if not bytes then return 0 end
redis.call('SET', total, math.max(0, (redis.call('GET', total) or 0) - bytes))
return 1
