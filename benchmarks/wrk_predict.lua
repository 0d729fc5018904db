-- wrk asks POST /predict with one body a line of a file, every thread another part of it, and prints
-- one line of JSON at the end: wrk -s wrk_predict.lua URL -- FILE THREADS
local counter = 0

function setup(thread)
  thread:set("number", counter)
  counter = counter + 1
end

function init(args)
  local file, threads = args[1], tonumber(args[2])
  bodies, place, failed = {}, 0, 0
  local index = 0
  for line in io.lines(file) do
    if index % threads == number then bodies[#bodies + 1] = line end
    index = index + 1
  end
  headers = {["Content-Type"] = "application/json"}
end

function request()
  place = place % #bodies + 1
  return wrk.format("POST", "/predict", headers, bodies[place])
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "failed": %d, "p50": %.6f, "p99": %.6f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
