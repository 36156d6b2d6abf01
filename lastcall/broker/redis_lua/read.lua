-- Reads where a channel stands, and what of its history follows an offset.
--
-- KEYS: the channel's head, its stream.
-- ARGV: after which offset (empty: from the oldest), of which epoch, how many publications and bytes
--       at most, milliseconds of the history, milliseconds until the head is forgotten, what new
--       epochs begin with, the time in milliseconds (empty: the server's), and 1 if the reader is a
--       worker, which knows that there was such an offset.
-- In front: reign and kin, which say what this server is; see `Standing`.
-- Returns the head's offset and epoch, the offset that the publications follow, whether that is
-- where the reader is (0: it cannot be reached any more), and offsets and bodies by turns.

local head, stream = KEYS[1], KEYS[2]
local since, since_epoch = tonumber(ARGV[1]), ARGV[2]
local wanted, bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local history_ttl, head_ttl, new_epoch = tonumber(ARGV[5]), ARGV[6], ARGV[7]

local time = redis.call('TIME')
local now = tonumber(ARGV[8]) or time[1] * 1000 + math.floor(time[2] / 1000)

local known = redis.call('HMGET', head, 'epoch', 'offset', 'reign')
local epoch, top, before = known[1], tonumber(known[2] or 0), known[3]
if reign and before and before ~= reign and not kin[before] then
  epoch, top = nil, 0 -- a replica was promoted since then, and nobody knows what it has missed
  redis.call('HDEL', head, 'offset')
end
if epoch and ARGV[9] == '1' and since_epoch == epoch and since > top then
  -- Redis has gone back in time: a replica was promoted, or a disk lost its last second. The
  -- offsets that are missing will be given again, so they have to be told from those there were.
  epoch, top = nil, 0
  redis.call('HDEL', head, 'offset')
end
if not epoch then
  epoch = new_epoch .. time[1] .. time[2]
  redis.call('HSET', head, 'epoch', epoch)
  redis.call('DEL', stream)
end
if reign and before ~= reign then
  redis.call('HSET', head, 'reign', reign)
end
redis.call('PEXPIRE', head, head_ttl)

-- Forget what is too old. Most often nothing is, so look at one before looking at many.
local first, looks = nil, 1
while not first do
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', looks)
  local kept_from
  for _, entry in ipairs(oldest) do
    local offset, at = string.match(entry[1], '^(%d+)-(%d+)$')
    if tonumber(at) > now - history_ttl then
      first = tonumber(offset)
      break
    end
    kept_from = tonumber(offset) + 1
  end
  if kept_from then
    redis.call('XTRIM', stream, 'MINID', string.format('%.0f', kept_from))
  end
  if #oldest == 0 then
    first = top + 1
  end
  looks = 100
end

local reached = 1
if not since then
  since = first - 1
elseif since_epoch ~= epoch or since < first - 1 or since > top then
  since, reached = first - 1, 0
end
local found, last, size = {}, since, 0
while wanted > 0 and size < bytes do
  local from = string.format('%.0f', last + 1)
  local entries = redis.call('XRANGE', stream, from, '+', 'COUNT', math.min(wanted, 50))
  for _, entry in ipairs(entries) do
    last = tonumber(string.match(entry[1], '^%d+'))
    found[#found + 1] = last
    found[#found + 1] = entry[2][2]
    size = size + #entry[2][2]
  end
  wanted = #entries == 0 and 0 or wanted - #entries
end
return { top, epoch, since, reached, found }
