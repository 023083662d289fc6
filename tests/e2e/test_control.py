"""Models that come, change and go while the server serves: the repository extension, the folder
watch, SIGHUP; and the log."""

import json
import os
import shutil
import signal
import threading
import time

import numpy as np
import pytest
import requests

import onnxfile as ox
import serving
from serving import binary_request, error_of, outputs_of, wait_until


def scaling(factor):
    """y = x * factor, so that an answer tells which model gave it."""
    return ox.model([ox.node("Mul", ["x", "f"], ["y"])], [ox.value_info("x", ox.FLOAT, ["N", 4])],
                    [ox.value_info("y", ox.FLOAT, ["N", 4])],
                    [ox.floats("f", np.array([factor], np.float32))])


def put(path, content):
    """Replaces a file as one step, as whoever deploys models should."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name("." + path.name)
    new.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    os.replace(new, path)


def ask(server, name="m", version=None, x=1.0):
    body, headers = binary_request({"x": np.full((1, 4), x, np.float32)})
    where = f"/versions/{version}" if version else ""
    return server.post(f"/v2/models/{name}{where}/infer", body, headers=headers)


def factor_of(server, **where):
    return float(outputs_of(ask(server, **where))["y"][0, 0])


def index(server, **body):
    answer = server.post("/v2/repository/index", json.dumps(body) if body else b"")
    assert answer.status_code == 200
    return {(e["name"], e.get("version")): (e["state"], e["reason"]) for e in answer.json()}


def load(server, name="m", body=b""):
    return server.post(f"/v2/repository/models/{name}/load", body)


def unload(server, name="m", body=b'{"parameters":{"unload_dependents":false}}'):
    return server.post(f"/v2/repository/models/{name}/unload", body)


@pytest.fixture
def folder(tmp_path):
    put(tmp_path / "m" / "1" / "model.onnx", scaling(2))
    put(tmp_path / "other" / "model.onnx", scaling(-1))
    return tmp_path


def test_load_and_unload(serve, folder):
    server = serve("--model-control", paths=[folder])
    assert index(server) == {("m", "1"): ("READY", ""), ("other", "1"): ("READY", "")}
    put(folder / "m" / "3" / "model.onnx", scaling(3))
    assert factor_of(server) == 2
    answer = load(server)
    assert answer.status_code == 200 and answer.content == b""
    assert factor_of(server) == 3 and factor_of(server, version=1) == 2
    assert server.get("/v2/models/m").json()["versions"] == ["1", "3"]
    assert unload(server).status_code == 200
    assert "no available versions" in error_of(ask(server), 404)
    assert index(server)["m", "3"] == ("UNAVAILABLE", "unloaded")
    assert ("m", "3") not in index(server, ready=True)
    assert factor_of(server, name="other") == -1
    assert unload(server).status_code == 200
    assert load(server, body=b"{}").status_code == 200
    assert factor_of(server) == 3


def test_failed_load_keeps_the_old(serve, folder):
    server = serve("--model-control", paths=[folder])
    put(folder / "m" / "1" / "model.onnx", b"\x08\x08no model")
    assert "load failed for model 'm'" in error_of(load(server), 400)
    assert factor_of(server) == 2
    state, reason = index(server)["m", "1"]
    assert state == "READY" and "model.onnx" in reason
    wait_until(lambda: any("was not loaded, the one before stays" in line for line in server.log))
    text = server.get("/metrics").text
    assert 'convd_model_load_failures_total{model="m",version="1"} 1' in text
    put(folder / "m" / "1" / "model.onnx", scaling(5))
    assert load(server).status_code == 200
    assert factor_of(server) == 5 and index(server)["m", "1"] == ("READY", "")


def test_broken_config_keeps_the_old(serve, folder):
    put(folder / "m" / "config.json", {"name": "given"})
    server = serve("--model-control", paths=[folder])
    assert factor_of(server, name="given") == 2
    put(folder / "m" / "config.json", {"name": "given", "instances": "many"})
    assert "instances: expected a whole number" in error_of(load(server, "given"), 400)
    assert factor_of(server, name="given") == 2


@pytest.mark.parametrize("name,status", [("nothing", 404), ("..%2f..%2fetc", 400), ("..", 400),
                                         ("%2e%2e", 400), ("m%2f1", 400), ("stats", 400)])
def test_names_are_no_paths(serve, folder, name, status):
    server = serve("--model-control", paths=[folder])
    url = f"{server.url}/v2/repository/models/{name}/load"
    request = requests.Request("POST", url).prepare()
    request.url = url  # as it stands
    answer = server.session.send(request, timeout=serving.PATIENCE)
    error_of(answer, status)


@pytest.mark.parametrize("body,says", [
    (b"{", "not valid JSON"), (b"[]", "must be a JSON object"),
    (b'{"parameters":{"file:1/model.onnx":"AAAA","config":"{}"}}', "file:1/model.onnx"),
    (b'{"parameters":{"config":{}}}', "'config' must be a string"),
    (b'{"parameters":{"config":"{\\"instances\\":0}"}}', "instances: must be between"),
    (b'{"parameters":{"other":1}}', "unknown parameter 'other'")])
def test_bad_loads(serve, folder, body, says):
    server = serve("--model-control", paths=[folder])
    assert says in error_of(load(server, body=body), 400)
    assert factor_of(server) == 2


@pytest.mark.parametrize("path", ["repository/index", "repository/models/m/load",
                                  "repository/models/m/unload", "logging"])
def test_long_bodies(serve, folder, path):
    """A tree of values takes many times the memory of its text."""
    server = serve("--model-control", paths=[folder])
    body = b"{}" + b" " * ((256 << 10) - 2)
    assert server.post("/v2/" + path, body).status_code == 200
    assert "at most 262144" in error_of(server.post("/v2/" + path, body + b" "), 413)


def test_load_with_another_config(serve, folder):
    server = serve("--model-control", paths=[folder])
    body = json.dumps({"parameters": {"config": json.dumps({"max_batch_size": 3})}})
    assert load(server, body=body).status_code == 200
    assert server.get("/v2/models/m/config").json()["max_batch_size"] == 3


def test_off_unless_asked_for(serve, folder):
    server = serve(paths=[folder])
    assert "not allowed" in error_of(load(server), 503)
    assert "not allowed" in error_of(unload(server), 503)
    assert len(index(server)) == 2
    assert "expected a boolean" in error_of(server.post("/v2/repository/index", b'{"ready":1}'),
                                            400)
    assert server.get("/v2/repository/index").status_code == 405
    assert "not supported" in error_of(server.post("/v2/repository/mine/index"), 501)
    assert "not supported" in error_of(server.post("/v2/repository/mine/models/m/load"), 501)


@pytest.mark.parametrize("path", ["index", "models/m/load", "models/m/unload"])
def test_named_repository(server, path):
    answer = server.post("/v2/repository/other/" + path)
    assert "'repository_name' specification is not supported" in error_of(answer, 501)


@pytest.mark.parametrize("policy,served", [
    ({"latest": {"num_versions": 2}}, ["2", "10"]), ({"latest": {}}, ["10"]),
    ({"specific": {"versions": [1, 10, 7]}}, ["1", "10"]), ({"all": {}}, ["1", "2", "10"])])
def test_version_policy(serve, tmp_path, policy, served):
    for version in 1, 2, 10:
        put(tmp_path / "m" / str(version) / "model.onnx", scaling(version))
    put(tmp_path / "m" / "config.json", {"version_policy": policy})
    server = serve(paths=[tmp_path])
    assert server.get("/v2/models/m").json()["versions"] == served
    told = server.get("/v2/models/m/config").json()["version_policy"]
    assert told == ({"latest": {"num_versions": 1}} if policy == {"latest": {}} else
                    policy)


def test_latest_version_moves_on(serve, tmp_path):
    put(tmp_path / "m" / "1" / "model.onnx", scaling(1))
    put(tmp_path / "m" / "config.json", {"version_policy": {"latest": {"num_versions": 1}}})
    server = serve("--model-control", paths=[tmp_path])
    put(tmp_path / "m" / "2" / "model.onnx", b"broken")
    error_of(load(server), 400)
    assert factor_of(server) == 1  # stays as long as its successor is not there
    put(tmp_path / "m" / "2" / "model.onnx", scaling(2))
    assert load(server).status_code == 200
    assert factor_of(server) == 2
    assert "not at ready state" in error_of(ask(server, version=1), 503)
    assert index(server)["m", "1"] == ("UNAVAILABLE", "unloaded")


@pytest.mark.parametrize("how", [["--watch"], ["--watch", "--watch-interval", "200ms"]])
def test_watch(serve, folder, how):
    server = serve(*how, paths=[folder])
    put(folder / "m" / "1" / "model.onnx", scaling(7))
    wait_until(lambda: factor_of(server) == 7)
    put(folder / "m" / "2" / "model.onnx", scaling(8))
    wait_until(lambda: factor_of(server) == 8)
    put(folder / "new" / "model.onnx", scaling(9))
    wait_until(lambda: ask(server, name="new").status_code == 200)
    shutil.rmtree(folder / "new")
    wait_until(lambda: ask(server, name="new").status_code == 404)
    put(folder / "m" / "2" / "model.onnx", b"broken")
    wait_until(lambda: "model.onnx" in index(server)["m", "2"][1])
    assert factor_of(server) == 8
    assert factor_of(server, name="other") == -1


def test_hangup_looks_again(serve, folder):
    server = serve(paths=[folder])
    put(folder / "m" / "1" / "model.onnx", scaling(4))
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: factor_of(server) == 4)
    assert server.stop() == 0


def test_reloads_under_load(serve, tmp_path):
    """Two versions that differ take turns while eight clients ask: every answer is whole, of one of
    the two, and none is an error."""
    models = [scaling(2), scaling(3)]
    path = tmp_path / "m" / "model.onnx"
    put(path, models[0])
    server = serve("--model-control", paths=[tmp_path])
    stop, problems, answers = threading.Event(), [], [0] * 8

    def client(k):
        rng = np.random.default_rng(k)
        with requests.Session() as session:
            while not stop.is_set():
                x = rng.integers(1, 1000, (1 + k % 3, 4)).astype(np.float32)
                body, headers = binary_request({"x": x})
                answer = session.post(server.url + "/v2/models/m/infer", data=body,
                                      headers=headers, timeout=serving.PATIENCE)
                if answer.status_code != 200:
                    problems.append(answer.text)
                    continue
                y = outputs_of(answer)["y"]
                if not ((y == 2 * x).all() or (y == 3 * x).all()):
                    problems.append(f"{x} gave {y}")
                answers[k] += 1

    clients = [threading.Thread(target=client, args=(k,)) for k in range(8)]
    for c in clients:
        c.start()
    try:
        memory = 0
        for i in range(200):
            put(path, models[(i + 1) % 2])
            assert load(server).status_code == 200
            assert factor_of(server) == (3, 2)[i % 2]
            if i == 50:
                memory = server.memory()
        assert server.memory() < memory + (24 << 20) or serving.INSTRUMENTED
    finally:
        stop.set()
        for c in clients:
            c.join()
    assert not problems, problems[:3]
    assert min(answers) > 0
    loads = 'convd_model_loads_total{model="m",version="1"} 201'
    assert loads in server.get("/metrics").text


def test_unload_lets_requests_finish(serve, models):
    server = serve("--model-control", paths=[models / "slow"])
    body, headers = binary_request({"x": np.ones((4, 1, 192, 192), np.float32)})
    done = []
    thread = threading.Thread(target=lambda: done.append(
        requests.post(server.url + "/v2/models/slow/infer", data=body, headers=headers,
                      timeout=serving.PATIENCE).status_code))
    thread.start()
    wait_until(lambda: "convd_requests_in_flight 2" in server.get("/metrics").text)
    begun = time.monotonic()
    assert unload(server, "slow").status_code == 200
    thread.join()
    assert done == [200], time.monotonic() - begun
    error_of(ask(server, name="slow"), 404)


def test_logging(server):
    told = server.get("/v2/logging").json()
    assert told == {"log_file": "", "log_info": True, "log_warning": True, "log_error": True,
                    "log_verbose_level": 0, "log_format": "ISO8601"}
    answer = server.post("/v2/logging", b'{"log_info":false,"log_warning":null}').json()
    assert not answer["log_info"] and answer["log_warning"]
    answer = server.post("/v2/logging", b'{"log_info":true,"log_verbose_level":1}').json()
    assert answer["log_info"] and answer["log_verbose_level"] == 1
    answer = server.post("/v2/logging", b'{"log_verbose_level":0,"log_format":"default"}').json()
    assert answer == told
    error_of(server.post("/v2/logging", b'{"log_file":"x"}'), 501)
    error_of(server.post("/v2/logging", b'{"log_format":"other"}'), 400)
    error_of(server.post("/v2/logging", b'{"log_error":1}'), 400)
    error_of(server.post("/v2/logging", b'{"log_colour":true}'), 400)
    assert server.post("/v2/logging", b"").json() == told
