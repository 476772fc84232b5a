-- The load: one chat completion after the other on each connection, no two alike, not even in two runs, so that nothing
-- is answered from memory. Arguments after `--`: "stream" or "json"; a file of authorization values to send in turn, or ""; then
-- "name: value" headers. The last line printed is JSON.
local number = os.time() % 100000 * 10007
local credentials = {}
local tail

function init(args)
  tail = args[1] == "stream" and '"max_tokens":64,"stream":true}' or '"max_tokens":64}'
  wrk.headers["content-type"] = "application/json"
  for i = 3, #args do
    local name, value = args[i]:match("^([^:]+): (.*)$")
    wrk.headers[name] = value
  end
  if args[2] ~= "" then
    for line in io.lines(args[2]) do credentials[#credentials + 1] = line end
  end
end

function request()
  number = number + 1
  if #credentials > 0 then wrk.headers["authorization"] = credentials[number % #credentials + 1] end
  local body = '{"model":"stub","messages":[{"role":"system","content":"You are a helpful assistant for the ACME store."},'
    .. '{"role":"user","content":"What is the return policy for item ' .. number .. '?"}],' .. tail
  return wrk.format("POST", "/v1/chat/completions", nil, body)
end

function done(summary, latency)
  local e = summary.errors
  print(string.format(
    '{"requests":%d,"bytes":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,'
      .. '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}',
    summary.requests, summary.bytes, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
