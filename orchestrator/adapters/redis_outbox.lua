-- Read the outbox together with the number of its last entry.
-- KEYS: meta, outbox
-- Returns: the last number, the entries in order
return {tonumber(redis.call('HGET', KEYS[1], 'outbox_end') or '0'), redis.call('LRANGE', KEYS[2], 0, -1)}
