-- The operations of one connector's dispatch queue, its quota and its ledger, each atomic, over keys of one hash tag.
--
-- KEYS 1..14 are the structures below; KEYS 15.. are the ledger entries of the ids that the call names, in order.
-- ARGV[1] names the operation, the rest are its arguments.
--
-- Every member of `ready`, `waiting`, `leases` and `deadlines` is an action's rank: the prefix of its group
-- ("length:group", so that no prefix begins another), the inverted priority in 10 digits, deadline and not_before in
-- 16 digits each, a colon and the id. In `ready` all scores are equal and Redis orders by bytes: within one
-- group the highest priority comes first, then the earliest deadline, then whoever waited longest.
-- Every queued action is in `ranks` and `entries` and in exactly one of `ready`, `waiting` (by not_before) and `leases`
-- (by its end); `deadlines` holds those of the first two that have one, `since` those of the first, per group by
-- readiness. `groups` counts per group: q<group> who is unclaimed, b<group> the slots that are taken.
-- `marks` keeps of an id: l<id> leases that ended in silence, w<id> withdrawn while claimed or kept,
-- t<id> kept when it is withdrawn (it may have arrived, or only its receipt is to be written), s<id> its lease takes a slot
-- (and with which stamp a token of the rate), r<id> released before it was settled, h<id> the group whose slot it holds
-- after that, b<id> its booking. `holds` has the ids that hold a slot by their end, `bookings` the bookings by
-- group and start, `starts` their ids by start. `bucket` is the Bucket of orchestrator/runtime/dispatch/rate.py.

local ready, waiting, leases, deadlines, since = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ranks, entries, marks, groups = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local holds, bucket_key, bookings, starts, recent = KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14]
local FIRST_LEDGER_KEY = 15

-- Deadline of an action that has none: beyond every moment.
local NEVER = '9999999999999999'

-- How many actions one call moves, so that a flood at eight in the morning does not hold up the server.
local MOVED_MAX = 1000

local call = redis.call

-- ------------------------------------------------------------------------------------------------- ranks

local function prefix_of(group)
  return #group .. ':' .. group
end

-- Returns what lies between the members with this prefix, as the arguments of a BYLEX range: a digit follows it.
local function within(prefix)
  return '[' .. prefix, '(' .. prefix .. ':'
end

local function parsed(rank)
  local colon = string.find(rank, ':', 1, true)
  local first = colon + 1 + tonumber(string.sub(rank, 1, colon - 1))
  return {
    rank = rank,
    prefix = string.sub(rank, 1, first - 1),
    group = string.sub(rank, colon + 1, first - 1),
    order = string.sub(rank, first, first + 41),
    deadline = string.sub(rank, first + 10, first + 25),
    not_before = string.sub(rank, first + 26, first + 41),
    id = string.sub(rank, first + 43),
  }
end

local function age(one)
  return one.prefix .. one.not_before .. ':' .. one.id
end

-- Sums up changes of counters until `count` writes them.
local changes = {}

local function add(field, number)
  changes[field] = (changes[field] or 0) + number
end

local function count()
  for field, number in pairs(changes) do
    if number ~= 0 and call('HINCRBY', groups, field, number) == 0 then call('HDEL', groups, field) end
  end
  changes = {}
end

-- ----------------------------------------------------------------------------------------------- the rate

local function number_text(number)
  return string.format('%.0f', number)
end

local function read_bucket()
  local found = call('HMGET', bucket_key, 'full', 'interval', 'taken', 'given')
  if not found[1] then return nil end
  return { full = tonumber(found[1]), interval = tonumber(found[2]), taken = tonumber(found[3]),
    given = tonumber(found[4]) }
end

local function write_bucket(bucket)
  call('HSET', bucket_key, 'full', number_text(bucket.full), 'interval', number_text(bucket.interval),
    'taken', number_text(bucket.taken), 'given', number_text(bucket.given))
end

local function give_back(stamp)
  local bucket = read_bucket()
  if not bucket or stamp == '' then return end
  local left = tonumber(stamp) - bucket.given - bucket.taken
  local back = math.min(math.max(left, 0), bucket.interval)
  bucket.full, bucket.given = bucket.full - back, bucket.given + back
  write_bucket(bucket)
