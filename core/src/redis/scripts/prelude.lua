-- What every script below begins with. Names here are local to the one script they are put before.
--
-- A record is a hash: seed (JSON), deadline, state, attempts, expires, model; later started, finished, cost (JSON), cached,
-- answer (JSON: the output or the failure), cancel (present once a running job was asked to stop), hook (the states its
-- webhook is told of, between spaces) and delivery (JSON: what has become of that).
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

-- Names beside the list of deadlines, under the same prefix: webhooks, an owner's jobs, a model's line.
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
local function owned(deadlines, told)
  return beside(deadlines, 'owner:' .. (told.owner or ''))
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

local function settle(now)
  for set, more in pairs(added) do
    call_with('ZADD', set, more)
    if more.most then
      redis.call('ZREMRANGEBYRANK', set, 0, -1 - more.most)
    end
    if more.since then
      redis.call('ZREMRANGEBYSCORE', set, '-inf', string.format('%.0f', more.since))
    end
    keep(set, more.expires, now)
  end
  for set, gone in pairs(removed) do
    call_with('ZREM', set, gone)
  end
end

-- A model's unfinished jobs in the order of submission. Scores are the microseconds of that moment, and always grow. No job
-- lives longer than a week, the longest deadline there is: what is left of an older one has lost its record.
local longest_us = 604860 * 1000000
local function line_of(deadlines, model)
  return beside(deadlines, 'line:' .. model)
end

local function join(line, id, expires, now)
  local last = added[line] and added[line].last
    or tonumber(redis.call('ZRANGE', line, -1, -1, 'WITHSCORES')[2]) or 0
  local score = math.max(now * 1000, last + 1)
  local more = add(line, string.format('%.0f', score), id, expires)
  more.last, more.since = score, score - longest_us
end

-- The job that has the key, as long as its record is there; nothing where the key is free or this job's own, or where that
-- job expired unconfirmed.
local function earlier(key, once, id, fingerprint)
  local taken = redis.call('GET', once)
  if not taken then return nil end
  local other, wanted = string.match(taken, '^(%S+) (%S+)$')
  local records = string.sub(key, 1, #key - #id)
  if not other or other == id then return nil end
  local found = redis.call('HMGET', records .. other, 'state', 'pending')
  if not found[1] or found[1] == 'expired' and found[2] then return nil end
  return wanted == fingerprint and other or ''
end

-- Writes a record in state `queued`, takes its idempotency key if that is free, lists it for its owner and puts it into its
-- model's line. The fingerprint is '' where there is no idempotency key.
local function create(deadlines, key, once, id, deadline, seed, fingerprint, retention, now)
  local expires, told = deadline + retention, cjson.decode(seed)
  redis.call('HSET', key, 'seed', seed, 'deadline', deadline, 'state', 'queued', 'attempts', 0, 'expires', expires,
    'model', told.model)
  redis.call('PEXPIREAT', key, expires)
  if type(told.webhook) == 'table' then
    redis.call('HSET', key, 'hook', ' ' .. table.concat(told.webhook.events, ' ') .. ' ')
  end
  if fingerprint ~= '' and not earlier(key, once, id, fingerprint) then
    redis.call('SET', once, id .. ' ' .. fingerprint, 'PXAT', expires)
  end
  local listed_until = math.max(expires, now + retention)
  add(owned(deadlines, told), 0, id, listed_until).most = most_owned
  join(line_of(deadlines, told.model), id, listed_until, now)
end

-- Lists an unfinished job under its deadline; the list outlives its last record.
local function list(deadlines, id, deadline, retention, now)
  add(deadlines, deadline, id, math.max(deadline, now) + retention)
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

-- Puts a record into a terminal state: one with that hook and model. `more` are further fields and values.
local function finish(deadlines, key, id, hook, model, state, now, retention, more)
  local expires = now + retention
  redis.call('HSET', key, 'state', state, 'finished', now, 'expires', expires, unpack(more))
  redis.call('PEXPIREAT', key, expires)
  remove(deadlines, id)
  if model then
    remove(line_of(deadlines, model), id)
  end
  notify(deadlines, key, id, hook, state, now, expires)
end

