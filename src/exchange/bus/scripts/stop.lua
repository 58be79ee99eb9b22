#!lua flags=allow-oom
-- Stops the writers of a shard. The first message stays: what comes after it is its consequence.
-- KEYS: head.
-- ARGV: message.
-- Returns OK.

local message = redis.call('HGET', KEYS[1], 'stopped')
if not message then
    return not_initialised(KEYS[1])
end
if message == '' then
    redis.call('HSET', KEYS[1], 'stopped', ARGV[1])
end
return {'OK'}
