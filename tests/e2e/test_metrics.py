"""What can be seen of the server: the metrics page, the access log, headers of answers, queues."""

import json
import re
import threading
import time

import numpy as np
import pytest
import requests

import serving
from serving import ROOT, binary_request, error_of, wait_until

X = np.ones((1, 3), np.float32)


def parse(text):
    """{(name, frozenset of labels): value}; checks the form on the way."""
    found, described, family = {}, set(), None
    for line in text.splitlines():
        if line.startswith("# "):
            kind, name, rest = line[2:].split(" ", 2)
            assert kind in ("HELP", "TYPE") and rest
            if kind == "HELP":
                assert name not in described, f"{name} is in two places"
                described.add(name)
                family = name
            continue
        m = re.fullmatch(r'([a-z_]+)(?:\{(.*)\})? (-?[0-9.e+]+)', line)
        assert m, line
        assert m[1] == family or m[1] in {family + s for s in ("_bucket", "_sum", "_count")}, line
        labels = frozenset(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', m[2] or ""))
        assert (m[1], labels) not in found, line
        found[m[1], labels] = float(m[3])
    return found


def metrics(server):
    answer = server.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parse(answer.text)


def of(found, name, **labels):
    return found[name, frozenset(labels.items())]


def ask(server, x=X, model="relu", headers=(), **more):
    body, h = binary_request({"x": x}, **more)
    return server.post(f"/v2/models/{model}/infer", body, headers={**h, **dict(headers)})


def test_requests_that_fail_are_counted(serve):
    """Whether the model was asked or the request not even understood, by whatever road it came."""
    server = serve(paths=[ROOT / "models" / "fashion"])
    m = {"model": "fashion", "version": "1"}
    picture = (ROOT / "models/fashion/samples/0000_ankle_boot.png").read_bytes()
    bad = [("/classify", b"no picture"), ("/classify", picture[:100]), ("/classify?top=0", picture),
           ("/classify", b""), ("/v2/models/fashion/infer", b"{"),
           ("/v2/models/fashion/infer", b'{"inputs":[' + b" " * 70000),
           ("/v1/models/fashion:predict", b'{"instances":[{"b64":"AAAA"}]}')]
    for n, (path, body) in enumerate(bad, 1):
        assert server.post(path, body).status_code == 400
        got = metrics(server)
        assert of(got, "convd_requests_total", outcome="failed", **m) == n, path
        assert of(got, "nv_inference_request_failure", reason="OTHER", **m) == n
    assert server.post("/classify", picture).status_code == 200
    got = metrics(server)
    assert of(got, "convd_requests_total", outcome="failed", **m) == len(bad)
    assert of(got, "convd_requests_total", outcome="success", **m) == 1
    stats = server.get("/v2/models/fashion/stats").json()["model_stats"][0]["inference_stats"]
    assert stats["fail"]["count"] == len(bad) and stats["success"]["count"] == 1


def test_counters_and_histograms(serve):
    server = serve()
    for n in 1, 1, 3:
        assert ask(server, np.ones((n, 3), np.float32)).status_code == 200
    got = metrics(server)
    m = {"model": "relu", "version": "1"}
    assert of(got, "nv_inference_request_success", **m) == 3
    assert of(got, "nv_inference_count", **m) == 5
    assert of(got, "nv_inference_exec_count", **m) == 3
    assert of(got, "nv_inference_request_failure", reason="OTHER", **m) == 0
    assert of(got, "convd_requests_total", outcome="success", **m) == 3
    assert of(got, "convd_batch_size_count", **m) == 3
    assert of(got, "convd_batch_size_sum", **m) == 5
    assert of(got, "convd_batch_size_bucket", le="1", **m) == 2
    assert of(got, "convd_batch_size_bucket", le="4", **m) == 3
    for name in "request", "queue", "compute", "decode":
        name = f"convd_{name}_duration_seconds"
        assert of(got, name + "_count", **m) == 3
        assert of(got, name + "_bucket", le="+Inf", **m) == 3
        buckets = [v for (n, l), v in got.items() if n == name + "_bucket" and ("model", "relu") in l]
        assert buckets == sorted(buckets)
    total = of(got, "convd_request_duration_seconds_sum", **m)
    parts = sum(of(got, f"convd_{n}_duration_seconds_sum", **m) for n in ("queue", "compute"))
    assert total >= parts > 0
    assert of(got, "convd_model_ready", **m) == 1
    assert of(got, "convd_model_ready", model="broken", version="1") == 0
    assert of(got, "convd_model_load_failures_total", model="broken", version="1") == 1
    assert of(got, "convd_http_responses_total", code="200") >= 3
    assert of(got, "convd_requests_in_flight") == 1  # this one


def test_process_metrics(serve):
    server = serve()
    got = metrics(server)
    assert abs(of(got, "process_start_time_seconds") - time.time()) < 600
    assert of(got, "process_cpu_seconds_total") > 0
    assert of(got, "process_resident_memory_bytes") == pytest.approx(server.memory(), rel=0.5)
    assert 5 < of(got, "process_open_fds") < 1000 <= of(got, "process_max_fds")
    assert of(got, "process_threads") > 3
    assert of(got, "convd_connections") == 1


def test_names_are_escaped(serve, tmp_path, models):
    folder = tmp_path / 'quo"te\\'
    folder.mkdir()
    (folder / "model.onnx").write_bytes((models / "relu" / "model.onnx").read_bytes())
    got = metrics(serve(paths=[folder]))
    assert of(got, "convd_model_ready", model='quo\\"te\\\\', version="1") == 1


def test_access_log(serve, tmp_path, models):
    path = tmp_path / "access.log"
    server = serve("--access-log", path)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    ask(server, headers={"X-Request-Id": "mine-1",
                         "traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    ask(server, headers={"traceparent": "00-" + "0" * 32 + "-00f067aa0ba902b7-01"})
    server.get('/v2/models/no"such')
    server.get("/v2/health/live")
    wait_until(lambda: len(path.read_text().splitlines()) == 4)
    first, second, third, fourth = map(json.loads, path.read_text().splitlines())
    assert first["id"] == "mine-1" and first["trace_id"] == trace
    assert first["model"] == "relu" and first["version"] == "1" and first["batch_size"] == 1
    assert first["method"] == "POST" and first["path"] == "/v2/models/relu/infer"
    assert first["status"] == 200 and first["peer"] == "127.0.0.1"
    assert first["total_ms"] >= first["queue_ms"] + first["compute_ms"] > 0
    assert first["decode_ms"] > 0 and first["request_bytes"] > 12 < first["response_bytes"]
    assert "trace_id" not in second and len(second["id"]) == 16
    assert third["status"] == 404 and "model" not in third
    assert fourth["path"] == "/v2/health/live"
    # Moved away, as logrotate does it.
    path.rename(tmp_path / "old.log")
    server.process.send_signal(serving.signal.SIGHUP)
    wait_until(path.exists)
    server.get("/v2/health/live")
    wait_until(lambda: len(path.read_text().splitlines()) == 1)


def test_a_client_that_left_is_499(serve, tmp_path):
    path = tmp_path / "access.log"
    server = serve("--access-log", path)
    body, headers = binary_request({"x": np.ones((4, 1, 192, 192), np.float32)})
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(server.url + "/v2/models/slow/infer", data=body, headers=headers,
                      timeout=0.05)
    wait_until(lambda: path.exists() and '"status":499' in path.read_text(), serving.PATIENCE)
    wait_until(lambda: of(metrics(server), "convd_http_responses_total", code="499") == 1)


def test_headers(server):
    answer = ask(server)
    timing = answer.headers["Server-Timing"]
    assert re.fullmatch(r"decode;dur=[\d.]+, queue;dur=[\d.]+, compute;dur=[\d.]+, "
                        r"total;dur=[\d.]+", timing)
    ids = {ask(server).headers["X-Request-Id"] for _ in range(20)}
    assert len(ids) == 20
    assert ask(server, headers={"X-Request-Id": "abc"}).headers["X-Request-Id"] == "abc"
    odd = ask(server, headers={"X-Request-Id": "a" * 500}).headers["X-Request-Id"]
    assert len(odd) == 16
    assert "Server-Timing" not in server.get("/v2").headers
    assert server.get("/nowhere").headers["X-Request-Id"]


def write_config(tmp_path, models, config, model="slow"):
    folder = tmp_path / model
    folder.mkdir()
    (folder / "model.onnx").write_bytes((models / model / "model.onnx").read_bytes())
    (folder / "config.json").write_text(json.dumps({"warmup": 0, **config}))
    return folder


SLOW = np.ones((1, 1, 192, 192), np.float32)


def waiting(server):
    got = metrics(server)
    return of(got, "convd_queue_length", model="slow", version="1")


def storm(server, parameters, samples=1):
    """Sends a request for each set of parameters, each once the one before it waits; the statuses
    in the order in which they were answered, as (number, status). The first has so many samples:
    where there are more than a batch may have, it waits and runs by turns."""
    ended, threads = [], []

    def client(k, more):
        with requests.Session() as session:
            x = np.repeat(SLOW, samples if k == 0 else 1, axis=0)
            body, headers = binary_request({"x": x}, parameters=more)
            answer = session.post(server.url + "/v2/models/slow/infer", data=body,
                                  headers=headers, timeout=serving.PATIENCE)
            ended.append((k, answer.status_code))

    for k, more in enumerate(parameters):
        t = threading.Thread(target=client, args=(k, more))
        t.start()
        threads.append(t)
        wait_until(lambda: ended or waiting(server) >= k + (samples > 1), serving.PATIENCE)
        time.sleep(0.01)
    for t in threads:
        t.join()
    return ended


def test_priorities(serve, tmp_path, models):
    folder = write_config(tmp_path, models, {"max_batch_size": 1, "instances": 1,
                                             "priority_levels": 3, "default_priority_level": 3})
    server = serve(paths=[folder])
    told = server.get("/v2/models/slow/config").json()["dynamic_batching"]
    assert told["priority_levels"] == 3 and told["default_priority_level"] == 3
    ended = storm(server, [{}, {}, {"priority": 2}, {"priority": 1}, {"priority": 9}], samples=40)
    assert all(status == 200 for _, status in ended)
    order = [k for k, _ in ended]
    # What comes with a higher priority is run between two samples of the first; the others wait.
    assert max(order.index(2), order.index(3)) < order.index(0)
    assert order.index(0) < order.index(1) < order.index(4)


def test_priorities_among_those_that_wait(serve, tmp_path, models):
    folder = write_config(tmp_path, models, {"max_batch_size": 1, "instances": 1,
                                             "priority_levels": 2, "default_priority_level": 1})
    server = serve(paths=[folder])
    many = [{"priority": 2}, {"priority": 2}, {"priority": 1}]
    ended = storm(server, many, samples=40)
    assert [k for k, _ in ended] == [2, 0, 1]


def test_queue_policy(serve, tmp_path, models):
    config = {"max_batch_size": 1, "max_queue_size": 3,
              "queue_policy": {"default_timeout_us": 1000, "timeout_action": "reject"}}
    server = serve(paths=[write_config(tmp_path, models, config)])
    told = server.get("/v2/models/slow/config").json()["dynamic_batching"]
    assert told["default_queue_policy"] == {
        "timeout_action": "REJECT", "default_timeout_microseconds": 1000,
        "allow_timeout_override": True, "max_queue_size": 3}
    got = dict(storm(server, [{"timeout": 60_000_000}, {}, {"timeout": 60_000_000}]))
    assert got[0] == 200 and got[2] == 200 and got[1] == 504


def test_fixed_timeout_delays(serve, tmp_path, models):
    config = {"max_batch_size": 1, "queue_policy": {
        "default_timeout_us": 1000, "timeout_action": "delay", "allow_timeout_override": False}}
    server = serve(paths=[write_config(tmp_path, models, config)])
    assert all(status == 200 for _, status in storm(server, [{}, {"timeout": 1}, {}]))


def test_default_timeout_of_the_server(serve, models):
    server = serve("--queue-timeout", "1500ms", paths=[models / "relu"])
    told = server.get("/v2/models/relu/config").json()["dynamic_batching"]
    assert told["default_queue_policy"]["default_timeout_microseconds"] == 1500000


def test_bad_preferences(serve, tmp_path, models):
    folder = write_config(tmp_path, models, {"preferred_batch_size": [16]}, "relu")
    other = write_config(tmp_path, models, {"preferred_batch_size": [4]}, "pair")
    server = serve(paths=[folder, other])
    entry, = [e for e in server.post("/v2/repository/index").json() if e["name"] == "relu"]
    assert "preferred_batch_size: holds 16, but a batch of this model has at most 8" in \
        entry["reason"]
    told = server.get("/v2/models/pair/config").json()["dynamic_batching"]
    assert told["preferred_batch_size"] == [4]


def test_connections_are_bounded(serve):
    server = serve("--max-connections", "4")
    held = [server.connect() for _ in range(4)]
    time.sleep(0.1)
    answer = requests.get(server.url + "/v2/health/live", timeout=serving.PATIENCE)
    assert "--max-connections" in error_of(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0 and answer.headers["Connection"] == "close"
    for s in held:
        s.close()
    wait_until(lambda: requests.get(server.url + "/v2/health/live").status_code == 200)


def test_connections_of_an_address_are_bounded(serve):
    server = serve("--max-connections-per-address", "2")
    held = [server.connect() for _ in range(2)]
    time.sleep(0.1)
    answer = requests.get(server.url + "/v2/health/live", timeout=serving.PATIENCE)
    assert "from this address" in error_of(answer, 429)
    assert int(answer.headers["Retry-After"]) > 0
    for s in held:
        s.close()
    wait_until(lambda: requests.get(server.url + "/v2/health/live").status_code == 200)


@pytest.mark.parametrize("start", [b"GET /v2 HTTP/1.1\r\n", b"POST /v2/models/relu/infer HTTP/1.1\r\n"
                                   b"Host: x\r\nContent-Length: 100000\r\n\r\n"])
def test_slow_senders_are_ended(serve, start):
    """A byte now and then keeps no connection open."""
    server = serve("--header-timeout", "1", "--body-timeout", "1", "--idle-timeout", "60")
    sock = server.connect()
    sock.sendall(start)
    begun = time.monotonic()
    with pytest.raises(OSError):
        while time.monotonic() - begun < 60:
            sock.sendall(b"x")
            time.sleep(0.1)
    assert time.monotonic() - begun < 20
    assert server.get("/v2/health/live").status_code == 200
