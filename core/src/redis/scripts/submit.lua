-- Writes records in state `queued` where there are none, unless another job has the same idempotency key.
-- KEYS: deadlines, then the record and the idempotency key each.
-- ARGV: retention, then id, deadline, seed, fingerprint ('' where there is no idempotency key) each.
-- Returns per job its id, or the id of the job that the same request made before, or '' where another request has the key.
local deadlines, retention, now = KEYS[1], tonumber(ARGV[1]), now_ms()

local function submit(key, once, id, deadline, seed, fingerprint)
  local found = fingerprint ~= '' and earlier(key, once, id, fingerprint)
  if found then return found end
  local state = redis.call('HGET', key, 'state')
  if not state then
    create(deadlines, key, once, id, deadline, seed, fingerprint, retention, now)
  end
  if not state or is_open(state) then
    list(deadlines, id, deadline, retention, now)
  end
  return id
end

local ids = {}
for i = 1, (#KEYS - 1) / 2 do
  local at = 4 * i - 2
  ids[i] = submit(KEYS[2 * i], KEYS[2 * i + 1], ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3])
end
settle(now)
return ids
