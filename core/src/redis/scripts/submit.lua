-- Writes records in state `queued` where there are none, unless another job has the same idempotency key.
-- KEYS: deadlines, then the record and the idempotency key each.
-- ARGV: retention, then id, deadline, seed, fingerprint ('' where there is no idempotency key) each.
-- Returns per job its id, or the id of the job that the same request made before, or '' where another request has the key.
local deadlines, retention, now = KEYS[1], tonumber(ARGV[1]), now_ms()

-- The job that has the key, as long as its record is there; nothing where the key is free or this job's own.
local function earlier(key, once, id, fingerprint)
  local taken = redis.call('GET', once)
  if not taken then return nil end
  local other, wanted = string.match(taken, '^(%S+) (%S+)$')
  local records = string.sub(key, 1, #key - #id)
  if not other or other == id or redis.call('EXISTS', records .. other) == 0 then return nil end
  return wanted == fingerprint and other or ''
end

local function submit(key, once, id, deadline, seed, fingerprint)
  local found = fingerprint ~= '' and earlier(key, once, id, fingerprint)
  if found then return found end
  local state = redis.call('HGET', key, 'state')
  if not state then
    create(deadlines, key, id, seed, deadline, retention, now)
    if fingerprint ~= '' then
      redis.call('SET', once, id .. ' ' .. fingerprint, 'PXAT', deadline + retention)
    end
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
