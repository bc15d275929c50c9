-- wrk's own summary in plain numbers: requests, errors, answers past 399, and microseconds in all, of p50 and of p99.
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("%d %d %d %d %d %d\n", summary.requests, e.connect + e.read + e.write + e.timeout, e.status,
    summary.duration, latency:percentile(50), latency:percentile(99)))
end
