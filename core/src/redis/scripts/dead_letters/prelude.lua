-- What every script of the dead letters begins with.
--
-- A dead letter is a hash: meta (JSON: what lists show), body (the job's message, or bytes that are none) and bytes (of the
-- body). KEYS: the ids by time of death, the bytes of all bodies, what the names of the hashes begin with.
local ids, total, records = KEYS[1], KEYS[2], KEYS[3]

-- Deletes a dead letter; its bytes, or nothing where there was none behind the id.
local function forget(id)
  local bytes = redis.call('HGET', records .. id, 'bytes')
  redis.call('DEL', records .. id)
  redis.call('ZREM', ids, id)
  return tonumber(bytes)
end
