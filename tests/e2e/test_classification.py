"""The classification extension: strings of the largest values in place of a tensor."""

import json
import struct

import numpy as np
import pytest

from serving import JSON_LENGTH, binary_request, error_of, tensor

X = np.array([[0.25, 3, 1e6], [7, 7, -1], [0, 0, 0]], np.float32)
WANTED = ["1000000.000000:2", "3.000000:1", "7.000000:0", "7.000000:1", "0.000000:0", "0.000000:1"]


def classify(server, model, x, k, output="y", **parameters):
    body, headers = binary_request({"x": x}, outputs=[
        {"name": output, "parameters": {"classification": k, **parameters}}])
    return server.post(f"/v2/models/{model}/infer", body, headers=headers)


def unpack(blob):
    found = []
    while blob:
        n, = struct.unpack_from("<I", blob)
        found.append(blob[4:4 + n].decode())
        blob = blob[4 + n:]
    return found


def test_advertised(server):
    assert "classification" in server.get("/v2").json()["extensions"]


def test_json(server):
    answer = classify(server, "relu", X, 2)
    assert JSON_LENGTH not in answer.headers
    assert answer.json()["outputs"] == [
        {"name": "y", "datatype": "BYTES", "shape": [3, 2], "data": WANTED}]


def test_binary(server):
    answer = classify(server, "relu", X, 2, binary_data=True)
    length = int(answer.headers[JSON_LENGTH])
    blob = answer.content[length:]
    assert json.loads(answer.content[:length])["outputs"] == [
        {"name": "y", "datatype": "BYTES", "shape": [3, 2],
         "parameters": {"binary_data_size": len(blob)}}]
    assert unpack(blob) == WANTED


@pytest.mark.parametrize("k", [3, 4, 1000000, 1 << 40])
def test_more_than_there_are(server, k):
    assert classify(server, "relu", X, k).json()["outputs"][0]["shape"] == [3, 3]


def test_without_batch_axis(server):
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert classify(server, "fixed", x, 2).json()["outputs"][0] == {
        "name": "y", "datatype": "BYTES", "shape": [2], "data": ["5.000000:5", "4.000000:4"]}


@pytest.mark.parametrize("datatype", ["int8", "uint8", "int64", "uint64", "fp64"])
def test_types(server, datatype):
    dtype = datatype.replace("fp", "float")
    x = np.array([[1, 5, 3, 2]], dtype)
    value = "5.000000" if datatype == "fp64" else "5"
    assert classify(server, datatype, x, 1).json()["outputs"][0]["data"] == [value + ":1"]


@pytest.mark.parametrize("datatype,dtype", [("fp16", np.float16), ("bool", bool)])
def test_types_without_order(server, datatype, dtype):
    answer = classify(server, datatype, np.ones((1, 4), dtype), 1)
    assert "class result not available" in error_of(answer, 400)
    assert datatype.upper() in answer.text


def test_labels(server):
    x = np.zeros((1, 1, 28, 28), np.float32)
    config = server.get("/v2/models/fashion/config").json()
    body = {"inputs": [tensor(config["input"][0]["name"], x)],
            "outputs": [{"name": config["output"][0]["name"], "parameters": {"classification": 10}}]}
    data = server.post("/v2/models/fashion/infer", json.dumps(body)).json()["outputs"][0]["data"]
    found = {int(s.split(":")[1]): s.split(":")[2] for s in data}
    assert found[9] == "Ankle boot" and len(found) == 10
    values = [float(s.split(":")[0]) for s in data]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("k", ["-1", "1.5", "\"3\"", "true", "[]"])
def test_bad_count(server, k):
    body = json.dumps({"inputs": [tensor("x", X)]})[:-1] + (
        ',"outputs":[{"name":"y","parameters":{"classification":%s}}]}' % k)
    assert "classification" in error_of(server.post("/v2/models/relu/infer", body), 400)


def test_none_is_the_tensor(server):
    assert classify(server, "relu", X, 0).json()["outputs"][0]["datatype"] == "FP32"
