-- What every script below begins with. Names here are local to the one script they are put before.
--
-- A record is a hash: seed (JSON), deadline, state, attempts, expires; later started, finished, cost (JSON), cached,
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

-- Writes a record in state `queued`.
local function create(key, seed, deadline, retention)
  local expires = deadline + retention
  redis.call('HSET', key, 'seed', seed, 'deadline', deadline, 'state', 'queued', 'attempts', 0, 'expires', expires)
  redis.call('PEXPIREAT', key, expires)
  local hook = string.find(seed, '"webhook":', 1, true) and cjson.decode(seed).webhook
  if hook then
    redis.call('HSET', key, 'hook', ' ' .. table.concat(hook.events, ' ') .. ' ')
  end
end

-- Lists an unfinished job under its deadline; the list outlives its last record.
local function list(deadlines, id, deadline, retention, now)
  redis.call('ZADD', deadlines, deadline, id)
  local expires = deadline + retention
  local left = redis.call('PTTL', deadlines)
  if left < 0 or left < expires - now then
    redis.call('PEXPIREAT', deadlines, math.max(expires, now + retention))
  end
end

-- Puts a record into a terminal state; `more` are further fields and values.
local function finish(deadlines, key, id, state, now, retention, more)
  local expires = now + retention
  redis.call('HSET', key, 'state', state, 'finished', now, 'expires', expires, unpack(more))
  redis.call('PEXPIREAT', key, expires)
  redis.call('ZREM', deadlines, id)
  local hook = redis.call('HGET', key, 'hook')
  if hook and string.find(hook, ' ' .. state .. ' ', 1, true) then
    -- Beside the list of deadlines, under the same prefix.
    local webhooks = string.gsub(deadlines, 'deadlines$', 'webhooks')
    redis.call('ZADD', webhooks, now, id)
    redis.call('PEXPIREAT', webhooks, expires)
  end
end

