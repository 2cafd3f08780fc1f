-- Says that a process lives, and forgets those of its role that are gone.
-- KEYS: the role's index, the process. ARGV: id, its status (JSON), milliseconds until it is gone. Returns the time now.
local now, stay = now_ms(), tonumber(ARGV[3])
redis.call('SET', KEYS[2], ARGV[2], 'PX', stay)
redis.call('ZADD', KEYS[1], now + stay, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], stay)
return now
