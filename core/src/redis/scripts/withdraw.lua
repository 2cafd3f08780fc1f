-- Forgets a job that is still queued.
-- KEYS: deadlines, record. ARGV: retention, id.
if redis.call('HGET', KEYS[2], 'state') == 'queued' then
  redis.call('DEL', KEYS[2])
  redis.call('ZREM', KEYS[1], ARGV[2])
end
return 0
