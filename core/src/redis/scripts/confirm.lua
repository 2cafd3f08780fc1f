-- Notes that the broker has the message of a job. The webhook of a job that has expired meanwhile becomes due.
-- KEYS: deadlines, record. ARGV: retention, id.
local found, now = redis.call('HMGET', KEYS[2], 'pending', 'state', 'hook', 'expires'), now_ms()
if found[1] then
  if found[2] == 'expired' then
    notify(KEYS[1], KEYS[2], ARGV[2], found[3], found[2], now, tonumber(found[4]))
    settle(KEYS[1], now)
  end
  redis.call('HDEL', KEYS[2], 'pending')
end
return 0