end

-- The bucket as of now, opened if it is the first time.
local function bucket_at(now, burst, interval, span)
  local bucket = read_bucket()
  if not bucket then
    bucket = { full = now * 1000 + (burst - 1) * interval, interval = interval, taken = 0, given = 0 }
    write_bucket(bucket)
  end
  if bucket.full > now * 1000 + burst * interval + span then
    bucket.full = now * 1000 + burst * interval
    write_bucket(bucket)
  end
  return bucket
end

-- ----------------------------------------------------------------------------------------------- bookings

local function unbook(id, booking)
  call('HDEL', marks, 'b' .. id)
  call('ZREM', bookings, booking)
  call('ZREM', starts, id)
end

local function free_booking(id)
  local booking = call('HGET', marks, 'b' .. id)
  if booking then unbook(id, booking) end
end

-- ------------------------------------------------------------------------------------------------ entries

local function await_deadline(one)
  if one.deadline ~= NEVER then call('ZADD', deadlines, one.deadline, one.rank) end
end

local function place(id, rank, entry)
  local one = parsed(rank)
  call('HSET', ranks, id, rank)
  call('HSET', entries, id, entry)
  call('ZADD', waiting, one.not_before, rank)
  await_deadline(one)
  add('q' .. one.group, 1)
end

-- Ends a lease's use of a slot; returns its stamp, '' without one, nil when it took no slot.
local function vacate(one)
  local stamp = call('HGET', marks, 's' .. one.id)
  if not stamp then return nil end
  call('HDEL', marks, 's' .. one.id, 'r' .. one.id)
  add('b' .. one.group, -1)
  return stamp
end

-- Ends the hold of an id; returns whether there was one.
local function end_hold(id)
  local group = call('HGET', marks, 'h' .. id)
  if not group then return false end
  call('HDEL', marks, 'h' .. id)
  call('ZREM', holds, id)
  add('b' .. group, -1)
  return true
end

local function hold(one, until_ms)
  end_hold(one.id)
  call('ZADD', holds, until_ms, one.id)
  call('HSET', marks, 'h' .. one.id, one.group)
  add('b' .. one.group, 1)
end

local function unplace(one)
  if call('ZREM', leases, one.rank) == 1 then return end
  if call('ZREM', ready, one.rank) == 1 then
    call('ZREM', since, age(one))
  else
    call('ZREM', waiting, one.rank)
  end
  if one.deadline ~= NEVER then call('ZREM', deadlines, one.rank) end
  add('q' .. one.group, -1)
end

local function remove(one)
  unplace(one)
  call('HDEL', ranks, one.id)
  call('HDEL', entries, one.id)
  call('HDEL', marks, 'l' .. one.id, 'w' .. one.id, 't' .. one.id)
end

local function offer(one)
  call('ZADD', ready, 0, one.rank)
  call('ZADD', since, 0, age(one))
end

-- Moves what has become ready and what a dead dispatcher held, ends holds; returns whether there may be more.
local function promote(now)
  local ended = call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, MOVED_MAX)
  for _, rank in ipairs(ended) do
    local one = parsed(rank)
    -- One that took no slot was leased to be settled: it hides no attempt.
    if vacate(one) then call('HINCRBY', marks, 'l' .. one.id, 1) end
    call('ZREM', leases, rank)
    offer(one)
    await_deadline(one)
    add('q' .. one.group, 1)
  end
  local due = call('ZRANGEBYSCORE', waiting, '-inf', now, 'LIMIT', 0, MOVED_MAX)
  for _, rank in ipairs(due) do offer(parsed(rank)) end
  if #due > 0 then call('ZREMRANGEBYRANK', waiting, 0, #due - 1) end
  local over = call('ZRANGEBYSCORE', holds, '-inf', now, 'LIMIT', 0, MOVED_MAX)
  for _, id in ipairs(over) do end_hold(id) end
  return #ended == MOVED_MAX or #due == MOVED_MAX or #over == MOVED_MAX
end

