#!lua flags=allow-oom
-- Makes the head of a shard that has no entries; of one that is there, changes the limits.
-- KEYS: head, orders, executions.
-- ARGV: environment, shard, genesis hash, most commands unprocessed, bytes unprocessed, bytes untrimmed, frames per
--       second.
-- Returns OK, new (1 or 0).

local head = redis.call('HMGET', KEYS[1], 'environment', 'shard', 'genesis_hash')
local limits = {'commands_unprocessed_max', ARGV[4], 'bytes_unprocessed_max', ARGV[5], 'bytes_untrimmed_max', ARGV[6],
    'frames_per_second_max', ARGV[7]}
if head[1] then
    if head[1] ~= ARGV[1] or head[2] ~= ARGV[2] or head[3] ~= ARGV[3] then
        return refuse('WRONG_SHARD', KEYS[1] .. ' is of shard ' .. head[2] .. ' of environment ' .. head[1]
            .. ' with genesis ' .. head[3] .. ', not of shard ' .. ARGV[2] .. ' of ' .. ARGV[1] .. ' with ' .. ARGV[3]
            .. '; use another server or another tag')
    end
    redis.call('HSET', KEYS[1], unpack(limits))
    return {'OK', 0}
end
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then
    return refuse('INCONSISTENT', 'there is no ' .. KEYS[1] .. ', but there are streams: their head was deleted; '
        .. 'restore the bus from its files')
end
redis.call('HSET', KEYS[1], 'environment', ARGV[1], 'shard', ARGV[2], 'genesis_hash', ARGV[3], 'run_id', '',
    'stopped', '', 'orders_n', '0', 'orders_t_us', '0', 'orders_commands', '0', 'orders_bytes', '0',
    'executions_n', '0', 'executions_hash', ARGV[3], 'executions_commands', '0', 'executed_bytes', '0',
    'executions_bytes', '0', 'epoch', '0', 'trimmed_n', '0', 'trimmed_bytes', '0', 'rate_window', '0',
    'rate_frames', '0', 'rate_frames_before', '0', unpack(limits))
return {'OK', 1}
