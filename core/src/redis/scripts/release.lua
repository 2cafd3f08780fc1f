-- Takes the last start of each running job back; one that was asked to stop ends here.
-- KEYS: deadlines, then one record each. ARGV: retention, then one id each.
local deadlines, retention, now = KEYS[1], tonumber(ARGV[1]), now_ms()
for i = 2, #KEYS do
  local found = redis.call('HMGET', KEYS[i], 'state', 'attempts', 'cancel', 'hook', 'model', 'number')
  if found[1] == 'running' then
    local attempts = math.max((tonumber(found[2]) or 0) - 1, 0)
    redis.call('HSET', KEYS[i], 'state', 'queued', 'attempts', attempts)
    if attempts == 0 then
      redis.call('HDEL', KEYS[i], 'started')
    end
    if found[3] then
      finish(deadlines, KEYS[i], ARGV[i], found[4], found[5], found[6], 'canceled', now, retention, {})
    end
  end
end
settle(deadlines, now)
return #KEYS - 1
