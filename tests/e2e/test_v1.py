"""TensorFlow Serving's REST API and KServe's first protocol."""

import base64
import io
import json

import numpy as np
import PIL.Image
import pytest

import onnxfile as ox
from serving import error_of, one_node, outputs_of, tensor

X = np.array([[1, -1, 2], [-3, 4, -5]], np.float32)
RELU = np.maximum(X, 0).tolist()


def predict(server, model, body, **more):
    text = body if isinstance(body, str) else json.dumps(body)
    return server.post(f"/v1/models/{model}:predict", text, **more)


def test_list(server):
    assert server.get("/v1/models").json() == server.get("/v2/models").json()


def test_status(server):
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert server.get("/v1/models/versions").json() == {
        "name": "versions", "ready": True,
        "model_version_status": [{"version": v, **available} for v in ("1", "3")]}
    one = server.get("/v1/models/versions/versions/3").json()
    assert [v["version"] for v in one["model_version_status"]] == ["3"]
    error_of(server.get("/v1/models/none"), 404)
    error_of(server.get("/v1/models/versions/versions/2"), 404)


def test_status_of_a_broken_model(server):
    answer = server.get("/v1/models/broken")
    assert answer.status_code == 503 and answer.json()["ready"] is False
    status, = answer.json()["model_version_status"]
    assert status["state"] == "END" and status["status"]["error_message"]


def test_metadata(server):
    answer = server.get("/v1/models/pair/metadata").json()
    assert answer["model_spec"] == {"name": "pair", "signature_name": "", "version": "1"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["a"] == {
        "dtype": "DT_FLOAT", "name": "a",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
                         "unknown_rank": False}}
    assert set(signature["outputs"]) == {"sum", "kept"}
    assert server.get("/v1/models/versions/versions/1/metadata").json()["model_spec"]["version"] == "1"


