-- Notes what has become of a job's webhook.
-- KEYS: webhooks, record. ARGV: id, delivery (JSON; '' where it was not tried), milliseconds until the next try ('' where there is none).
local there = redis.call('EXISTS', KEYS[2]) == 1
if there and ARGV[2] ~= '' then
  redis.call('HSET', KEYS[2], 'delivery', ARGV[2])
end
if there and ARGV[3] ~= '' then
  redis.call('ZADD', KEYS[1], 'XX', now_ms() + tonumber(ARGV[3]), ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
  if there then
    redis.call('PEXPIREAT', KEYS[2], redis.call('HGET', KEYS[2], 'expires'))
  end
end
return 0
