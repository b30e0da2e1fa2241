-- The operations on a dispatch queue, in the terms of redis_dispatch_queue.lua, which precedes this text.
--
-- The comment of each names the arguments behind the operation's name, and what it answers.

local operations = {}

-- limit, now, lease end, bookings kept from, slots, burst (0: no rate), interval and span in us, then group and slots of
-- each -> moment of the next claim, leased actions; or nothing when there is more to move first
function operations.claim()
  local limit, now, until_ms, slots = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[6])
  local burst, interval, span = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
  bound_leases(now, tonumber(until_ms) - now)
  local unmoved = promote(ARGV[3])
  count()
  if unmoved then return false end
  forget_bookings(ARGV[5])
  local group_slots = {}
  for index = 10, #ARGV, 2 do group_slots[ARGV[index]] = tonumber(ARGV[index + 1]) end
  local queued, busy, total = loads()
  local room, bucket = math.min(limit, slots - total), nil
  if burst > 0 then
    bucket = bucket_at(now, burst, interval, span)
    room = math.min(room, burst - math.ceil(math.max(0, bucket.full - now * 1000) / interval))
  end
  room = math.max(0, math.min(room, MOVED_MAX))
  local found = total < slots and heads(queued, busy, group_slots, room) or {}
  local chosen, more = pick(found, busy, group_slots, room)
  local sent = 0
  for _, one in ipairs(chosen) do
    -- What is late already is leased to be settled, not to be sent.
    if tonumber(one.deadline) > now then
      local stamp = ''
      if bucket then
        bucket.full = math.max(bucket.full, now * 1000) + interval
        stamp = number_text(bucket.full + bucket.given)
      end
      call('HSET', marks, 's' .. one.id, stamp)
      add('b' .. one.group, 1)
      sent = sent + 1
    end
  end
  if bucket and sent > 0 then
    bucket.interval, bucket.taken = interval, now * 1000
    write_bucket(bucket)
  end
  local answer = lease(chosen, until_ms, { false })
  count()
  local next_ms = more and total + #chosen < slots and now or next_change()
  if next_ms and bucket then
    next_ms = math.max(next_ms, math.ceil((bucket.full - (burst - 1) * interval) / 1000))
  end
  answer[1] = next_ms or false
  return answer
end

