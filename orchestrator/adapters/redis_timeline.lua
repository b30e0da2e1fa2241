-- Keep entries of several customers of one shard; an entry that is kept already changes nothing.
-- KEYS: one sorted set a customer
-- ARGV: entries that a customer keeps, milliseconds until a silent customer is forgotten, then for every key the number
--       of its entries, the stamp up to which what was kept is forgotten ('' for none) and that many pairs of stamp
--       and entry
local at = 3
for _, key in ipairs(KEYS) do
  local last = at + 1 + 2 * tonumber(ARGV[at])
  if ARGV[at + 1] ~= '' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', ARGV[at + 1])
  end
  -- Lua's stack takes some 8,000 values at once; an even chunk keeps pairs together.
  for from = at + 2, last, 4000 do
    redis.call('ZADD', key, unpack(ARGV, from, math.min(from + 3999, last)))
  end
  redis.call('ZREMRANGEBYRANK', key, 0, -1 - tonumber(ARGV[1]))
  redis.call('PEXPIRE', key, ARGV[2])
  at = last + 1
end
