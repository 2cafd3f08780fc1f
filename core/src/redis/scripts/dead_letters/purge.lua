-- Deletes all dead letters; how many there were.
local purged = 0
for _, id in ipairs(redis.call('ZRANGE', ids, 0, -1)) do
  purged = purged + redis.call('DEL', records .. id)
end
redis.call('DEL', ids, total)
return purged
