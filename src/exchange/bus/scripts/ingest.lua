#!lua
-- Gives an order frame its position and time, once.
-- KEYS: head, orders, hash of the ingress process.
-- ARGV: shard, ingress, counter, ingress time, digest, frame, MAC, name of the bus key, commands, exempt (1 or 0),
--       overhead of an entry, most bytes of a frame.
-- Returns OK, n, t_us, gather_us, repeated (1 or 0).

local GATHER_US_MAX = 5000
local SKEW_US_MAX = 500000
local RATE_WINDOW_US = 100000
local REMEMBERED_MS = 86400000

local head = redis.call('HMGET', KEYS[1], 'shard', 'run_id', 'stopped', 'orders_n', 'orders_t_us', 'orders_commands',
    'orders_bytes', 'executions_commands', 'executed_bytes', 'executions_bytes', 'trimmed_n', 'trimmed_bytes',
    'commands_unprocessed_max', 'bytes_unprocessed_max', 'bytes_untrimmed_max', 'frames_per_second_max',
    'rate_window', 'rate_frames', 'rate_frames_before')
if not head[1] then
    return not_initialised(KEYS[1])
end
if head[1] ~= ARGV[1] then
    return refuse('WRONG_SHARD', KEYS[1] .. ' is of shard ' .. head[1] .. ', the frame is for shard ' .. ARGV[1]
        .. '; two shards have one tag')
end
local run_id = server_run_id()
if head[2] ~= run_id then
    return not_approved(head[2], run_id)
end

local counter, frame = tonumber(ARGV[3]), ARGV[6]
local now_us = microseconds()
local rate_window = math.floor(now_us / RATE_WINDOW_US)
local rate_frames, rate_frames_before = tonumber(head[18]), tonumber(head[19])
if tonumber(head[17]) == rate_window - 1 then
    rate_frames, rate_frames_before = 0, rate_frames
elseif tonumber(head[17]) ~= rate_window then
    rate_frames, rate_frames_before = 0, 0
end

-- Frames per second over the last tenth of a second; gathering starts at half of what the shard takes.
local function gather_us()
    local part = (now_us - rate_window * RATE_WINDOW_US) / RATE_WINDOW_US
    local per_second = (rate_frames_before * (1 - part) + rate_frames) * 1000000 / RATE_WINDOW_US
    local used = per_second / tonumber(head[16])
    return math.floor(math.max(0, math.min(1, 2 * used - 1)) * GATHER_US_MAX)
end

-- Repetitions before everything else: every other refusal then says that the frame is not in the log.
local last = redis.call('HMGET', KEYS[3], 'counter', 'digest', 'n', 't_us')
local last_counter = tonumber(last[1] or '0')
if counter == last_counter and last[2] == ARGV[5] then
    return {'OK', tonumber(last[3]), tonumber(last[4]), gather_us(), 1}
end
if head[3] ~= '' then
    return stopped(head[3])
end
if #frame == 0 or #frame > tonumber(ARGV[12]) then
    return refuse('FRAME_SIZE', 'the order frame has ' .. #frame .. ' bytes, allowed are 1 to ' .. ARGV[12])
end
if string.sub(frame, 1, 2) ~= '\8\1' then
    return refuse('UNKNOWN_FORMAT', 'the order frame does not start with format 1, which alone the engines know')
end
local digits, rest = {}, counter
repeat
    local low = rest % 128
    rest = (rest - low) / 128
    digits[#digits + 1] = string.char(rest > 0 and low + 128 or low)
until rest == 0
local origin = '\8\1\18\16' .. ARGV[2] .. '\24' .. table.concat(digits)
if string.sub(frame, 1, #origin) ~= origin then
    return refuse('FRAME_ORIGIN', 'the order frame does not start with the ingress and the counter that it came under')
end
if counter <= last_counter then
    return refuse('COUNTER_CONFLICT', 'frame ' .. ARGV[3] .. ' of this ingress is another one than before: the last one '
        .. 'was ' .. last[1] .. '; an ingress process has one frame in flight and never uses a counter again')
end
if counter ~= last_counter + 1 then
    return refuse('COUNTER_GAP', 'frame ' .. ARGV[3] .. ' of this ingress does not follow ' .. whole(last_counter)
        .. '; start over with a new ingress id')
end
local skew_us = tonumber(ARGV[4]) - now_us
if math.abs(skew_us) > SKEW_US_MAX then
    return refuse('CLOCK_SKEW', 'the ingress is ' .. whole(skew_us) .. ' us ahead of the bus, allowed are '
        .. whole(SKEW_US_MAX) .. ' either way; mend the clocks', 1000)
end

local commands, bytes = tonumber(ARGV[9]), #frame + tonumber(ARGV[11])
local orders_n, orders_t_us = tonumber(head[4]), tonumber(head[5])
local orders_commands, orders_bytes = tonumber(head[6]) + commands, tonumber(head[7]) + bytes
if ARGV[10] ~= '1' then
    -- What waits is looked at before the frame is added, so that a frame above a limit goes through an empty shard.
    local waiting = tonumber(head[6]) - tonumber(head[8])
    if waiting > 0 and waiting + commands > tonumber(head[13]) then
        return refuse('OVERLOADED', whole(waiting) .. ' commands wait to be executed, with this frame more than '
            .. head[13], 50)
    end
    waiting = tonumber(head[7]) - tonumber(head[9])
    if waiting > 0 and waiting + bytes > tonumber(head[14]) then
        return refuse('OVERLOADED', whole(waiting) .. ' bytes wait to be executed, with this frame more than '
            .. head[14], 50)
    end
    waiting = tonumber(head[7]) + tonumber(head[10]) - tonumber(head[12])
    if waiting > 0 and waiting + bytes > tonumber(head[15]) then
        return refuse('OVERLOADED', whole(waiting) .. ' bytes wait to be settled and trimmed, with this frame more than '
            .. head[15], 200)
    end
end
if redis.call('XLEN', KEYS[2]) ~= orders_n - tonumber(head[11]) then
    return refuse('INCONSISTENT', KEYS[2] .. ' has ' .. redis.call('XLEN', KEYS[2]) .. ' entries, its head says '
        .. head[4] .. ' less ' .. head[11] .. ' that were trimmed; something else than the scripts wrote or deleted')
end

local n, t_us = orders_n + 1, math.max(now_us, orders_t_us)
-- XADD first: a script that fails is not rolled back, and this is the only call that could.
redis.call('XADD', KEYS[2], whole(n) .. '-0', 'f', frame, 't', whole(t_us), 'm', ARGV[7], 'k', ARGV[8],
    'x', whole(orders_commands) .. ' ' .. whole(orders_bytes))
rate_frames = rate_frames + 1
redis.call('HSET', KEYS[1], 'orders_n', whole(n), 'orders_t_us', whole(t_us), 'orders_commands',
    whole(orders_commands), 'orders_bytes', whole(orders_bytes), 'rate_window', whole(rate_window), 'rate_frames',
    whole(rate_frames), 'rate_frames_before', whole(rate_frames_before))
redis.call('HSET', KEYS[3], 'counter', ARGV[3], 'digest', ARGV[5], 'n', whole(n), 't_us', whole(t_us))
redis.call('PEXPIRE', KEYS[3], REMEMBERED_MS)
return {'OK', n, t_us, gather_us(), 0}
