-- wrk, sending users: each with an id of its own.
local number = 0
wrk.method = "POST"
request = function()
  number = number + 1
  return wrk.format(nil, "/users/?user_id=" .. number .. "&name=Alice+Johnson&age=30")
end
