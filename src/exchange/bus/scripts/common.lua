-- What every script starts with; the loader puts it between a script's first line and its body.

local function refuse(reason, detail, retry_after_ms)
    return {'REFUSED', reason, detail, retry_after_ms or 0}
end

-- Lua writes large numbers as 1.7e+15 unless told not to. All numbers here are whole and below 2^53.
local function whole(number)
    return string.format('%.0f', number)
end

local function server_run_id()
    return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

local function not_initialised(key)
    return refuse('NOT_INITIALISED', 'there is no ' .. key .. ': no process has made this shard on this server, or the '
        .. 'server has lost it; start settlement-plane, and if the shard had entries restore the bus from its files')
end

local function not_approved(approved, now)
    local known = 'no server process is approved yet'
    if approved and approved ~= '' then
        known = 'approved is server process ' .. approved
    end
    return refuse('NOT_APPROVED', known .. ', this is ' .. now .. ': it was started or replaced and may have lost '
        .. 'entries; settlement-plane approves it when nothing is missing', 100)
end

local function stopped(message)
    return refuse('STOPPED', message)
end

local function microseconds()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
