-- Counts a request by several limits: by all of them, or by none if one of them has no room.
-- KEYS: those of the request, one for each limit.
-- ARGV, for each limit: microseconds for a unit, how many units fit in, the units of the request.
-- Returns 1 or 0, and the level of each limit before that, in millionths of a unit.
-- A value is a level, and the time of it: what is counted stays what it is when a rate changes.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function write(key, level, interval)
  local life = math.ceil(level * interval / 1000) + 1
  redis.call('SET', key, string.format('%.9f %.0f', level, now), 'PX', string.format('%.0f', life))
end

local levels, fits = {}, 1
for i, key in ipairs(KEYS) do
  local interval, capacity, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local known, level = redis.call('GET', key), 0
  if known then
    local before, at = string.match(known, '^(%S+) (%S+)$')
    level = math.max(0, before - math.max(0, now - at) / interval)
    -- The clock was set back.
    if tonumber(at) > now then write(key, level, interval) end
  end
  if level + cost > capacity + 0.000001 then fits = 0 end
  levels[i] = level
end

local answer = {fits}
for i, key in ipairs(KEYS) do
  if fits == 1 then write(key, levels[i] + ARGV[3 * i], tonumber(ARGV[3 * i - 2])) end
  answer[i + 1] = math.floor(levels[i] * 1000000)
end
return answer
