-- Keep entries of several customers of one shard; an entry that is kept already changes nothing.
-- KEYS: one sorted set a customer
-- ARGV: entries that a customer keeps, milliseconds until a silent customer is forgotten, then for every key the number
--       of its entries and that many pairs of stamp and entry
local at = 3
for _, key in ipairs(KEYS) do
  local last = at + 2 * tonumber(ARGV[at])
  -- Lua's stack takes some 8,000 values at once; an even chunk keeps pairs together.
  for from = at + 1, last, 4000 do
    redis.call('ZADD', key, unpack(ARGV, from, math.min(from + 3999, last)))
  end
  redis.call('ZREMRANGEBYRANK', key, 0, -1 - tonumber(ARGV[1]))
  redis.call('PEXPIRE', key, ARGV[2])
  at = last + 1
end
