-- Writes records in state `queued` where there are none, unless another job has the same idempotency key.
-- KEYS: deadlines, then the record and the idempotency key each.
-- ARGV: retention, milliseconds of a submitter's lease, then id, deadline, seed, fingerprint ('' where there is no idempotency key) each.
-- Returns per job its id and number, or the id of the job that the same request made before, or '' where another request has the key,
-- '-' where that job is not confirmed, '+' and its id where its submitter's lease is over and this job's submitter has it, with this job's seed.
local deadlines, retention, now = KEYS[1], tonumber(ARGV[1]), now_ms()
local lease_end = string.format('%.0f ', now + tonumber(ARGV[2]))

-- Writes a record for that submitter; its number.
local function write(key, idempotency_key, id, deadline, seed, fingerprint, submitter)
  local number = create(deadlines, key, idempotency_key, id, deadline, seed, fingerprint, retention, now)
  if fingerprint ~= '' then
    redis.call('HSET', key, 'pending', lease_end .. submitter)
  end
  return number
end

-- The reply to a repeat whose key another job has. A job that is taken over is the repeat's from then on, but for its id.
local function repeated(record, idempotency_key, other, id, deadline, seed, fingerprint)
  local found = redis.call('HMGET', record, 'state', 'pending', 'model', 'number')
  if found[1] ~= 'queued' or not found[2] then return other end
  local lease, submitter = string.match(found[2], '^(%d+) (%S+)$')
  if lease and tonumber(lease) > now and submitter ~= id then return '-' end
  redis.call('HSET', record, 'pending', lease_end .. id)
  redis.call('DEL', record)
  if found[4] then
    count('submitted:' .. found[3], -1)
  end
  -- The id is the first field of a seed.
  local at = string.find(seed, id, 1, true)
  seed = string.sub(seed, 1, at - 1) .. other .. string.sub(seed, at + #id)
  write(record, idempotency_key, other, deadline, seed, fingerprint, id)
  -- Its first message may still be in the queue: its position does not rise.
  if found[4] then
    redis.call('HSET', record, 'number', found[4])
  end
  return '+' .. other
end

local function submit(key, idempotency_key, id, deadline, seed, fingerprint)
  local found = fingerprint ~= '' and earlier(key, idempotency_key, id, fingerprint)
  if found == '' then return found end
  if found then
    return repeated(string.sub(key, 1, #key - #id) .. found, idempotency_key, found, id, deadline, seed, fingerprint)
  end
  local state, number = unpack(redis.call('HMGET', key, 'state', 'number'))
  if not state then
    number = write(key, idempotency_key, id, deadline, seed, fingerprint, id)
  elseif is_open(state) then
    list(deadlines, id, deadline, retention, now)
  end
  return id .. ' ' .. (number or '')
end

local ids = {}
for i = 1, (#KEYS - 1) / 2 do
  local at = 4 * i - 1
  ids[i] = submit(KEYS[2 * i], KEYS[2 * i + 1], ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3])
end
settle(deadlines, now)
return ids
