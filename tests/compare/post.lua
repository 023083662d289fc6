-- For wrk: every request is a POST of the file in BODY, JSON_LENGTH of which are JSON.
wrk.method = "POST"
local file = assert(io.open(os.getenv("BODY"), "rb"))
wrk.body = file:read("*a")
file:close()
wrk.headers["Inference-Header-Content-Length"] = os.getenv("JSON_LENGTH")
