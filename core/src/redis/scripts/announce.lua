-- Says that a worker lives, and forgets those that are gone.
-- KEYS: workers, the worker. ARGV: id, its status (JSON), milliseconds until it is gone. Returns the time now.
local now, stay = now_ms(), tonumber(ARGV[3])
redis.call('SET', KEYS[2], ARGV[2], 'PX', stay)
redis.call('ZADD', KEYS[1], now + stay, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], stay)
return now
