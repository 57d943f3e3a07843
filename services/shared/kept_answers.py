"""Kept answers in Redis, as the ingress that opens their streams and the hosts that answer to them must agree on.

A stream's first entry has who asked (`asked`) and where it counts (`counted`). It counts in rooms, that of the workspace and that of
the caller: a hash with `<epoch ms>:answers` and `<epoch ms>:bytes`, which count until that time. What changes a stream and a room
is one script, so that no death leaves a count that nothing takes back.
"""

import json
from dataclasses import dataclass

ASKED, COUNTED, ACCEPTED, UNKEPT_BYTES = b"asked", b"counted", b"accepted", b"unkept"  # fields of a stream's entries, beside REPLIES


@dataclass(frozen=True, slots=True)
class Room:
    """A Redis hash, and what it may hold: answers, and bytes, which only the last answer that finds room may exceed."""

    name: str
    most_answers: int
    most_bytes: int


def pack_counted(until_ms: int, rooms: list[Room]) -> str:
    return json.dumps({"until": str(until_ms), "rooms": [[room.name, room.most_answers, room.most_bytes] for room in rooms]})


_TAKEN = """
local function taken(room, now_ms)
  local sums, frees_ms = {answers = 0, bytes = 0}, nil
  local fields = redis.call('HGETALL', room)
  for i = 1, #fields, 2 do
    local until_ms, what = fields[i]:match('(%d+):(%a+)')
    if tonumber(until_ms) <= now_ms then
      redis.call('HDEL', room, fields[i])
    elseif tonumber(fields[i + 1]) > 0 then
      sums[what] = sums[what] + fields[i + 1]
      frees_ms = math.min(frees_ms or tonumber(until_ms), tonumber(until_ms))
    end
  end
  return sums, frees_ms
end
"""

# KEYS: stream, and the key of an `Idempotency-Key` where there is one. ARGV: asked, counted, now in ms, ms to keep, the key's value,
# the request the key may be taken from, the name of a stream without its request id.
# Gives 'opened', 'preceded', or 'full' with the number of the room and the ms until something of it ends.
OPEN = (
    _TAKEN
    + """
local stream, key, counted, now_ms = KEYS[1], KEYS[2], cjson.decode(ARGV[2]), tonumber(ARGV[3])
local first = key and redis.call('GET', key)
local first_id = first and first:match('^%S+')
if first_id and first_id ~= ARGV[6] and redis.call('EXISTS', ARGV[7] .. first_id) == 1 then return {'preceded'} end
for number, room in ipairs(counted.rooms) do
  local sums, frees_ms = taken(room[1], now_ms)
  if sums.answers >= room[2] or sums.bytes >= room[3] then return {'full', number, frees_ms - now_ms} end
end
for _, room in ipairs(counted.rooms) do
  redis.call('HINCRBY', room[1], counted['until'] .. ':answers', 1)
  if redis.call('PTTL', room[1]) < counted['until'] - now_ms then redis.call('PEXPIREAT', room[1], counted['until']) end
end
redis.call('XADD', stream, '*', 'asked', ARGV[1], 'counted', ARGV[2])
redis.call('PEXPIRE', stream, ARGV[4])
if key then redis.call('SET', key, ARGV[5], 'PX', ARGV[4]) end
return {'opened'}
"""
)

# KEYS: stream, and the key. ARGV: the request's id. The key stays where it is another request's by now.
FORGET = """
local asked = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if asked then
  local counted = cjson.decode(asked[2][4])
  for _, room in ipairs(counted.rooms) do redis.call('HINCRBY', room[1], counted['until'] .. ':answers', -1) end
  redis.call('DEL', KEYS[1])
end
local first = KEYS[2] and redis.call('GET', KEYS[2])
if first and first:match('^%S+') == ARGV[1] then redis.call('DEL', KEYS[2]) end
"""

# KEYS: stream. ARGV: pack, replica, now in ms. The first answer is kept, if anybody keeps it; of one without room only its size.
ANSWER = (
    _TAKEN
    + """
local counted
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
  if entry[2][1] == 'asked' then counted = cjson.decode(entry[2][4]) end
  if entry[2][1] == 'p' or entry[2][1] == 'unkept' then return end
end
if not counted then return end
for _, room in ipairs(counted.rooms) do
  if taken(room[1], tonumber(ARGV[3])).bytes >= room[3] then
    redis.call('XADD', KEYS[1], '*', 'unkept', #ARGV[1])
    return
  end
end
for _, room in ipairs(counted.rooms) do redis.call('HINCRBY', room[1], counted['until'] .. ':bytes', #ARGV[1]) end
redis.call('XADD', KEYS[1], '*', 'p', ARGV[1], 'r', ARGV[2])
"""
)