def test_long_numbers(serve, tmp_path):
    """A sample that is one number, of any length."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "model.onnx").write_bytes(one_node("Identity", ox.DOUBLE, ["N"]))
    server = serve(paths=[tmp_path])
    for text in "1" + "0" * 100, "0." + "1" * 70 + "e5", "-1." + "0" * 3000 + "e10", "1" * 62:
        for body in '{"instances":[{"x":%s}]}', '{"instances":[%s]}', '{"inputs":[%s]}':
            answer = predict(server, "one", body % text).json()
            assert list(answer.values()) == [[float(text)]]


def test_many_pictures(server):
    body = '{"inputs":[{"b64":""}' + ",1" * 1000 + "]}"
    assert "more than 128 pictures" in error_of(predict(server, "fashion", body), 413)


def test_special_floats(server):
    """As TensorFlow Serving writes them."""
    body = '{"instances":[[NaN,Infinity,-Infinity,1]]}'
    answer = predict(server, "fp32", body)
    assert answer.content == b'{"predictions":[[NaN,Infinity,-Infinity,1.0]]}'
    answer = predict(server, "fp32", body.replace("instances", "inputs"))
    assert answer.content == b'{"outputs":[[NaN,Infinity,-Infinity,1.0]]}'


@pytest.mark.parametrize("body", ["", " "])
def test_empty_body(server, body):
    assert "the body is empty" in error_of(predict(server, "relu", body), 400)


@pytest.mark.parametrize("body,wanted", [
    ({"instances": X.tolist()}, {"predictions": RELU}),
    ({"instances": [{"x": row} for row in X.tolist()]}, {"predictions": RELU}),
    ({"inputs": X.tolist()}, {"outputs": RELU}),
    ({"inputs": {"x": X.tolist()}, "signature_name": "serving_default"}, {"outputs": RELU}),
    (' {"parameters" : { "a":[1,"]"] }, "instances" :\n[ [ 1 ,-1,2e0 ]\t] } ',
     {"predictions": [[1, 0, 2]]}),
])
def test_predict(server, body, wanted):
    answer = predict(server, "relu", body)
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/json"
    assert answer.json() == wanted


def test_versions(server):
    body = json.dumps({"instances": X.tolist()})
    path = "/v1/models/versions/versions/{}:predict"
    assert server.post(path.format(3), body).json() == {"predictions": RELU}
    error_of(server.post(path.format(2), body), 404)
    error_of(server.post(path.format(0), body), 404)


def test_several_inputs(server):
    rows = [{"a": [1, -2], "b": [3, 4]}, {"b": [5, 6], "a": [-7, 8]}]
    assert predict(server, "pair", {"instances": rows}).json() == {
        "predictions": [{"sum": [4, 2], "kept": [1, 0]}, {"sum": [-2, 14], "kept": [0, 8]}]}
    columns = {k: [row[k] for row in rows] for k in "ab"}
    assert predict(server, "pair", {"inputs": columns}).json() == {
        "outputs": {"sum": [[4, 2], [-2, 14]], "kept": [[1, 0], [0, 8]]}}


def test_nested(server):
    x = np.arange(-10, 2 * 3 * 224 * 224 - 10, dtype=np.float32).reshape(2, 3, 224, 224)
    answer = predict(server, "volume", {"instances": x.tolist()})
    assert answer.json()["predictions"] == np.maximum(x, 0).tolist()


def test_without_batch_axis(server):
    x = [[1, -2], [3, 4], [-5, 6]]
    assert predict(server, "fixed", {"instances": x}).json() == {
        "predictions": [[1, 0], [3, 4], [0, 6]]}
    assert predict(server, "fixed", {"inputs": x}).json() == {"outputs": [[1, 0], [3, 4], [0, 6]]}


@pytest.mark.parametrize("datatype,row", [("int64", [-1, 2, 3, 9007199254740993]),
                                          ("bool", [True, False, True, True]),
                                          ("fp64", [0.1, 1e300, -2.5, 0.0])])
def test_types(server, datatype, row):
    assert predict(server, datatype, {"instances": [row, row]}).json() == {"predictions": [row, row]}


BAD = [
    ("{", "not valid JSON"), ("[]", "must be a JSON object"),
    ("{}", "has none"), ('{"instances":[[1,2,3]],"inputs":[[1,2,3]]}', "has both"),
    ('{"instances":[[1,2,3]],"instances":[[1,2,3]]}', "twice"),
    ('{"instances":[]}', "empty"), ('{"instances":7}', "must be an array"),
    ('{"instances":[[1,2,3],[1,2]]}', "same length"), ('{"instances":[[1,2,3],4]}', "same length"),
    ('{"instances":[[1,2,3],[[1],[2],[3]]]}', "same length"),
    ('{"instances":[[1,2]]}', "got [1,2]"), ('{"instances":[1,2,3]}', "got [3]"),
    ('{"instances":[["a","b","c"]]}', "not strings"), ('{"instances":[[1,2,x]]}', "element 2"),
    ('{"instances":[[1,2,3]]', "ends too early"), ('{"instances":[[1,2,3]]}}', "nothing may follow"),
    ('{"instances":[[1,2,3]}', "closes"), ('{"instances" [[1,2,3]]}', "':' expected"),
    ('{"instances":[[1,2 3]]}', "expected"), ('{"instances":[[1,,3]]}', "input 'x'"),
    ('{"instances":[[1,2,3],]}', "input 'x'"), ('{"instances":[{"x":[1,2,3]},7]}', "mixes"),
    ('{"instances":[{"y":[1,2,3]}]}', "unexpected inference input"),
    ('{"instances":[{"x":[1,2,3]},{}]}', "missing required input 'x'"),
    ('{"instances":[{"x":[1,2,3],"x":[1,2,3]}]}', "already exists"),
    ('{"instances":[{"x":[1,2,3]},{"x":[[1,2,3]]}]}', "another shape"),
    ('{"instances":[{"x":{"z":1}}]}', "not objects"), ('{"instances":[{"x":7}]}', "got [1]"),
    ('{"instances":[{"b64":"AAAA"}]}', "takes no pictures"), ('{"inputs":{}}', "missing required"),
    ('{"instances":[[1,2,3]],"signature_name":1}', "signature_name"),
    ('{"instances":' + "[" * 250000, "depth"), ('{"instances":' + "[" * 20 + "]" * 20 + "}", "dimensions"),
    ('{"instances":[[1,2,1e39]]}', "does not fit"), ('{"instances":[[1,2,"', "has no end"),
]


@pytest.mark.parametrize("body,says", BAD, ids=range(len(BAD)))
def test_bad(server, body, says):
    assert says in error_of(predict(server, "relu", body), 400)


def test_half_is_not_json(server):
    assert "FP16" in error_of(predict(server, "fp16", {"instances": [[1, 2, 3, 4]]}), 400)


def test_names_are_needed(server):
    assert "must name them" in error_of(predict(server, "pair", {"instances": [[1, 2]]}), 400)


def test_routes(server):
    error_of(predict(server, "none", {"instances": []}), 404)
    for verb in "classify", "regress", "explain":
        assert ":predict" in error_of(server.post(f"/v1/models/relu:{verb}", "{}"), 501)
    error_of(server.post("/v1/models/:predict", "{}"), 405)  # a model of that name
    assert server.post("/v1/models/relu", "{}").status_code == 405


# Pictures.

def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (28, 28), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue(), pixels


def fashion(server):
    """Its input's and its output's name."""
    m = server.get("/v2/models/fashion").json()
    return m["inputs"][0]["name"], m["outputs"][0]["name"]


PICTURES = [png(i) for i in range(5)]


@pytest.fixture(scope="module")
def wanted(server):
    """What the model makes of the pixels."""
    name, out = fashion(server)
    x = np.stack([p for _, p in PICTURES]).astype(np.float32)[:, None]
    x = (x * np.float32(1 / 255) - np.float32(0.286)) / np.float32(0.353)
    body = json.dumps({"inputs": [tensor(name, x)]})
    return outputs_of(server.post("/v2/models/fashion/infer", body))[out]


def b64(content):
    return {"b64": base64.b64encode(content).decode()}


def test_pictures(server, wanted):
    name, _ = fashion(server)
    items = [b64(content) for content, _ in PICTURES]
    for body in ({"instances": items}, {"instances": [{name: item} for item in items]},
                 {"inputs": items}, {"inputs": {name: items}}):
        answer = predict(server, "fashion", body).json()
        np.testing.assert_allclose(list(answer.values())[0], wanted, rtol=1e-4, atol=1e-5)
    for body in {"inputs": items[0]}, {"inputs": {name: items[0]}}:
        np.testing.assert_allclose(predict(server, "fashion", body).json()["outputs"], wanted[:1],
                                   rtol=1e-4, atol=1e-5)


def test_base64_forms(server, wanted):
    """Without padding, the alphabet of addresses, and slashes that were escaped."""
    text = b64(PICTURES[0][0])["b64"]
    for form in text.rstrip("="), text.replace("+", "-").replace("/", "_"), text.replace("/", "\\/"):
        body = '{"instances":[{"b64":"%s"}]}' % form
        np.testing.assert_allclose(predict(server, "fashion", body).json()["predictions"],
                                   wanted[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("item,says", [
    ({"b64": "a"}, "base64"), ({"b64": "$$$$"}, "base64"), ({"b64": ""}, "picture"),
    (b64(b"GIF89a"), "picture 1"), (b64(PICTURES[0][0][:60]), "picture 1"), ([1], "mixes"),
])
def test_bad_pictures(server, item, says):
    body = {"instances": [b64(PICTURES[0][0]), item]}
    assert says in error_of(predict(server, "fashion", body), 400)


def bytes_input(name, contents, shape=None):
    return {"name": name, "datatype": "BYTES", "shape": shape or [len(contents)]}


def packed(contents):
    return b"".join(len(c).to_bytes(4, "little") + c for c in contents)


def post_bytes(server, head, blob):
    head = json.dumps(head).encode()
    return server.post("/v2/models/fashion/infer", head + blob,
                       headers={"Inference-Header-Content-Length": str(len(head))})


@pytest.mark.parametrize("shape", [[5], [5, 1]])
def test_bytes(server, wanted, shape):
    """Encoded pictures in the second protocol: BYTES in the place of the tensor."""
    name, out = fashion(server)
    contents = [content for content, _ in PICTURES]
    blob = packed(contents)
    entry = {**bytes_input(name, contents, shape), "parameters": {"binary_data_size": len(blob)}}
    answer = post_bytes(server, {"inputs": [entry], "parameters": {"binary_data_output": True}}, blob)
    np.testing.assert_allclose(outputs_of(answer)[out], wanted, rtol=1e-4, atol=1e-5)
    entry = {**bytes_input(name, contents, shape), "data": [b64(c)["b64"] for c in contents]}
    answer = server.post("/v2/models/fashion/infer", json.dumps({"inputs": [entry]}))
    np.testing.assert_allclose(outputs_of(answer)[out], wanted, rtol=1e-4, atol=1e-5)


def test_bad_bytes(server):
    name, _ = fashion(server)
    contents = [content for content, _ in PICTURES[:2]]
    for blob in (packed(contents)[:-1], packed(contents) + b"x", packed(contents[:1]), b"\0\0",
                 b"\xff\xff\xff\xff" + packed(contents)):
        entry = {**bytes_input(name, contents), "parameters": {"binary_data_size": len(blob)}}
        assert name in error_of(post_bytes(server, {"inputs": [entry]}, blob), 400)
    for shape in [2, 2], [2, 1, 1], [129]:
        blob = packed(contents)
        entry = {**bytes_input(name, contents, shape), "parameters": {"binary_data_size": len(blob)}}
        assert "pictures" in error_of(post_bytes(server, {"inputs": [entry]}, blob), 400)
    for data in [b64(contents[0])["b64"]], [1, 2], ["a", "b"], [["AAAA", "AAAA"]], []:
        entry = {**bytes_input(name, contents), "data": data}
        error_of(server.post("/v2/models/fashion/infer", json.dumps({"inputs": [entry]})), 400)


def test_bytes_need_a_picture_input(server):
    entry = {"name": "x", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]}
    answer = server.post("/v2/models/relu/infer", json.dumps({"inputs": [entry]}))
    assert "data-type is 'BYTES'" in error_of(answer, 400)
