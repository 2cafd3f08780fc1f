-- Ids whose deadline has passed, oldest first.
-- KEYS: deadlines. ARGV: the most to return.
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms(), 'LIMIT', 0, ARGV[1])
