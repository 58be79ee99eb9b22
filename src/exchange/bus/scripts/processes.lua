#!lua flags=no-writes
-- Returns the records of the registry that have not ended, by name.
-- KEYS: records by name, names by when they end.

local now_ms = math.floor(microseconds() / 1000)
local names = redis.call('ZRANGEBYSCORE', KEYS[2], whole(now_ms), '+inf')
table.sort(names)
local records = {}
for place, name in ipairs(names) do
    records[place] = redis.call('HGET', KEYS[1], name)
end
return records
