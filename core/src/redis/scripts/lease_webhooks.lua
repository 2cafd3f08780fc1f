-- Leases webhooks that are due to one caller.
-- KEYS: webhooks. ARGV: the most to return, milliseconds of the lease. Returns ids.
local now = now_ms()
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[2]), id)
end
return ids
