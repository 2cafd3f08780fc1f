-- Forgets a job that is still queued; one with an idempotency key only where it is unconfirmed and this submitter's.
-- KEYS: deadlines, record. ARGV: retention, id, submitter.
local found = redis.call('HMGET', KEYS[2], 'state', 'seed', 'pending')
if found[1] == 'queued' then
  local told = cjson.decode(found[2])
  if told.once and string.match(found[3] or '', ' (%S+)$') ~= ARGV[3] then return 0 end
  redis.call('DEL', KEYS[2])
  redis.call('ZREM', KEYS[1], ARGV[2])
  redis.call('ZREM', line_of(KEYS[1], told.model), ARGV[2])
  redis.call('ZREM', owned(KEYS[1], told), ARGV[2])
end
return 0
