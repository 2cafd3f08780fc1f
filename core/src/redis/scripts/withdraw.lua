-- Forgets a job that is still queued; one with an idempotency key only where it is unconfirmed and this submitter's.
-- KEYS: deadlines, record. ARGV: retention, id, submitter.
local found = redis.call('HMGET', KEYS[2], 'state', 'seed', 'pending', 'number')
if found[1] == 'queued' then
  local job = cjson.decode(found[2])
  if job.once and string.match(found[3] or '', ' (%S+)$') ~= ARGV[3] then return 0 end
  redis.call('DEL', KEYS[2])
  remove(KEYS[1], ARGV[2])
  remove(owned(KEYS[1], job), ARGV[2])
  if found[4] then
    count('submitted:' .. job.model, -1)
  end
  settle(KEYS[1], now_ms())
end
return 0
