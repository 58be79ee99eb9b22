#!lua flags=allow-oom
-- Lets the writers write to this server process; ends a stop only where that is asked for. If it is another process
-- than before, the epoch rises: a matcher that executed entries which the new process may not have, or has others in the
-- place of, must not commit its answers; it starts again from a checkpoint.
-- KEYS: head.
-- ARGV: run id of the process that was found to be complete, resume (1 or 0).
-- Returns OK.

if redis.call('EXISTS', KEYS[1]) == 0 then
    return not_initialised(KEYS[1])
end
local run_id = server_run_id()
if run_id ~= ARGV[1] then
    return refuse('NOT_APPROVED', 'server process ' .. ARGV[1] .. ' was to be approved, but this is ' .. run_id
        .. ': look again at what it has', 100)
end
local before = redis.call('HGET', KEYS[1], 'run_id')
if before ~= run_id then
    redis.call('HSET', KEYS[1], 'run_id', run_id)
    if before ~= '' then
        redis.call('HINCRBY', KEYS[1], 'epoch', 1)
    end
end
if ARGV[2] == '1' then
    redis.call('HSET', KEYS[1], 'stopped', '')
end
return {'OK'}
