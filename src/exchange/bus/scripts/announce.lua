#!lua flags=allow-oom
-- Puts a process into the registry, for so long.
-- KEYS: records by name, names by when they end.
-- ARGV: name, record, milliseconds to live.
-- Returns OK.

local FORGOTTEN_AFTER_MS = 60000

local now_ms = math.floor(microseconds() / 1000)
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', whole(now_ms - FORGOTTEN_AFTER_MS))) do
    redis.call('ZREM', KEYS[2], name)
    redis.call('HDEL', KEYS[1], name)
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], whole(now_ms + tonumber(ARGV[3])), ARGV[1])
return {'OK'}
