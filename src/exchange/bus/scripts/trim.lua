#!lua flags=allow-oom
-- Removes entries up to a position, which must be executed, from both streams.
-- KEYS: head, orders, executions.
-- ARGV: position, orders bytes total and executions bytes total up to it.
-- Returns OK.

local head = redis.call('HMGET', KEYS[1], 'run_id', 'stopped', 'executions_n', 'trimmed_n')
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
local n = tonumber(ARGV[1])
if n > tonumber(head[3]) then
    return refuse('POSITION', 'entry ' .. ARGV[1] .. ' is not executed yet, the last one that is has position '
        .. head[3] .. '; only what is executed and settled may be trimmed')
end
if n <= tonumber(head[4]) then
    return {'OK'}
end
redis.call('XTRIM', KEYS[2], 'MINID', '=', whole(n + 1) .. '-0')
redis.call('XTRIM', KEYS[3], 'MINID', '=', whole(n + 1) .. '-0')
redis.call('HSET', KEYS[1], 'trimmed_n', ARGV[1], 'trimmed_bytes', whole(tonumber(ARGV[2]) + tonumber(ARGV[3])))
return {'OK'}
