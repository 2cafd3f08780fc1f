-- Stores a dead letter unless it is there; past the bounds the oldest are deleted. The first write is one that a full server
-- refuses, so that nothing is deleted for a dead letter that is not stored.
-- ARGV: id, time of death, meta, body, most dead letters, most bytes.
local id, body, most, most_bytes = ARGV[1], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
if redis.call('EXISTS', records .. id) == 1 then return 0 end
redis.call('HSET', records .. id, 'meta', ARGV[3], 'body', body, 'bytes', #body)
redis.call('ZADD', ids, ARGV[2], id)
local left, bytes = redis.call('ZCARD', ids), (redis.call('GET', total) or 0) + #body
while left > most or bytes > most_bytes and left > 1 do
  bytes = bytes - (forget(redis.call('ZRANGE', ids, 0, 0)[1]) or 0)
  left = left - 1
end
-- The bytes of a hash that was lost are never subtracted; they count until no other is left.
redis.call('SET', total, left > 1 and bytes or #body)
return 1
