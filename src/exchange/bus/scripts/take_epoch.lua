#!lua flags=allow-oom
-- Raises the epoch: whoever had the shard before can commit no more.
-- KEYS: head.
-- Returns OK, epoch.

local head = redis.call('HMGET', KEYS[1], 'run_id', 'stopped', 'epoch')
if not head[3] then
    return not_initialised(KEYS[1])
end
local run_id = server_run_id()
if head[1] ~= run_id then
    return not_approved(head[1], run_id)
end
if head[2] ~= '' then
    return stopped(head[2])
end
return {'OK', redis.call('HINCRBY', KEYS[1], 'epoch', 1)}
