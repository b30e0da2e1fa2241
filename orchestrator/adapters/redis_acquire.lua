-- Take a partition under the next epoch and tell what the last commit left.
-- KEYS: meta
-- Returns: epoch, next offset ('' when never processed), sequence, clock in ms, log id, end of the outbox
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
local meta = redis.call('HMGET', KEYS[1], 'next_offset', 'sequence', 'clock_ms', 'log_id', 'outbox_end')
return {tostring(epoch), meta[1] or '', meta[2] or '0', meta[3] or '0', meta[4] or '', meta[5] or '0'}
