-- Ends a queued job, asks a running one to stop.
-- KEYS: deadlines, record. ARGV: retention, id.
-- Returns 'requested', or the state the job is in now; nothing for an unknown job.
local found, now = redis.call('HMGET', KEYS[2], 'state', 'hook', 'model', 'number'), now_ms()
local state = found[1]
if state == 'queued' then
  finish(KEYS[1], KEYS[2], ARGV[2], found[2], found[3], found[4], 'canceled', now, tonumber(ARGV[1]), {})
  settle(KEYS[1], now)
  return 'canceled'
end
if state == 'running' then
  redis.call('HSET', KEYS[2], 'cancel', 1)
  return 'requested'
end
return state
