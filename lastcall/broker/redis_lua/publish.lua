-- Appends one publication to a channel's stream and tells its subscribers, in one step.
--
-- KEYS: the channel's head, its stream, and with an idempotency key also where that is remembered.
-- ARGV: name to tell it under, body, size and milliseconds of the history, milliseconds until the
--       head is forgotten, what new epochs begin with, milliseconds that an idempotency key is
--       remembered, the time in milliseconds (empty: the server's).
-- In front: reign, kin and tell, which say what this server is; see `Standing`.
-- Returns the offset and the epoch.

local head, stream, remembered = KEYS[1], KEYS[2], KEYS[3]
local name, body = ARGV[1], ARGV[2]
local size, history_ttl, head_ttl = ARGV[3], ARGV[4], ARGV[5]
local new_epoch, key_ttl = ARGV[6], tonumber(ARGV[7])

local time = redis.call('TIME')
local now = tonumber(ARGV[8]) or time[1] * 1000 + math.floor(time[2] / 1000)

if remembered then
  local double = redis.call('HMGET', remembered, 'offset', 'epoch', 'at')
  if double[1] and tonumber(double[3]) > now - key_ttl then
    return { tonumber(double[1]), double[2] }
  end
end

local known = redis.call('HMGET', head, 'epoch', 'offset', 'reign')
local epoch, number, before = known[1], tonumber(known[2] or 0) + 1, known[3]
if reign and before and before ~= reign and not kin[before] then
  epoch = nil -- a replica was promoted since then, and nobody knows what it has missed
end
if not epoch then
  -- Whoever knows this channel knows it by another epoch: what is left of that one is worthless.
  epoch, number = new_epoch .. time[1] .. time[2], 1
  redis.call('DEL', stream)
end
local offset = string.format('%.0f', number)
-- What can be refused comes first: a script that fails is not undone.
if size ~= '0' then
  local id = offset .. '-' .. string.format('%.0f', now)
  redis.call('XADD', stream, 'MAXLEN', size, id, 'b', body)
  redis.call('PEXPIRE', stream, history_ttl)
end
redis.call('HSET', head, 'epoch', epoch, 'offset', offset)
if reign and before ~= reign then
  redis.call('HSET', head, 'reign', reign)
end
redis.call('PEXPIRE', head, head_ttl)
if remembered then
  redis.call('HSET', remembered, 'offset', offset, 'epoch', epoch, 'at', string.format('%.0f', now))
  redis.call('PEXPIRE', remembered, key_ttl)
end
redis.call(tell, name, offset .. ' ' .. epoch .. ' ' .. body)
return { number, epoch }
