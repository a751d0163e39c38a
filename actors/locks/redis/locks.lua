-- One step of the locks that Redis keeps, by the rules of tickwright_core::ledger::Locks, in one go.
--
-- KEYS[1] is the prefix of all keys. ARGV: what to do, the lock, the owner, and what it takes.
--
--   PREFIXlock:KEY     holders h = {owner = {m mode, t token, n holds, ttl, e ends, g granted, k ticket}}
--                      queue   q = {{o owner, m mode, k ticket, ttl, b began, e ends}}
--   PREFIXowner:OWNER  since, held = {lock = ends}, awaited, aborted = {k ticket, c circle}
--   PREFIXlast         the last token or ticket
--
-- Times are milliseconds of Redis's own clock, which goes on between calls: so what is over is taken out
-- before anything else is looked at. Whoever waits asks again and again; one that does not is gone.
-- Tokens are microseconds of that clock, or one more than the last: they grow although Redis loses
-- everything, and although a replica that lacks the last ones takes over.

local prefix, what, key, owner = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

-- What is asked for most goes without the rest: a lock that is free, for an owner that has nothing, and that
-- lock given back by it. Redis itself forgets a lock that nobody waits for when its time is over.
if what == 'acquire' or what == 'unlock' then
  local at_lock, at_owner, at_last = prefix .. 'lock:' .. key, prefix .. 'owner:' .. owner, prefix .. 'last'
  local found = redis.call('MGET', at_lock, at_owner, at_last)
  if what == 'acquire' and not found[1] and not found[2] then
    local time = redis.call('TIME')
    local micros, ttl = tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(ARGV[5])
    local now, last = math.floor(micros / 1000), tonumber(found[3] or '0')
    local token = micros > last and micros or last + 1
    local ends, told = now + ttl, string.format('%.0f', token)
    local hold = { m = ARGV[4], t = token, n = 1, ttl = ttl, e = ends, g = now, k = 0 }
    redis.call('SET', at_last, told)
    redis.call('SET', at_lock, cmsgpack.pack({ h = { [owner] = hold }, q = {} }), 'PX', ARGV[5])
    local life = string.format('%.0f', ttl + 10000)
    redis.call('SET', at_owner, cmsgpack.pack({ held = { [key] = ends }, since = token }), 'PX', life)
    return { 'granted', told, '1' }
  elseif what == 'unlock' and found[1] and found[2] then
    local lock, one = cmsgpack.unpack(found[1]), cmsgpack.unpack(found[2])
    local hold = lock.h[owner]
    local is_only = hold and not next(lock.h, next(lock.h)) and not lock.q[1]
    local has_only = one.held[key] and not next(one.held, next(one.held))
    if is_only and has_only and not one.awaited and not one.aborted and hold.n == 1
      and string.format('%.0f', hold.t) == ARGV[4] then
      redis.call('DEL', at_lock, at_owner)
      return { 'released', '0' }
    end
  end
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])

local WAITERS_MAX, HOLDERS_MAX, VISITS_MAX = 256, 1024, 4096

-- What was read, and must be written at the end.
local locks, owners, changed_locks, changed_owners = {}, {}, {}, {}

local function text(number) return string.format('%.0f', number) end

local function fetch(name)
  local packed = redis.call('GET', name)
  return packed and cmsgpack.unpack(packed)
end

local function owner_of(name)
  if not owners[name] then owners[name] = fetch(prefix .. 'owner:' .. name) or { held = {} } end
  return owners[name]
end

local function number()
  local last = tonumber(redis.call('GET', prefix .. 'last') or '0')
  local next_one = micros > last and micros or last + 1
  redis.call('SET', prefix .. 'last', text(next_one))
  return next_one
end

local function excludes(lock, mode)
  for _, hold in pairs(lock.h) do
    if mode == 'w' or hold.m == 'w' then return true end
  end
  return false
end

local function count(all)
  local sum = 0
  for _ in pairs(all) do sum = sum + 1 end
  return sum
end

local function grant(name, lock, who, mode, ttl, ticket)
  local token = number()
  lock.h[who] = { m = mode, t = token, n = 1, ttl = ttl, e = now + ttl, g = now, k = ticket }
  local one = owner_of(who)
  one.held[name] = now + ttl
  one.since = one.since or token
  changed_locks[name], changed_owners[who] = true, true
  return lock.h[who]
end

-- Gives the lock to the first of its queue, and those behind, as far as they do not exclude each other.
local function grant_next(name, lock)
  while lock.q[1] and not excludes(lock, lock.q[1].m) and count(lock.h) < HOLDERS_MAX do
    local first = table.remove(lock.q, 1)
    owner_of(first.o).awaited = nil
    grant(name, lock, first.o, first.m, first.ttl, first.k)
  end
