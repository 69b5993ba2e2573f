-- Repeats one call of the API: wrk -s calls.lua ADDRESS -- CALL FIRST KNOWN PAUSE_MS
-- CALL: health, stats, page, get, create, update, delete, batch. FIRST: the first id that create,
-- delete and batch may use. KNOWN: get and update use random ids below it. PAUSE_MS: how long a
-- connection waits between two requests, on average.

local MOST_PREPARED = 100000
local BATCH = 1000

local PARAMETERS = "name=Alice%20Johnson&age=30"
local calls, requests, number, known = {}, {}, 0, 0

local function next_prepared()
  number = number % #requests + 1
  return requests[number]
end

local function prepared(method, path, query)
  math.randomseed(1)
  for _ = 1, math.min(known, MOST_PREPARED) do
    requests[#requests + 1] = wrk.format(method, path .. math.random(0, known - 1) .. query)
  end
  return next_prepared
end

local function plain(path)
  requests[1] = wrk.format("GET", path)
  return next_prepared
end

local function create()
  number = number + 1
  return wrk.format("POST", "/users/?user_id=" .. number .. "&" .. PARAMETERS)
end

function calls.health() return plain("/health") end
function calls.stats() return plain("/stats/ages") end
function calls.page() return plain("/users/?limit=100") end
function calls.get() return prepared("GET", "/users/", "") end
function calls.update() return prepared("PUT", "/users/", "?" .. PARAMETERS) end
function calls.create() return create end

function calls.delete()
  local there, oldest = {}, 1 -- the ids of confirmed creates: only these can be deleted for certain
  function response(_, _, body)
    there[#there + 1] = body:match('"user_id":%s*(%d+)')
  end
  return function()
    if not there[oldest] then return create() end
    oldest = oldest + 1
    return wrk.format("DELETE", "/users/" .. there[oldest - 1])
  end
end

function calls.batch()
  wrk.headers["Content-Type"] = "application/json"
  return function()
    local users = {}
    for i = 1, BATCH do
      users[i] = '"' .. number + i .. '":{"name":"Alice Johnson","age":30}'
    end
    number = number + BATCH
    return wrk.format("POST", "/users/batch", nil, "{" .. table.concat(users, ",") .. "}")
  end
end

function init(arguments)
  number, known = tonumber(arguments[2]), tonumber(arguments[3])
  request = calls[arguments[1]]()
  local pause_ms = tonumber(arguments[4])
  if pause_ms > 0 then
    function delay() -- whole milliseconds; the fraction decides how often one more is taken
      return math.floor(pause_ms * 2 * math.random() + math.random())
    end
  end
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\n{"answered": %d, "seconds": %.6f, "refused": %d, "broken": %d, "p99_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(99) / 1000
  ))
end