-- limit, now, lease end -> leased actions
function operations.overdue()
  promote(ARGV[3])
  local chosen = {}
  for _, rank in ipairs(call('ZRANGEBYSCORE', deadlines, '-inf', ARGV[3], 'LIMIT', 0, ARGV[2])) do
    chosen[#chosen + 1] = parsed(rank)
  end
  local answer = lease(chosen, ARGV[4], {})
  count()
  return answer
end

-- id, rank, entry of each action -> how many were queued
function operations.put()
  local queued = 0
  for index = 2, #ARGV, 3 do
    local id, ledger = ARGV[index], KEYS[FIRST_LEDGER_KEY + (index - 2) / 3]
    if call('HEXISTS', ranks, id) == 0 and call('EXISTS', ledger) == 0 then
      place(id, ARGV[index + 1], ARGV[index + 2])
      queued = queued + 1
    end
  end
  count()
  return queued
end

-- id, rank, entry of each action -> ids that were queued
function operations.redrive()
  local again = {}
  for index = 2, #ARGV, 3 do
    local id, ledger = ARGV[index], KEYS[FIRST_LEDGER_KEY + (index - 2) / 3]
    if call('HEXISTS', ranks, id) == 0 and may_be_redriven(call('GET', ledger)) then
      call('DEL', ledger)
      call('ZREM', recent, id)
      place(id, ARGV[index + 1], ARGV[index + 2])
      again[#again + 1] = id
    end
  end
  count()
  return again
end

-- now, ttl_s, recent_max, then id and ledger entry of each -> ids that were taken out of the queue
function operations.withdraw()
  local taken = {}
  for index = 5, #ARGV, 2 do
    local id, ledger = ARGV[index], KEYS[FIRST_LEDGER_KEY + (index - 5) / 2]
    local rank = call('HGET', ranks, id)
    if rank and (call('ZSCORE', leases, rank) or call('HEXISTS', marks, 't' .. id) == 1
      or call('HEXISTS', marks, 'l' .. id) == 1) then
      call('HSET', marks, 'w' .. id, 1)
    else
      if rank then
        remove(parsed(rank))
        taken[#taken + 1] = id
      end
      if rank or call('EXISTS', ledger) == 0 then write(ledger, id, ARGV[index + 1], ARGV[2], ARGV[3]) end
      free_booking(id)
    end
  end
  trim_recent(ARGV[4])
  count()
  return taken
end

-- ttl_s, recent_max, then id, ledger entry, at, end of the hold ('': none) and whether unspent ('1') of each
function operations.settle()
  for index = 4, #ARGV, 5 do
    local id, encoded, at, hold_until = ARGV[index], ARGV[index + 1], ARGV[index + 2], ARGV[index + 3]
    local ledger, rank = KEYS[FIRST_LEDGER_KEY + (index - 4) / 5], call('HGET', ranks, id)
    if rank then
      local one = parsed(rank)
      local released = hold_until ~= '' and call('HEXISTS', marks, 'r' .. id) == 1
      local stamp = vacate(one)
      if stamp and ARGV[index + 4] == '1' then give_back(stamp) end
      if stamp and hold_until ~= '' and not released then hold(one, hold_until) end
      remove(one)
    end
    free_booking(id)
    if not delivered(call('GET', ledger)) then write(ledger, id, encoded, at, ARGV[2]) end
  end
  trim_recent(ARGV[3])
  count()
  return 1
end

-- id, rank, entry, whether unspent ('1') and whether kept ('1') of each; an action that was settled meanwhile stays
-- settled
function operations.retry()
  for index = 2, #ARGV, 5 do
    local id = ARGV[index]
    local rank = call('HGET', ranks, id)
    if rank then
      local one = parsed(rank)
      local stamp = vacate(one)
      if ARGV[index + 4] == '1' then call('HSET', marks, 't' .. id, 1) end
      if stamp and ARGV[index + 3] == '1' then give_back(stamp) end
      unplace(one)
      call('HDEL', marks, 'l' .. id)
      place(id, ARGV[index + 1], ARGV[index + 2])
    end
  end
  count()
  return 1
end

-- id, entry and whether kept ('1') -> 'written', 'withdrawn' or 'gone'
function operations.note()
  local id = ARGV[2]
  if call('HEXISTS', ranks, id) == 0 then return 'gone' end
  if call('HEXISTS', marks, 'w' .. id) == 1 then return 'withdrawn' end
  call('HDEL', marks, 'l' .. id)
  call('HSET', entries, id, ARGV[3])
  if ARGV[4] == '1' then call('HSET', marks, 't' .. id, 1) end
  return 'written'
end

-- id -> whether it held a slot, or is claimed and will hold none
function operations.release()
  local id = ARGV[2]
  if end_hold(id) then
    count()
    return 1
  end
  if call('HEXISTS', marks, 's' .. id) == 0 then return 0 end
  call('HSET', marks, 'r' .. id, 1)
  return 1
end

-- id, group, bookings per slot, then the starts (16 digits) -> the booked start as text, or nothing
function operations.book()
  local id, per_slot = ARGV[2], tonumber(ARGV[4])
  local prefix = prefix_of(ARGV[3])
  local known = call('HGET', marks, 'b' .. id)
  if known then return call('ZSCORE', starts, id) end
  if call('EXISTS', KEYS[FIRST_LEDGER_KEY]) == 1 then return ARGV[5] or false end
  for index = 5, #ARGV do
    local slot = prefix .. ARGV[index]
    if call('ZLEXCOUNT', bookings, '[' .. slot .. ':', '(' .. slot .. ';') < per_slot then
      local booking = slot .. ':' .. id
      call('ZADD', bookings, 0, booking)
      call('ZADD', starts, ARGV[index], id)
      call('HSET', marks, 'b' .. id, booking)
      return ARGV[index]
    end
  end
  return false
end

-- now -> group, queued, ready, busy and oldest readiness (or nothing) of each; or nothing when there is more to move
function operations.occupancy()
  if promote(ARGV[2]) then
    count()
    return false
  end
  count()
  local queued, busy = loads()
  for group in pairs(busy) do queued[group] = queued[group] or 0 end
  local answer = {}
  for group, number in pairs(queued) do
    local first, last = within(prefix_of(group))
    local oldest = call('ZRANGE', since, first, last, 'BYLEX', 'LIMIT', 0, 1)[1]
    local moment = oldest and string.sub(oldest, #prefix_of(group) + 1, #prefix_of(group) + 16)
    for _, word in ipairs({ group, number, call('ZLEXCOUNT', ready, first, last), busy[group] or 0, moment or '' }) do
      answer[#answer + 1] = word
    end
  end
  return answer
end

-- now, group, first inverted priority (10 digits) that does not count -> ready actions before it
function operations.ahead()
  local more = promote(ARGV[2])
  count()
  if more then return false end
  local prefix = prefix_of(ARGV[3])
  return call('ZLEXCOUNT', ready, '[' .. prefix, '(' .. prefix .. ARGV[4])
end

return operations[ARGV[1]]()
