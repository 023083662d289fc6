"""What the server can be told, and from where: flags, variables, a file; keys, origins."""

import json
import os
import subprocess

import pytest
import requests

import serving
from serving import error_of


def run(*args, env=None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CONVD_")}
    return subprocess.run([serving.BINARY, "serve", *map(str, args)], capture_output=True,
                          text=True, env={**environment, **(env or {})}, timeout=serving.PATIENCE)


def printed(*args, env=None):
    done = run(*args, "--print-config", env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_precedence(tmp_path):
    file = tmp_path / "convd.json"
    file.write_text('{"port": 1, "max_batch": 2, "max_body": "3M", "models": ["from-file"],'
                    ' "log_format": "json", "watch": true, "drain_timeout": 1.5, "api_keys": null}')
    told = printed("--config", file, "--port", "5", "path",
                   env={"CONVD_PORT": "4", "CONVD_MAX_BATCH": "4", "CONVD_CORS": "*,http://a.b"})
    assert told["port"] == 5 and told["max_batch"] == 4 and told["max_body"] == 3 << 20
    assert told["models"] == ["path", "from-file"] and told["log_format"] == "json"
    assert told["watch"] is True and told["drain_timeout"] == 1.5 and told["api_keys"] is None
    assert told["cors"] == ["*", "http://a.b"]
    told = printed("--models=a", "--models=b", env={"CONVD_CONFIG": str(file), "CONVD_MODELS": "c"})
    assert told["models"] == ["a", "b"] and told["port"] == 1


def test_what_is_printed_can_be_read(tmp_path):
    first = printed("--cors", "https://a.b", "--queue-timeout", "250ms", "--no-watch", "x.onnx")
    file = tmp_path / "again.json"
    file.write_text(json.dumps(first))
    assert printed("--config", file) == first


def test_every_setting_is_everywhere():
    """The table is one: what the help lists is what the file takes."""
    text = run("--help").stdout
    told = printed()
    flags = {line.split("--")[1].split()[0] for line in text.splitlines()
             if line.startswith("  ") and "--" in line[:8]}
    assert {f.replace("-", "_") for f in flags} - {"help", "config", "print_config"} == set(told)
    assert "The command line wins over the environment, and that over the file." in text


@pytest.mark.parametrize("content,says", [
    ('{"prot": 1}', 'unknown key "prot"; did you mean "port"?'),
    ('{"port": 99999}', "port: must be between 0 and 65535, got 99999"),
    ('{"port": }', "line 1, column"), ('{"config": "x"}', "cannot be set in a file"),
    ('{"watch": 1}', "watch: expected true or false")])
def test_bad_files(tmp_path, content, says):
    file = tmp_path / "bad.json"
    file.write_text(content)
    done = run("--config", file, "--print-config")
    assert done.returncode == 2 and says in done.stderr, done.stderr


@pytest.mark.parametrize("args,says", [
    (["--tls-cert", "x"], "belong together"), (["--cors", "example.org"], "is no origin"),
    (["--api-keys", "/nowhere"], "/nowhere"), (["--config", "/nowhere"], "/nowhere"),
    (["--access-log", "/nowhere/x"], "access log cannot be opened")])
def test_bad_settings(args, says):
    done = run(*args)
    assert done.returncode in (1, 2) and says in done.stderr


@pytest.fixture
def keys(tmp_path):
    api, control = tmp_path / "api", tmp_path / "control"
    api.write_text("# who may ask\n\nfirst-key-1234\n  second-key-1234  \n")
    control.write_text("control-key-1234\n")
    return api, control


def bearer(key):
    return {"headers": {"Authorization": f"Bearer {key}"}}


def test_api_keys(serve, keys):
    server = serve("--api-keys", keys[0], "--control-keys", keys[1], "--model-control")
    for path in "/v2", "/v2/models", "/v2/models/relu", "/metrics", "/v2/models/relu/ready":
        answer = server.get(path)
        assert "a key is needed" in error_of(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        error_of(server.get(path, **bearer("first-key-123")), 401)
        error_of(server.get(path, **bearer("first-key-12345")), 401)
        for key in "first-key-1234", "second-key-1234", "control-key-1234":
            assert server.get(path, **bearer(key)).status_code == 200
            assert server.get(path, headers={"X-API-Key": key}).status_code == 200
    for probe in "/v2/health/live", "/v2/health/ready":
        assert server.get(probe).status_code == 200
    error_of(server.post("/v2/models/relu/infer", b"{}"), 401)
    error_of(server.post("/v2/models/relu/infer", b"{}", **bearer("first-key-1234")), 400)
    load = "/v2/repository/models/relu/load"
    error_of(server.post(load), 401)
    assert "model control" in error_of(server.post(load, **bearer("first-key-1234")), 403)
    assert server.post(load, **bearer("control-key-1234")).status_code == 200
    # Keys change while it serves.
    keys[0].write_text("third-key-1234\n")
    server.process.send_signal(serving.signal.SIGHUP)
    serving.wait_until(lambda: server.get("/v2", **bearer("third-key-1234")).status_code == 200)
    error_of(server.get("/v2", **bearer("first-key-1234")), 401)
    keys[0].write_text("short\n")
    server.process.send_signal(serving.signal.SIGHUP)
    serving.wait_until(lambda: any("a key has 8 to 512" in line for line in server.log))
    assert server.get("/v2", **bearer("third-key-1234")).status_code == 200


def test_control_keys_alone(serve, keys):
    server = serve("--control-keys", keys[1], "--model-control")
    assert server.get("/v2/models").status_code == 200
    error_of(server.post("/v2/repository/models/relu/unload"), 401)
    assert server.post("/v2/repository/models/relu/unload",
                       **bearer("control-key-1234")).status_code == 200


def test_cors(serve):
    server = serve("--cors", "https://a.example", "--cors", "http://localhost:3000")
    answer = server.get("/v2", headers={"Origin": "https://a.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert "Inference-Header-Content-Length" in answer.headers["Access-Control-Expose-Headers"]
    assert answer.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Origin" not in server.get(
        "/v2", headers={"Origin": "https://b.example"}).headers
    ask = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    answer = requests.options(server.url + "/v2/models/relu/infer", headers=ask)
    assert answer.status_code == 204 and not answer.content
    assert answer.headers["Access-Control-Allow-Origin"] == ask["Origin"]
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "Content-Type" in answer.headers["Access-Control-Allow-Headers"]
    # An error is readable for the page, too.
    answer = server.get("/nowhere", headers={"Origin": "https://a.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"


def test_no_cors_unless_asked_for(server):
    answer = server.get("/v2", headers={"Origin": "https://a.example"})
    assert not [h for h in answer.headers if h.startswith("Access-Control")]
    assert requests.options(server.url + "/v2", headers={"Origin": "x"}).status_code == 405


def test_batch_norms_of_a_served_model(serve, tmp_path):
    """Folded by default, each a layer of its own where config.json says so: the same answers."""
    folder = tmp_path / "fashion"
    folder.mkdir()
    source = serving.ROOT / "models" / "fashion"
    for name in ("model.onnx", "labels.txt"):
        (folder / name).write_bytes((source / name).read_bytes())
    config = json.loads((source / "config.json").read_text())
    picture = (source / "samples" / "0000_ankle_boot.png").read_bytes()
    layers, classes = {}, {}
    for mode in (None, "folded", "separate"):
        (folder / "config.json").write_text(json.dumps({**config, "batchnorm": mode} if mode else config))
        s = serve(paths=[folder])
        profile = s.post("/v2/models/fashion/profile").json()
        assert profile["batchnorm"] == (mode or "folded")
        layers[mode] = profile["layers"]
        classes[mode] = s.post("/classify?top=10", picture).json()["predictions"][0]["classes"]
        assert s.stop() == 0
    report = json.loads(subprocess.run([serving.BINARY, "inspect", folder, "--json"],
                                       capture_output=True, check=True).stdout)
    norms = [layer for layer in layers["separate"] if layer["op"] == "BatchNormalization"]
    assert len(norms) == len(report["batchnorms"])
    for layer in norms:  # time, bytes and share of each
        assert layer["seconds"] > 0 and 0 < layer["share"] < 1 and layer["output_bytes"] > 0
    assert not [layer for layer in layers["folded"] if layer["op"] == "BatchNormalization"]
    assert classes[None] == classes["folded"]
    for one, other in zip(classes["folded"], classes["separate"]):
        assert one["index"] == other["index"] and abs(one["score"] - other["score"]) < 1e-5