end

local function take_out(name, lock, at)
  local waiter = table.remove(lock.q, at)
  owner_of(waiter.o).awaited = nil
  changed_locks[name], changed_owners[waiter.o] = true, true
end

local function release(name, lock, who)
  lock.h[who] = nil
  owner_of(who).held[name] = nil
  changed_locks[name], changed_owners[who] = true, true
end

local function lock_of(name)
  if locks[name] then return locks[name] end
  local lock = fetch(prefix .. 'lock:' .. name) or { h = {}, q = {} }
  locks[name] = lock
  local over = {}
  for who, hold in pairs(lock.h) do
    if hold.e <= now then over[#over + 1] = who end
  end
  for _, who in ipairs(over) do release(name, lock, who) end
  for at = #lock.q, 1, -1 do
    if lock.q[at].e <= now then take_out(name, lock, at) end
  end
  grant_next(name, lock)
  return lock
end

local function place_of(lock, who)
  for at, waiter in ipairs(lock.q) do
    if waiter.o == who then return at end
  end
end

-- Whom somebody waits for: those who hold what it wants, and those before it.
local function blockers(who)
  local awaited = owner_of(who).awaited
  if not awaited then return {} end
  local lock = lock_of(awaited)
  local at = place_of(lock, who)
  if not at then return {} end
  local mode, found = lock.q[at].m, {}
  for holder, hold in pairs(lock.h) do
    if mode == 'w' or hold.m == 'w' then found[#found + 1] = holder end
  end
  for before = 1, at - 1 do
    local waiter = lock.q[before]
    if mode == 'w' or waiter.m == 'w' then found[#found + 1] = waiter.o end
  end
  return found
end

-- Who waits for whom, from `who` back to it.
local function circle(who)
  local from, open, visits = {}, { who }, 0
  while #open > 0 and visits < VISITS_MAX do
    visits = visits + 1
    local waiter = table.remove(open)
    for _, blocker in ipairs(blockers(waiter)) do
      if blocker == who then
        local found, at = {}, waiter
        while at do
          table.insert(found, 1, at)
          at = from[at]
        end
        return found
      end
      if not from[blocker] then
        from[blocker] = waiter
        open[#open + 1] = blocker
      end
    end
  end
end

local function granted(hold) return { 'granted', text(hold.t), text(hold.n) } end

local function with_circle(found)
  local told = { 'deadlock' }
  for _, who in ipairs(found) do told[#told + 1] = who end
  return told
end

local function enqueue(lock, mode, ttl, lease)
  local me = owner_of(owner)
  local ticket = number()
  lock.q[#lock.q + 1] = { o = owner, m = mode, k = ticket, ttl = ttl, b = now, e = now + lease }
  me.awaited, me.since, me.aborted = key, me.since or ticket, nil
  changed_locks[key], changed_owners[owner] = true, true
  while true do
    local found = circle(owner)
    if not found then break end
    local youngest = found[1]
    for _, who in ipairs(found) do
      if (owner_of(who).since or 0) > (owner_of(youngest).since or 0) then youngest = who end
    end
    local awaited = owner_of(youngest).awaited
    local place = place_of(lock_of(awaited), youngest)
    local its_ticket = locks[awaited].q[place].k
    take_out(awaited, locks[awaited], place)
    grant_next(awaited, locks[awaited])
    if youngest == owner then return with_circle(found) end
    owner_of(youngest).aborted = { k = its_ticket, c = found }
  end
  local hold = lock.h[owner]
  return hold and granted(hold) or { 'waiting', text(ticket) }
end

local function acquire(mode, ttl, waits, lease)
  local lock, me = lock_of(key), owner_of(owner)
  local hold = lock.h[owner]
  if hold then
    if hold.m == 'r' and mode == 'w' then return { 'upgrade' } end
    hold.n, hold.ttl, hold.e = hold.n + 1, math.max(hold.ttl, ttl), math.max(hold.e, now + ttl)
    me.held[key] = hold.e
    changed_locks[key], changed_owners[owner] = true, true
    return granted(hold)
  end
  if #lock.q == 0 and not excludes(lock, mode) then
    if count(lock.h) >= HOLDERS_MAX then
      return { 'full', 'owners that read one lock', text(HOLDERS_MAX) }
    end
    return granted(grant(key, lock, owner, mode, ttl, 0))
  end
  if not waits then return { 'held', (next(lock.h)) } end
  if me.awaited then
    lock_of(me.awaited)
    if me.awaited and place_of(lock_of(me.awaited), owner) then return { 'waits', me.awaited } end
  end
  if #lock.q >= WAITERS_MAX then
    return { 'full', 'owners that wait for one lock', text(WAITERS_MAX) }
  end
  return enqueue(lock, mode, ttl, lease)
end

-- Somebody who waits asks again.
local function poll(ticket, lease)
  local lock, me = lock_of(key), owner_of(owner)
  local hold, at = lock.h[owner], place_of(lock, owner)
  if hold and hold.k == ticket then return granted(hold) end
  if at and lock.q[at].k == ticket then
    lock.q[at].e = now + lease
    changed_locks[key], changed_owners[owner] = true, true
    return { 'waiting', text(ticket) }
  end
  if me.aborted and me.aborted.k == ticket then
    local found = me.aborted.c
    me.aborted = nil
    changed_owners[owner] = true
    return with_circle(found)
  end
  return { 'lost' }
end

local function cancel(ticket)
  local lock = lock_of(key)
  local hold, at = lock.h[owner], place_of(lock, owner)
  if hold and hold.k == ticket then return granted(hold) end
  if at and lock.q[at].k == ticket then
    take_out(key, lock, at)
    grant_next(key, lock)
    return { 'cancelled' }
  end
  return { 'lost' }
end

local function unlock(token)
  local lock = lock_of(key)
  local hold = lock.h[owner]
  if not hold or text(hold.t) ~= token then return { 'not_held' } end
  hold.n = hold.n - 1
  changed_locks[key] = true
  if hold.n == 0 then
    release(key, lock, owner)
    grant_next(key, lock)
  end
  return { 'released', text(hold.n) }
end

local function extend(token, ttl)
  local lock = lock_of(key)
  local hold = lock.h[owner]
  if not hold or text(hold.t) ~= token then return { 'not_held' } end
  hold.ttl, hold.e = ttl, now + ttl
  owner_of(owner).held[key] = hold.e
  changed_locks[key], changed_owners[owner] = true, true
  return { 'extended' }
end

-- Rows of text: lock, whether it is held or awaited, who, how, number, holds, age, what is left.
local function show()
  local rows = {}
  for at = 2, #ARGV do
    local name = ARGV[at]
    local lock = lock_of(name)
    for who, hold in pairs(lock.h) do
      local life = { text(now - hold.g), text(math.max(hold.e - now, 0)) }
      rows[#rows + 1] = { name, 'h', who, hold.m, text(hold.t), text(hold.n), life[1], life[2] }
    end
    for _, one in ipairs(lock.q) do
      rows[#rows + 1] = { name, 'q', one.o, one.m, text(one.k), '0', text(now - one.b), '0' }
    end
  end
  return rows
end

-- Writes what has changed, to be forgotten when the last of it is over.
local function keep()
  for name in pairs(changed_locks) do
    local lock, ends = locks[name], 0
    for _, hold in pairs(lock.h) do ends = math.max(ends, hold.e) end
    for _, waiter in ipairs(lock.q) do ends = math.max(ends, waiter.e) end
    if ends <= now then
      redis.call('DEL', prefix .. 'lock:' .. name)
    else
      -- Whoever waits is to find its place even if the holder's time was over meanwhile.
      local more = #lock.q > 0 and 5000 or 0
      redis.call('SET', prefix .. 'lock:' .. name, cmsgpack.pack(lock), 'PX', text(ends - now + more))
    end
  end
  for name in pairs(changed_owners) do
    local one, ends = owners[name], 0
    for held, its_end in pairs(one.held) do
      if its_end <= now then one.held[held] = nil else ends = math.max(ends, its_end) end
    end
    if ends == 0 and not one.awaited then one.since = nil end
    if ends == 0 and not one.awaited and not one.aborted then
      redis.call('DEL', prefix .. 'owner:' .. name)
    else
      local life = math.max(ends - now, 0) + 10000
      redis.call('SET', prefix .. 'owner:' .. name, cmsgpack.pack(one), 'PX', text(life))
    end
  end
end

local answer
if what == 'acquire' then
  answer = acquire(ARGV[4], tonumber(ARGV[5]), ARGV[6] == '1', tonumber(ARGV[7]))
elseif what == 'poll' then
  answer = poll(tonumber(ARGV[4]), tonumber(ARGV[5]))
elseif what == 'cancel' then
  answer = cancel(tonumber(ARGV[4]))
elseif what == 'unlock' then
  answer = unlock(ARGV[4])
elseif what == 'extend' then
  answer = extend(ARGV[4], tonumber(ARGV[5]))
elseif what == 'show' then
  answer = show()
else
  return redis.error_reply('ERR no such step')
end
keep()
return answer
