#!lua flags=no-writes
-- Returns the run id of this server process, then field names and values of the head in turn.
-- KEYS: head.

local head = redis.call('HGETALL', KEYS[1])
table.insert(head, 1, server_run_id())
return head
