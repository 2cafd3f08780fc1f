-- What every script below begins with. Names here are local to the one script they are put before.
--
-- A record is a hash: seed (JSON), deadline, state, attempts, expires, model, number (records of earlier versions have none);
-- later started, finished, cost (JSON), cached, answer (JSON: the output or the failure), cancel (present once a running job was
-- asked to stop), hook (the states its webhook is delivered for, between spaces) and delivery (JSON: what has become of that).
-- A job with an idempotency key has `pending` until it is confirmed: the end of the submitter's lease, and the submitter's id.
-- One that expires before that has no client: it sends no webhook and does not keep its key.
-- Times are Unix milliseconds by this server's clock. Each script's first write is one that a full server refuses, so
-- that a refusal leaves nothing half done.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function is_open(state)
  return state == 'queued' or state == 'running'
end

-- Names beside the list of deadlines, under the same prefix: webhooks, an owner's jobs, the counts of jobs.
local function beside(deadlines, name)
  return string.sub(deadlines, 1, #deadlines - #'deadlines') .. name
end

-- Keeps a list at least until then.
local function keep(list, expires, now)
  local left = redis.call('PTTL', list)
  if left < 0 or left < expires - now then
    redis.call('PEXPIREAT', list, expires)
  end
end

-- An owner's jobs by id, which is by age, the newest of them only; nobody's have a list as well.
local most_owned = 10000
local function owned(deadlines, job)
  return beside(deadlines, 'owner:' .. (job.owner or ''))
end

-- What a script adds to sorted sets and takes out of them, per set: `settle` does it all at its end, so that a set costs one
-- call however many jobs the script is about. A set lives until the last of its members' times.
local added, removed = {}, {}
local function add(set, score, id, expires)
  local more = added[set] or {expires = 0}
  added[set] = more
  more[#more + 1] = score
  more[#more + 1] = id
  more.expires = math.max(more.expires, expires)
  return more
end

local function remove(set, id)
  local gone = removed[set] or {}
  removed[set] = gone
  gone[#gone + 1] = id
end

-- Lua unpacks no more than some thousands at once.
local unpacked = 1000
local function call_with(command, set, arguments)
  for from = 1, #arguments, unpacked do
    redis.call(command, set, unpack(arguments, from, math.min(from + unpacked - 1, #arguments)))
  end
end

-- What a script adds to the hash `counts`: per model how many jobs were submitted, and how many of these have ended. A withdrawn
-- job was never submitted: thousands of refusals a second are no progress. `settle` does this at its end, too.
local submitted, counted = {}, {}
local function count(field, by)
  counted[field] = (counted[field] or 0) + by
  return counted[field]
end

-- A job's number: how many of its model were submitted, itself included.
local function next_number(deadlines, model)
  local field = 'submitted:' .. model
  submitted[field] = submitted[field] or tonumber(redis.call('HGET', beside(deadlines, 'counts'), field)) or 0
  return submitted[field] + count(field, 1)
end

local function settle(deadlines, now)
  for set, more in pairs(added) do
    call_with('ZADD', set, more)
    if more.most then
      redis.call('ZREMRANGEBYRANK', set, 0, -1 - more.most)
    end
    keep(set, more.expires, now)
  end
  for set, gone in pairs(removed) do
    call_with('ZREM', set, gone)
  end
  local counts = beside(deadlines, 'counts')
  for field, by in pairs(counted) do
    redis.call('HINCRBY', counts, field, by)
  end
  if next(submitted) then
    keep(counts, added[deadlines].expires, now)
  end
end

-- The job that has the key, as long as its record is there; nothing where the key is free or this job's own, or where that
-- job expired unconfirmed.
local function earlier(key, idempotency_key, id, fingerprint)
  local taken = redis.call('GET', idempotency_key)
  if not taken then return nil end
  local other, wanted = string.match(taken, '^(%S+) (%S+)$')
  local records = string.sub(key, 1, #key - #id)
  if not other or other == id then return nil end
  local found = redis.call('HMGET', records .. other, 'state', 'pending')
  if not found[1] or found[1] == 'expired' and found[2] then return nil end
  return wanted == fingerprint and other or ''
end

-- Lists an unfinished job under its deadline; the list outlives its last record.
local function list(deadlines, id, deadline, retention, now)
  add(deadlines, deadline, id, math.max(deadline, now) + retention)
end

-- Writes a record in state `queued`, takes its idempotency key if that is free, and lists it for its owner and under its
-- deadline; its number. The fingerprint is '' where there is no idempotency key.
local function create(deadlines, key, idempotency_key, id, deadline, seed, fingerprint, retention, now)
  local expires, job = deadline + retention, cjson.decode(seed)
  local number = next_number(deadlines, job.model)
  redis.call('HSET', key, 'seed', seed, 'deadline', deadline, 'state', 'queued', 'attempts', 0, 'expires', expires,
    'model', job.model, 'number', number)
  redis.call('PEXPIREAT', key, expires)
  if type(job.webhook) == 'table' then
    redis.call('HSET', key, 'hook', ' ' .. table.concat(job.webhook.events, ' ') .. ' ')
  end
  if fingerprint ~= '' and not earlier(key, idempotency_key, id, fingerprint) then
    redis.call('SET', idempotency_key, id .. ' ' .. fingerprint, 'PXAT', expires)
  end
  add(owned(deadlines, job), 0, id, math.max(expires, now + retention)).most = most_owned
  list(deadlines, id, deadline, retention, now)
  return number
end

-- A record is kept for so long after its job's end until its webhook has ended: an hour more than the day it is tried for.
local hooked_ms = 90000000

-- Makes the webhook of an ended job due, where it has one for that state.
local function notify(deadlines, key, id, hook, state, now, expires)
  if hook and string.find(hook, ' ' .. state .. ' ', 1, true) then
    local kept_until = math.max(expires, now + hooked_ms)
    redis.call('PEXPIREAT', key, kept_until)
    add(beside(deadlines, 'webhooks'), now, id, kept_until)
  end
end

-- Puts a record into a terminal state: one with that hook, model and number. `more` are further fields and values.
local function finish(deadlines, key, id, hook, model, number, state, now, retention, more)
  local expires = now + retention
  redis.call('HSET', key, 'state', state, 'finished', now, 'expires', expires, unpack(more))
  redis.call('PEXPIREAT', key, expires)
  remove(deadlines, id)
  if number then
    count('ended:' .. model, 1)
  end
  notify(deadlines, key, id, hook, state, now, expires)
end

