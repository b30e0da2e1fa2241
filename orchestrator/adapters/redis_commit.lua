-- Write a batch: everything or nothing, once, and only for the owner (P1).
-- KEYS: meta, states, wakes, outbox
-- ARGV: epoch, sequence, next offset, clock in ms, log id, then five lists, each with its length in front:
--       customer and state to set, customers to delete, moment and customer to wake, customers not to wake, outbox
-- Returns: the epoch and the sequence that the store had before; the caller judges them as this script does
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'sequence')
local epoch, sequence = tonumber(meta[1] or '0'), tonumber(meta[2] or '0')
if epoch ~= tonumber(ARGV[1]) or sequence + 1 ~= tonumber(ARGV[2]) then
  return {epoch, sequence}
end

local at = 6
local function each_chunk(write)
  local first = at + 1
  local last = at + tonumber(ARGV[at])
  at = last + 1
  -- Lua's stack takes some 8,000 values at once; an even chunk keeps pairs together.
  for from = first, last, 4000 do
    write(from, math.min(from + 3999, last))
  end
  return last - first + 1
end

each_chunk(function(from, to) redis.call('HSET', KEYS[2], unpack(ARGV, from, to)) end)
each_chunk(function(from, to)
  redis.call('HDEL', KEYS[2], unpack(ARGV, from, to))
  redis.call('ZREM', KEYS[3], unpack(ARGV, from, to))
end)
each_chunk(function(from, to) redis.call('ZADD', KEYS[3], unpack(ARGV, from, to)) end)
each_chunk(function(from, to) redis.call('ZREM', KEYS[3], unpack(ARGV, from, to)) end)
local added = each_chunk(function(from, to) redis.call('RPUSH', KEYS[4], unpack(ARGV, from, to)) end)

redis.call('HSET', KEYS[1], 'sequence', ARGV[2], 'next_offset', ARGV[3], 'clock_ms', ARGV[4], 'log_id', ARGV[5])
if added > 0 then
  redis.call('HINCRBY', KEYS[1], 'outbox_end', added)
end
return {epoch, sequence}
