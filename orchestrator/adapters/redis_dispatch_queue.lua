-- The operations of one connector's dispatch queue and ledger, each atomic, over keys of one hash tag.
--
-- KEYS 1..9 are the structures below; KEYS 10.. are the ledger entries of the ids that the call names, in order.
-- ARGV[1] names the operation, the rest are its arguments.
--
-- An action's rank is "priority:deadline:not_before:id" with 16-digit moments. In the ready set its score is the
-- negated priority, and Redis orders members of one score by their bytes: so ZRANGE gives the highest priority
-- first, then the earliest deadline, then whoever waited longest. Every queued action is in `ranks` and `entries`
-- and in exactly one of `ready`, `waiting` and `leases`; `deadlines` holds those of the first two that have one.

local ready, waiting, leases, deadlines = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ranks, entries, lapses, withdrawn, recent = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local FIRST_LEDGER_KEY = 10

-- Deadline of an action that has none: beyond every moment.
local NEVER = '9999999999999999'

-- How many actions one call moves, so that a flood at eight in the morning does not hold up the server.
local PROMOTED_MAX = 1000

local function parsed(rank)
  return string.match(rank, '^(%-?%d+):(%d+):(%d+):(.*)$')
end

local function await_deadline(rank)
  local _, deadline = parsed(rank)
  if deadline ~= NEVER then redis.call('ZADD', deadlines, deadline, rank) end
end

local function offer(rank)
  redis.call('ZADD', ready, -tonumber((parsed(rank))), rank)
  await_deadline(rank)
end

local function place(id, rank, entry)
  local _, _, not_before = parsed(rank)
  redis.call('HSET', ranks, id, rank)
  redis.call('HSET', entries, id, entry)
  redis.call('ZADD', waiting, not_before, rank)
  await_deadline(rank)
end

local function unplace(rank)
  redis.call('ZREM', ready, rank)
  redis.call('ZREM', waiting, rank)
  redis.call('ZREM', leases, rank)
  redis.call('ZREM', deadlines, rank)
end

local function remove(id, rank)
  unplace(rank)
  redis.call('HDEL', ranks, id)
  redis.call('HDEL', entries, id)
  redis.call('HDEL', lapses, id)
  redis.call('SREM', withdrawn, id)
end

-- Moves what has become ready and what a dead dispatcher held; returns whether there may be more.
local function promote(now)
  local ended = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, PROMOTED_MAX)
  for _, rank in ipairs(ended) do
    local _, _, _, id = parsed(rank)
    redis.call('ZREM', leases, rank)
    redis.call('HINCRBY', lapses, id, 1)
    offer(rank)
  end
  local due = redis.call('ZRANGEBYSCORE', waiting, '-inf', now, 'LIMIT', 0, PROMOTED_MAX)
  for _, rank in ipairs(due) do
    redis.call('ZREM', waiting, rank)
    offer(rank)
  end
  return #ended == PROMOTED_MAX or #due == PROMOTED_MAX
end

-- Leases the ranked actions; returns entry, lapses and withdrawn mark of each.
local function lease(chosen, until_ms)
  local leased = {}
  for _, rank in ipairs(chosen) do
    local _, _, _, id = parsed(rank)
    unplace(rank)
    redis.call('ZADD', leases, until_ms, rank)
    leased[#leased + 1] = redis.call('HGET', entries, id)
    leased[#leased + 1] = tonumber(redis.call('HGET', lapses, id) or 0)
    leased[#leased + 1] = redis.call('SISMEMBER', withdrawn, id)
  end
  return leased
end

local function write(key, id, encoded, at, ttl_s, recent_max)
  redis.call('SET', key, encoded, 'EX', ttl_s)
  redis.call('ZADD', recent, at, id)
  redis.call('ZREMRANGEBYRANK', recent, 0, -recent_max - 1)
end

local function delivered(encoded)
  return encoded and cjson.decode(encoded).outcome == 'delivered'
end

local operations = {}

-- id, rank, entry of each action -> how many were queued
function operations.put()
  local queued = 0
  for index = 2, #ARGV, 3 do
    local id, ledger = ARGV[index], KEYS[FIRST_LEDGER_KEY + (index - 2) / 3]
    if redis.call('HEXISTS', ranks, id) == 0 and redis.call('EXISTS', ledger) == 0 then
      place(id, ARGV[index + 1], ARGV[index + 2])
      queued = queued + 1
    end
  end
  return queued
end

-- id, rank, entry of each action -> ids that were queued
function operations.redrive()
  local again = {}
  for index = 2, #ARGV, 3 do
    local id, ledger = ARGV[index], KEYS[FIRST_LEDGER_KEY + (index - 2) / 3]
    if redis.call('HEXISTS', ranks, id) == 0 and not delivered(redis.call('GET', ledger)) then
      redis.call('DEL', ledger)
      redis.call('ZREM', recent, id)
      place(id, ARGV[index + 1], ARGV[index + 2])
      again[#again + 1] = id
    end
  end
  return again
end

-- now, ttl_s, recent_max, then id and ledger entry of each -> ids that were taken out of the queue
function operations.withdraw()
  local taken = {}
  for index = 5, #ARGV, 2 do
    local id, ledger = ARGV[index], KEYS[FIRST_LEDGER_KEY + (index - 5) / 2]
    local rank = redis.call('HGET', ranks, id)
    if rank and redis.call('ZSCORE', leases, rank) then
      redis.call('SADD', withdrawn, id)
    elseif rank then
      remove(id, rank)
      write(ledger, id, ARGV[index + 1], ARGV[2], ARGV[3], ARGV[4])
      taken[#taken + 1] = id
    elseif redis.call('EXISTS', ledger) == 0 then
      write(ledger, id, ARGV[index + 1], ARGV[2], ARGV[3], ARGV[4])
    end
  end
  return taken
end

-- limit, now, lease end -> leased actions, or nothing when there is more to move first
function operations.claim()
  if promote(ARGV[3]) then return false end
  return lease(redis.call('ZRANGE', ready, 0, tonumber(ARGV[2]) - 1), ARGV[4])
end

-- limit, now, lease end -> leased actions
function operations.overdue()
  promote(ARGV[3])
  return lease(redis.call('ZRANGEBYSCORE', deadlines, '-inf', ARGV[3], 'LIMIT', 0, ARGV[2]), ARGV[4])
end

-- id, ledger entry, at, ttl_s, recent_max
function operations.settle()
  local id, encoded = ARGV[2], ARGV[3]
  local rank = redis.call('HGET', ranks, id)
  if rank then remove(id, rank) end
  if not delivered(redis.call('GET', KEYS[FIRST_LEDGER_KEY])) then
    write(KEYS[FIRST_LEDGER_KEY], id, encoded, ARGV[4], ARGV[5], ARGV[6])
  end
  return 1
end

-- id, rank, entry; an action that was settled meanwhile stays settled
function operations.retry()
  local id = ARGV[2]
  local rank = redis.call('HGET', ranks, id)
  if not rank then return 0 end
  unplace(rank)
  redis.call('HDEL', lapses, id)
  place(id, ARGV[3], ARGV[4])
  return 1
end

-- -> the earliest moment at which there is something to claim, as text, or nothing
function operations.next_ready()
  local first = redis.call('ZRANGE', ready, 0, 0)[1]
  if first then
    local _, _, not_before = parsed(first)
    return not_before
  end
  local next_waiting = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')[2]
  local next_lapse = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
  if next_waiting and next_lapse then
    return tonumber(next_waiting) < tonumber(next_lapse) and next_waiting or next_lapse
  end
  return next_waiting or next_lapse
end

return operations[ARGV[1]]()
