-- Writes records in state `queued` where there are none.
-- KEYS: deadlines, then one record each. ARGV: retention, then id, deadline, seed each.
local deadlines, retention, now = KEYS[1], tonumber(ARGV[1]), now_ms()
for i = 2, #KEYS do
  local id, deadline, seed = ARGV[3 * i - 4], tonumber(ARGV[3 * i - 3]), ARGV[3 * i - 2]
  local state = redis.call('HGET', KEYS[i], 'state')
  if not state then
    create(KEYS[i], seed, deadline, retention)
  end
  if not state or is_open(state) then
    list(deadlines, id, deadline, retention, now)
  end
end
return #KEYS - 1
