-- What every script below begins with. Names here are local to the one script they are put before.
--
-- A record is a hash: seed (JSON), deadline, state, attempts, expires, model; later started, finished, cost (JSON), cached,
-- answer (JSON: the output or the failure), cancel (present once a running job was asked to stop), hook (the states its
-- webhook is told of, between spaces) and delivery (JSON: what has become of that).
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

-- A model's unfinished jobs in the order of submission. Scores are the microseconds of that moment, and always grow. No job
-- lives longer than a day: what is left of an older one has lost its record.
local day_us = 86460 * 1000000
local function line_of(deadlines, model)
  return beside(deadlines, 'line:' .. model)
end

local function join(line, id, now)
  local last = redis.call('ZRANGE', line, -1, -1, 'WITHSCORES')[2]
  local score = math.max(now * 1000, (tonumber(last) or 0) + 1)
  redis.call('ZADD', line, string.format('%.0f', score), id)
  redis.call('ZREMRANGEBYSCORE', line, '-inf', string.format('%.0f', score - day_us))
end

-- Writes a record in state `queued`, lists it for its owner and puts it into its model's line.
local function create(deadlines, key, id, seed, deadline, retention, now)
  local expires, told = deadline + retention, cjson.decode(seed)
  redis.call('HSET', key, 'seed', seed, 'deadline', deadline, 'state', 'queued', 'attempts', 0, 'expires', expires,
    'model', told.model)
  redis.call('PEXPIREAT', key, expires)
  if type(told.webhook) == 'table' then
    redis.call('HSET', key, 'hook', ' ' .. table.concat(told.webhook.events, ' ') .. ' ')
  end
  local list, line = owned(deadlines, told), line_of(deadlines, told.model)
  local listed_until = math.max(expires, now + retention)
  redis.call('ZADD', list, 0, id)
  redis.call('ZREMRANGEBYRANK', list, 0, -1 - most_owned)
  keep(list, listed_until, now)
  join(line, id, now)
  keep(line, listed_until, now)
end

-- Lists an unfinished job under its deadline; the list outlives its last record.
local function list(deadlines, id, deadline, retention, now)
  redis.call('ZADD', deadlines, deadline, id)
  keep(deadlines, math.max(deadline + retention, now + retention), now)
end

-- Puts a record into a terminal state; `more` are further fields and values.
local function finish(deadlines, key, id, state, now, retention, more)
  local expires = now + retention
  redis.call('HSET', key, 'state', state, 'finished', now, 'expires', expires, unpack(more))
  redis.call('PEXPIREAT', key, expires)
  redis.call('ZREM', deadlines, id)
  local found = redis.call('HMGET', key, 'hook', 'model')
  if found[2] then
    redis.call('ZREM', line_of(deadlines, found[2]), id)
  end
  if found[1] and string.find(found[1], ' ' .. state .. ' ', 1, true) then
    local webhooks = beside(deadlines, 'webhooks')
    redis.call('ZADD', webhooks, now, id)
    redis.call('PEXPIREAT', webhooks, expires)
  end
end

