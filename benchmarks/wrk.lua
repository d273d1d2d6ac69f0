-- wrk's script: POST the lines of a file in turn, each a JSON body; at the end print the figures as one line of JSON.
--   wrk -t1 -c16 -d5s -s benchmarks/wrk.lua URL -- BODIES
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

local requests, number = {}, 0

function init(args)
  for body in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format(nil, nil, nil, body)
  end
end

function request()
  number = number % #requests + 1
  return requests[number]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
