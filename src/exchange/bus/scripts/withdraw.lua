#!lua flags=allow-oom
-- Takes a process out of the registry.
-- KEYS: records by name, names by when they end.
-- ARGV: name.
-- Returns OK.

redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
return {'OK'}