-- Shortens the leases that end later than two that begin now: whoever took them had a clock that ran ahead.
local function bound_leases(now, lease_ms)
  local beyond, until_ms = number_text(now + 2 * lease_ms), number_text(now + lease_ms)
  for _, rank in ipairs(call('ZRANGEBYSCORE', leases, '(' .. beyond, '+inf', 'LIMIT', 0, MOVED_MAX)) do
    call('ZADD', leases, until_ms, rank)
  end
end

local function forget_bookings(before)
  for _, id in ipairs(call('ZRANGEBYSCORE', starts, '-inf', '(' .. before, 'LIMIT', 0, MOVED_MAX)) do
    free_booking(id)
  end
end

-- Leases actions that are parsed and unclaimed; appends entry, lapses and withdrawn mark of each to `leased`.
local function lease(chosen, until_ms, leased)
  for _, one in ipairs(chosen) do
    unplace(one)
    call('ZADD', leases, until_ms, one.rank)
    local found = call('HMGET', marks, 'l' .. one.id, 'w' .. one.id)
    leased[#leased + 1] = call('HGET', entries, one.id)
    leased[#leased + 1] = tonumber(found[1] or 0)
    leased[#leased + 1] = tonumber(found[2] or 0)
  end
  return leased
end

-- ------------------------------------------------------------------------------------------------- ledger

local function write(key, id, encoded, at, ttl_s)
  call('SET', key, encoded, 'EX', ttl_s)
  call('ZADD', recent, at, id)
end

local function trim_recent(recent_max)
  call('ZREMRANGEBYRANK', recent, 0, -recent_max - 1)
end

local function delivered(encoded)
  return encoded and cjson.decode(encoded).outcome == 'delivered'
end

-- What REDRIVABLE of orchestrator/runtime/dispatch/queue.py says, and what the ledger has forgotten.
local function may_be_redriven(encoded)
  if not encoded then return true end
  local outcome = cjson.decode(encoded).outcome
  return outcome == 'failed' or outcome == 'dropped'
end

-- ------------------------------------------------------------------------------------------------- claims

-- Returns queued groups with their prefixes, busy slots per group, and all busy slots.
local function loads()
  local queued, busy, total = {}, {}, 0
  local fields = call('HGETALL', groups)
  for index = 1, #fields, 2 do
    local kind, group, number = string.sub(fields[index], 1, 1), string.sub(fields[index], 2), tonumber(fields[index + 1])
    if kind == 'q' then
      queued[group] = number
    else
      busy[group] = number
      total = total + number
    end
  end
  return queued, busy, total
end

-- Returns ready actions by rank over all groups, as many as slots allow and one more for each group if it has one.
local function heads(queued, busy, group_slots, room)
  local found = {}
  for group in pairs(queued) do
    local free = group_slots[group] and group_slots[group] - (busy[group] or 0) or room + 1
    if free > 0 then
      local first, last = within(prefix_of(group))
      for _, rank in ipairs(call('ZRANGE', ready, first, last, 'BYLEX', 'LIMIT', 0, math.min(free, room) + 1)) do
        found[#found + 1] = parsed(rank)
      end
    end
  end
  table.sort(found, function(one, other)
    if one.order ~= other.order then return one.order < other.order end
    return one.id < other.id
  end)
  return found
end

-- Picks from the heads up to `room` actions; returns them and whether there is one more that a slot is free for.
local function pick(found, busy, group_slots, room)
  local chosen, more = {}, false
  for _, one in ipairs(found) do
    local limit = group_slots[one.group]
    if not limit or (busy[one.group] or 0) < limit then
      if #chosen < room then
        chosen[#chosen + 1] = one
        busy[one.group] = (busy[one.group] or 0) + 1
      else
        more = true
      end
    end
  end
  return chosen, more
end

local function earliest(key)
  local score = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  return score and tonumber(score)
end

-- Returns when something can be claimed that now cannot, or nil.
local function next_change()
  local next_ms
  for _, moment in ipairs({ earliest(waiting) or false, earliest(leases) or false,
    call('ZCARD', ready) > 0 and earliest(holds) or false }) do
    if moment and (not next_ms or moment < next_ms) then next_ms = moment end
  end
  return next_ms
end
