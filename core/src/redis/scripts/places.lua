-- Where unfinished jobs stand in their models' lines, counted from 1.
-- KEYS: per job its line, and the first record's name without its id. ARGV: one id each.
-- Returns per job its place, or 0 where it stands in no line.

-- A record that was evicted, or lost otherwise, leaves its id behind; sooner or later it comes to the front.
local function tidy(line, records)
  for _ = 1, 16 do
    local first = redis.call('ZRANGE', line, 0, 0)[1]
    if not first or redis.call('EXISTS', records .. first) == 1 then return end
    redis.call('ZREM', line, first)
  end
end

local places, tidied, records = {}, {}, KEYS[#KEYS]
for i = 1, #KEYS - 1 do
  local line = KEYS[i]
  if not tidied[line] then
    tidy(line, records)
    tidied[line] = true
  end
  local ahead = redis.call('ZRANK', line, ARGV[i])
  places[i] = ahead and ahead + 1 or 0
end
return places
