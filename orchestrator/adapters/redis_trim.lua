-- Forget outbox entries up to a number, for the owner only (P3). Entries already forgotten change nothing.
-- KEYS: meta, outbox
-- ARGV: epoch, the last number to forget
-- Returns: the epoch that the store has; the caller judges it as this script does
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'outbox_end')
local epoch, outbox_end = tonumber(meta[1] or '0'), tonumber(meta[2] or '0')
if epoch == tonumber(ARGV[1]) then
  local first = outbox_end - redis.call('LLEN', KEYS[2]) + 1
  local count = tonumber(ARGV[2]) - first + 1
  if count > 0 then
    redis.call('LTRIM', KEYS[2], count, -1)
  end
end
return epoch
