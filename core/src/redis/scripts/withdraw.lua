-- Forgets a job that is still queued.
-- KEYS: deadlines, record. ARGV: retention, id.
local found = redis.call('HMGET', KEYS[2], 'state', 'seed')
if found[1] == 'queued' then
  local told = cjson.decode(found[2])
  redis.call('DEL', KEYS[2])
  redis.call('ZREM', KEYS[1], ARGV[2])
  redis.call('ZREM', line_of(KEYS[1], told.model), ARGV[2])
  redis.call('ZREM', owned(KEYS[1], told), ARGV[2])
end
return 0
