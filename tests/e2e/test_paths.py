"""Every path, good and bad: one row a case."""

import json

import pytest

from serving import error_of

RELU = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, -2, 0.5]}]}

GOOD = [
    ("GET", "/v2/health/live", {"live": True}),
    ("GET", "/v2/health/live/", {"live": True}),
    ("GET", "/v2/health/live?x=1", {"live": True}),
    ("GET", "/v2/health/ready", {"ready": True}),
    ("GET", "/v2/models/relu/ready", {"name": "relu", "ready": True}),
    ("GET", "/v2/models/versions/ready", {"name": "versions", "ready": True}),
    ("GET", "/v2/models/versions/versions/3/ready", {"name": "versions", "ready": True}),
    ("GET", "/v2/models/relu", {
        "name": "relu", "versions": ["1"], "platform": "convd_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]}),
    ("GET", "/v2/models/%72elu", {
        "name": "relu", "versions": ["1"], "platform": "convd_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]}),
    ("POST", "/v2/models/relu/infer", {
        "model_name": "relu", "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [1, 0, 0.5]}]}),
    ("POST", "/v2/models/versions/infer", {
        "model_name": "versions", "model_version": "3",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [1, 0, 0.5]}]}),
    ("POST", "/v2/models/versions/versions/1/infer", {
        "model_name": "versions", "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [1, 0, 0.5]}]}),
]


@pytest.mark.parametrize("method,path,wanted", GOOD, ids=lambda v: v if isinstance(v, str) else "")
def test_good(server, method, path, wanted):
    answer = server.session.request(method, server.url + path,
                                    data=json.dumps(RELU) if method == "POST" else None)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert answer.json() == wanted
    assert b": " not in answer.content and b", " not in answer.content


BAD = [
    ("GET", "/nothing", 404, "GET /v2/models lists the models"),
    ("GET", "/v2/models/relu/nothing", 404, "/v2/models/relu/nothing"),
    ("GET", "/v2/models/none", 404, "Request for unknown model: 'none' is not found"),
    ("GET", "/v2/models/none/ready", 404, "Request for unknown model: 'none' is not found"),
    ("GET", "/v2/models/none/stats", 404, "'none'"),
    ("GET", "/v2/models/none/config", 404, "'none'"),
    ("GET", "/v2/models/a%2Fb", 404, "'a/b'"),
    ("GET", "/v2/models/relu/versions/9", 404,
     "Request for unknown model: 'relu' version 9 is not found"),
    ("GET", "/v2/models/relu/versions/x", 404, "versions/x"),
    ("GET", "/v2/models/broken", 404, "'broken' has no available versions"),
    ("GET", "/v2/models/broken/ready", 404, "'broken' has no available versions"),
    ("POST", "/v2/models/broken/infer", 404, "'broken' has no available versions"),
    ("GET", "/v2/models/broken/versions/1", 503, "'broken' version 1 is not at ready state"),
    ("GET", "/v2/models/broken/versions/1/ready", 503, "'broken' version 1"),
    ("POST", "/v2/models/broken/versions/1/infer", 503, "'broken' version 1"),
    ("POST", "/v2/models/none/infer", 404, "'none'"),
    ("POST", "/v2/models/relu/versions/2/infer", 404, "version 2"),
    ("POST", "/v2/models/none/classify", 404, "'none'"),
    ("POST", "/v2/health/live", 405, "GET, HEAD"),
    ("POST", "/v2", 405, "GET, HEAD"),
    ("POST", "/v2/models", 405, "GET, HEAD"),
    ("DELETE", "/v2/models/relu", 405, "GET, HEAD"),
    ("PUT", "/v2/models/relu/infer", 405, "POST"),
    ("GET", "/v2/models/relu/infer", 405, "POST"),
    ("GET", "/classify", 405, "POST"),
    ("GET", "/v2/repository/index", 405, "POST"),
    ("GET", "/v2/systemsharedmemory/status", 404, "Not Found"),
    ("GET", "/v2/cudasharedmemory/status", 404, "Not Found"),
    ("GET", "/v2/trace/setting", 404, "Not Found"),
    ("POST", "/v2/models/relu/generate", 404, "Not Found"),
    ("GET", "/v2/models/rel%00u", 404, "Not Found"),
]


@pytest.mark.parametrize("method,path,status,says", BAD)
def test_bad(server, method, path, status, says):
    answer = server.session.request(method, server.url + path)
    assert says in error_of(answer, status)
    if status == 405:
        assert answer.headers["Allow"] == says
    if status == 503:
        assert int(answer.headers["Retry-After"]) > 0


def test_server_metadata(server):
    meta = server.get("/v2").json()
    assert meta["name"] == "convd" and meta["version"]
    assert set(meta["extensions"]) >= {"binary_tensor_data", "parameters", "statistics",
                                       "model_configuration", "model_repository",
                                       "schedule_policy", "logging"}


def test_list(server):
    names = server.get("/v2/models").json()["models"]
    assert names[0] == "fashion" and "relu" in names and "versions" in names
    assert "broken" not in names and len(set(names)) == len(names)


def test_versions(server):
    assert server.get("/v2/models/versions").json()["versions"] == ["1", "3"]
    assert server.get("/v2/models/versions/versions/1").json()["versions"] == ["1"]


def test_model_without_batch_axis(server):
    assert server.get("/v2/models/fixed").json()["inputs"][0]["shape"] == [3, 2]
    config = server.get("/v2/models/fixed/config").json()
    assert config["max_batch_size"] == 0 and config["input"][0]["dims"] == [3, 2]
    assert "dynamic_batching" not in config


def test_config(server):
    config = server.get("/v2/models/fashion/config").json()
    assert config["name"] == "fashion" and config["max_batch_size"] >= 1
    assert config["input"] == [{"name": "image", "data_type": "TYPE_FP32",
                                "format": "FORMAT_NCHW", "dims": [1, 28, 28],
                                "is_shape_tensor": False, "allow_ragged_batch": False,
                                "optional": False}]
    assert config["output"][0]["dims"] == [10]
    assert config["output"][0]["label_filename"] == "labels.txt"
    assert config["default_model_filename"] == "model.onnx"
    for key in "platform", "instance_group", "model_transaction_policy", "response_cache":
        assert key in config


def test_statistics(server):
    def stats():
        return server.get("/v2/models/pair/stats").json()["model_stats"][0]

    before = stats()
    body = json.dumps({"inputs": [{"name": n, "shape": [2, 2], "datatype": "FP32",
                                   "data": [1, 2, 3, 4]} for n in "ab"]})
    for _ in range(3):
        assert server.post("/v2/models/pair/infer", body).status_code == 200
    after = stats()
    assert after["inference_count"] - before["inference_count"] == 6
    assert 1 <= after["execution_count"] - before["execution_count"] <= 3
    for key in "success", "queue", "compute_input", "compute_infer", "compute_output":
        grown = after["inference_stats"][key]["count"] - before["inference_stats"][key]["count"]
        assert grown == 3, key
    for key in "fail", "cache_hit", "cache_miss":
        assert after["inference_stats"][key]["count"] == before["inference_stats"][key]["count"]
    assert any(b["batch_size"] == 2 for b in after["batch_stats"])
    names = [s["name"] for s in server.get("/v2/models/stats").json()["model_stats"]]
    assert "pair" in names and "fashion" in names


COUNTERS = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output",
            "cache_hit", "cache_miss"}


def test_statistics_have_every_field(server):
    """Clients read them without asking whether they are there."""
    for entry in server.get("/v2/models/stats").json()["model_stats"]:
        assert {"name", "version", "last_inference", "inference_count", "execution_count",
                "inference_stats", "response_stats", "batch_stats", "memory_usage"} <= set(entry)
        assert COUNTERS == set(entry["inference_stats"])
        for counter in entry["inference_stats"].values():
            assert set(counter) == {"count", "ns"}


def test_head(server):
    answer = server.session.head(server.url + "/v2")
    assert answer.status_code == 200 and answer.content == b""
    assert int(answer.headers["Content-Length"]) == len(server.get("/v2").content)


def test_hint(server):
    answer = server.get("/", headers={"Accept": "text/plain"})
    assert answer.status_code == 200 and "/classify" in answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert server.get("/").headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/v2", "/nothing", "/v2/models/none"])
def test_request_id(server, path):
    assert server.get(path, headers={"X-Request-Id": "a-1"}).headers["X-Request-Id"] == "a-1"
    made = [server.get(path).headers["X-Request-Id"] for _ in range(2)]
    assert made[0] and made[1] and made[0] != made[1]
