-- Takes jobs off the list of deadlines whose record is gone or has ended; looks again, since a claim may have come between.
-- KEYS: deadlines, then one record each. ARGV: one id each.
for i = 2, #KEYS do
  local state = redis.call('HGET', KEYS[i], 'state')
  if not state or not is_open(state) then
    redis.call('ZREM', KEYS[1], ARGV[i - 1])
  end
end
return #KEYS - 1
