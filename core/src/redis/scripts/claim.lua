-- Says whether each job is to be run, and writes a missing record. Where it is to count, the job runs and has one attempt more;
-- otherwise the job is queued, also one that a worker had begun: its message has come again.
-- KEYS: deadlines, then the record and the idempotency key each.
-- ARGV: retention, most attempts, 1 to count or 0, then id, deadline, seed, fingerprint ('' where there is no idempotency key) each.
-- Returns per job the attempt that this is or that the next will be, or 0: has ended, -1: overdue, -2: started too often, -3: asked to stop.
local deadlines, retention, most, now = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), now_ms()
local counts = ARGV[3] == '1'

local function claim(key, idempotency_key, id, given_deadline, seed, fingerprint)
  local found = redis.call('HMGET', key, 'state', 'attempts', 'deadline', 'cancel', 'started', 'pending')
  local state, attempts = found[1], tonumber(found[2]) or 0
  local deadline = tonumber(found[3]) or given_deadline
  if state and not is_open(state) then return 0 end
  if attempts >= most then return -2 end
  if deadline <= now then return -1 end
  if found[4] then return -3 end
  if state then
    list(deadlines, id, deadline, retention, now)
  else
    create(deadlines, key, idempotency_key, id, deadline, seed, fingerprint, retention, now)
  end
  if counts then
    redis.call('HSET', key, 'state', 'running', 'attempts', attempts + 1, 'started', found[5] or now)
  else
    redis.call('HSET', key, 'state', 'queued')
  end
  if found[6] then
    redis.call('HDEL', key, 'pending')
  end
  return attempts + 1
end

local claims = {}
for i = 1, (#KEYS - 1) / 2 do
  local at = 4 * i
  claims[i] = claim(KEYS[2 * i], KEYS[2 * i + 1], ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3])
end
settle(deadlines, now)
return claims
