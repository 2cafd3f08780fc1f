-- Ends a queued job, asks a running one to stop.
-- KEYS: deadlines, record. ARGV: retention, id.
-- Returns 'requested', or the state the job is in now; nothing for an unknown job.
local state = redis.call('HGET', KEYS[2], 'state')
if state == 'queued' then
  finish(KEYS[1], KEYS[2], ARGV[2], 'canceled', now_ms(), tonumber(ARGV[1]), {})
  return 'canceled'
end
if state == 'running' then
  redis.call('HSET', KEYS[2], 'cancel', 1)
  return 'requested'
end
return state
