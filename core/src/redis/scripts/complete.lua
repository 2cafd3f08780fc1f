-- Puts each job that has not ended into a terminal state.
-- KEYS: deadlines, then one record each. ARGV: retention, then id, state, cost, cached, answer ('' for none) each.
-- Returns per job 1 where this call ended it, else 0.
local deadlines, retention, now = KEYS[1], tonumber(ARGV[1]), now_ms()

local function complete(key, id, state, cost, cached, answer)
  local found = redis.call('HMGET', key, 'state', 'cancel', 'hook', 'model', 'number', 'pending')
  if not found[1] or not is_open(found[1]) then return 0 end
  local more = {'cost', cost}
  if found[2] then
    state = 'canceled'
  elseif answer == '' then
    more = {'cost', cost, 'cached', cached}
  else
    more = {'cost', cost, 'cached', cached, 'answer', answer}
  end
  local is_unknown = state == 'expired' and found[6]
  finish(deadlines, key, id, not is_unknown and found[3], found[4], found[5], state, now, retention, more)
  return 1
end

local done = {}
for i = 2, #KEYS do
  local at = 5 * i - 8
  done[i - 1] = complete(KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
end
settle(deadlines, now)
return done
