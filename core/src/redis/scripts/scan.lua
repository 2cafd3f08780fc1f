-- A part of an owner's list: the jobs in a state, newest first. Jobs without a readable record are among them, to be taken off it.
-- KEYS: the list, the first record's name without its id. ARGV: where to begin, the most to scan, the most to return, the state
-- or '' for every job.
-- Returns the last id that was scanned, or nothing where there are no more, and the ids.
local from, scanned, limit, wanted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local ids = redis.call('ZRANGE', KEYS[1], from, '-', 'BYLEX', 'REV', 'LIMIT', 0, scanned + 1)
local found = {}
for i = 1, #ids do
  if i > scanned or #found == limit then return {ids[i - 1], found} end
  local state = wanted ~= '' and redis.pcall('HGET', KEYS[2] .. ids[i], 'state')
  if state == wanted or type(state) ~= 'string' then
    found[#found + 1] = ids[i]
  end
end
return {false, found}
