#!lua flags=allow-oom
-- Appends execution frames behind the position and hash that the matcher stands at, and hands them out.
-- KEYS: head, executions.
-- ARGV: epoch, position and hash before, number of frames, hash after, commands total, orders bytes total, executions
--       bytes total, start of the names of channels, most bytes that are handed out at once; then for every frame:
--       frame, stamp, ingress in hex or nothing.
-- Returns OK, repeated (1 or 0).

local FIRST = 10

local head = redis.call('HMGET', KEYS[1], 'run_id', 'stopped', 'epoch', 'executions_n', 'executions_hash', 'orders_n',
    'trimmed_n')
if not head[4] then
    return not_initialised(KEYS[1])
end
local run_id = server_run_id()
if head[1] ~= run_id then
    return not_approved(head[1], run_id)
end
if head[3] ~= ARGV[1] then
    return refuse('FENCED', 'the shard is served under epoch ' .. head[3] .. ', this matcher has ' .. ARGV[1]
        .. ': another one has taken over')
end
local executions_n, after_n, frames = tonumber(head[4]), tonumber(ARGV[2]), tonumber(ARGV[4])
if executions_n == after_n + frames and head[5] == ARGV[5] then
    return {'OK', 1}
end
if head[2] ~= '' then
    return stopped(head[2])
end
if executions_n ~= after_n or head[5] ~= ARGV[3] then
    return refuse('POSITION', KEYS[2] .. ' stands at ' .. head[4] .. ' with hash ' .. head[5] .. ', the matcher at '
        .. ARGV[2] .. ' with hash ' .. ARGV[3])
end
if after_n + frames > tonumber(head[6]) then
    return refuse('POSITION', 'entry ' .. whole(after_n + frames) .. ' is answered, but the last one is ' .. head[6])
end
if redis.call('XLEN', KEYS[2]) ~= executions_n - tonumber(head[7]) then
    return refuse('INCONSISTENT', KEYS[2] .. ' has ' .. redis.call('XLEN', KEYS[2]) .. ' entries, its head says '
        .. head[4] .. ' less ' .. head[7] .. ' that were trimmed; something else than the scripts wrote or deleted')
end

for place = 1, frames do
    local at = FIRST + 3 * place - 2
    redis.call('XADD', KEYS[2], whole(after_n + place) .. '-0', 'f', ARGV[at], 'x', ARGV[at + 1])
end
redis.call('HSET', KEYS[1], 'executions_n', whole(after_n + frames), 'executions_hash', ARGV[5],
    'executions_commands', ARGV[6], 'executed_bytes', ARGV[7], 'executions_bytes', ARGV[8])
-- A hint: who misses it reads the stream. A frame too large for the subscriber's buffer is announced without itself.
for place = 1, frames do
    local at = FIRST + 3 * place - 2
    if ARGV[at + 2] ~= '' then
        local frame = ARGV[at]
        if #frame > tonumber(ARGV[10]) then
            frame = ''
        end
        redis.call('SPUBLISH', ARGV[9] .. ARGV[at + 2], whole(after_n + place) .. ' ' .. ARGV[at + 1] .. '\n' .. frame)
    end
end
return {'OK', 0}
