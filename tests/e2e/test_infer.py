"""Inference: what goes in and what comes out, in JSON and in binary."""

import json
import math

import numpy as np
import pytest

from serving import JSON_LENGTH, TYPES, NUMPY, binary_request, error_of, outputs_of, tensor

INFER = "/v2/models/{}/infer"


def infer(server, model, inputs, **more):
    body = json.dumps({"inputs": [tensor(n, a) for n, a in inputs.items()], **more})
    return server.post(INFER.format(model), body)


def infer_binary(server, model, inputs, **more):
    body, headers = binary_request(inputs, **more)
    return server.post(INFER.format(model), body, headers=headers)


def examples(dtype, n=4):
    """n rows of 4 elements that cover the type's range."""
    rng = np.random.default_rng(7)
    if dtype == "bool":
        return rng.integers(0, 2, (n, 4)).astype(bool)
    if dtype.startswith("float"):
        a = rng.normal(size=(n, 4)).astype(dtype)
        info = np.finfo(dtype)
        a.flat[:4] = info.max, info.tiny, -info.max, -0.0
        return a
    info = np.iinfo(dtype)
    a = rng.integers(info.min, info.max, (n, 4), dtype, endpoint=True)
    a.flat[:3] = info.min, info.max, 0
    return a


@pytest.mark.parametrize("name", sorted(TYPES))
def test_types_binary(server, name):
    x = examples(NUMPY[name])
    y = outputs_of(infer_binary(server, name.lower(), {"x": x},
                                parameters={"binary_data_output": True}))["y"]
    assert y.tobytes() == x.tobytes()


@pytest.mark.parametrize("name", sorted(set(TYPES) - {"FP16"}))
def test_types_json(server, name):
    x = examples(NUMPY[name])
    answer = infer(server, name.lower(), {"x": x})
    y = outputs_of(answer)["y"]
    assert y.dtype == x.dtype and y.tobytes() == x.tobytes()
    if name == "BOOL":
        assert all(isinstance(v, bool) for v in answer.json()["outputs"][0]["data"])


def test_half_is_binary_only(server):
    x = np.ones((1, 4), np.float16)
    assert "FP16" in error_of(infer(server, "fp16", {"x": x}), 400)
    assert "binary_data" in error_of(infer_binary(server, "fp16", {"x": x}), 400)


OUT_OF_RANGE = [
    ("INT8", "128"), ("INT8", "-129"), ("UINT8", "256"), ("UINT8", "-1"), ("INT16", "32768"),
    ("UINT16", "65536"), ("INT32", "2147483648"), ("UINT32", "4294967296"),
    ("INT64", "9223372036854775808"), ("UINT64", "18446744073709551616"), ("INT32", "1.0"),
    ("INT32", "1e2"), ("INT32", "true"), ("BOOL", "1"), ("BOOL", "null"), ("FP32", "1e39"),
    ("FP32", "true"), ("FP32", "\"1\""), ("FP32", "null"), ("FP32", "1."), ("FP32", ".5"),
    ("FP32", "+1"), ("FP32", "01"), ("FP32", "0x1"), ("FP32", "nan"), ("FP32", "{}"),
    ("FP64", "1e309"), ("FP32", ""), ("FP32", "1 2"),
]


@pytest.mark.parametrize("datatype,value", OUT_OF_RANGE)
def test_bad_element(server, datatype, value):
    zero = "false" if datatype == "BOOL" else "0"
    body = ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"%s","data":[%s,%s,%s,%s]}]}'
            % (datatype, zero, zero, value, zero))
    assert "input 'x'" in error_of(server.post(INFER.format(datatype.lower()), body), 400)


def test_special_floats(server):
    body = ('{"inputs":[{"name":"x","shape":[2,4],"datatype":"FP32","data":'
            '[NaN,Infinity,-Infinity,-0.0,1e-45,3.4028235e38,0.1,16777217]}]}')
    answer = server.post(INFER.format("fp32"), body)
    assert b'"data":[NaN,Infinity,-Infinity,-0.0,1e-45,3.4028235e38,0.1,16777216.0]' in answer.content
    values = outputs_of(answer)["y"].ravel()
    assert math.isnan(values[0]) and values[1] == math.inf and values[2] == -math.inf


def test_float_bits_survive_json(server):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 1 << 32, 40000, np.uint32).view(np.float32)
    x = x[np.isfinite(x)][:39000].reshape(-1, 4)
    y = outputs_of(infer(server, "fp32", {"x": x}))["y"]
    assert y.tobytes() == x.tobytes()


@pytest.mark.parametrize("data", ["[1,-2,3,-4,5,-6]", "[[1,-2,3],[-4,5,-6]]",
                                  "[[[1]],[[-2]],3,[-4,[5]],[],-6]", " [ 1 ,-2,\n3,-4 ,5,\t-6 ] "])
def test_nesting(server, data):
    body = '{"inputs":[{"data":%s,"name":"x","shape":[2,3],"datatype":"FP32"}]}' % data
    y = outputs_of(server.post(INFER.format("relu"), body))["y"]
    assert y.tolist() == [[1, 0, 3], [0, 5, 0]]


@pytest.mark.parametrize("content_type", [None, "application/json", "application/octet-stream",
                                          "application/x-www-form-urlencoded", "nonsense"])
def test_content_type_does_not_matter(server, content_type):
    x = np.array([[1, -1, 2]], np.float32)
    headers = {"Content-Type": content_type} if content_type else {}
    body = json.dumps({"inputs": [tensor("x", x)]})
    answer = server.post(INFER.format("relu"), body, headers=headers)
    assert outputs_of(answer)["y"].tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("id", ["7", "", None, "ä \"quoted\" \\ \n", "x" * 5000])
def test_id(server, id):
    x = np.zeros((1, 3), np.float32)
    more = {} if id is None else {"id": id}
    answer = infer(server, "relu", {"x": x}, **more).json()
    assert answer.get("id") == (id or None)


A = np.array([[1, -2], [3, 4]], np.float32)
B = np.array([[10, 20], [30, 40]], np.float32)


def test_outputs_all(server):
    for more in {}, {"outputs": []}:
        answer = infer(server, "pair", {"b": B, "a": A}, **more)
        assert [o["name"] for o in answer.json()["outputs"]] == ["sum", "kept"]
        out = outputs_of(answer)
        assert (out["sum"] == A + B).all() and (out["kept"] == A.clip(0)).all()


def test_outputs_chosen(server):
    answer = infer(server, "pair", {"a": A, "b": B},
                   outputs=[{"name": "kept"}, {"name": "sum", "parameters": {"binary_data": True}}])
    out = outputs_of(answer)
    assert list(out) == ["kept", "sum"] and (out["sum"] == A + B).all()
    head = json.loads(answer.content[:int(answer.headers[JSON_LENGTH])])
    assert "parameters" not in head["outputs"][0]
    assert head["outputs"][1]["parameters"] == {"binary_data_size": 16}


def test_an_empty_list_of_outputs_is_all(server):
    answer = infer(server, "pair", {"a": A, "b": B}, outputs=[])
    assert list(outputs_of(answer)) == ["sum", "kept"]


def test_json_outputs_have_no_parameters(server):
    """Triton's C++ client takes any as a sign of binary data."""
    answer = infer(server, "pair", {"a": A, "b": B}).json()
    assert all("parameters" not in output for output in answer["outputs"])
    assert set(answer) == {"model_name", "model_version", "outputs"}


def test_listed_output_is_json_by_default(server):
    answer = infer(server, "pair", {"a": A, "b": B}, outputs=[{"name": "sum"}],
                   parameters={"binary_data_output": True})
    assert JSON_LENGTH not in answer.headers and outputs_of(answer)["sum"].shape == (2, 2)


def test_mixed_sources(server):
    head = json.dumps({"inputs": [tensor("b", B), tensor("a", A, True)]}).encode()
    answer = server.post(INFER.format("pair"), head + A.tobytes(),
                         headers={JSON_LENGTH: str(len(head))})
    assert (outputs_of(answer)["sum"] == A + B).all()


def test_header_with_json_only(server):
    body = json.dumps({"inputs": [tensor("a", A), tensor("b", B)]}).encode()
    answer = server.post(INFER.format("pair"), body, headers={JSON_LENGTH.lower(): str(len(body))})
    assert (outputs_of(answer)["sum"] == A + B).all()


def test_raw(server):
    x = np.array([1, -2, 3], np.float32)
    answer = server.post(INFER.format("relu"), x.tobytes(), headers={JSON_LENGTH: "0"})
    assert JSON_LENGTH in answer.headers
    assert outputs_of(answer)["y"].tolist() == [[1, 0, 3]]


def test_raw_bad(server):
    x = np.array([1, -2, 3, 4], np.float32)
    answer = server.post(INFER.format("relu"), x.tobytes(), headers={JSON_LENGTH: "0"})
    assert "Expected 12, got 16" in error_of(answer, 400)
    answer = server.post(INFER.format("pair"), x.tobytes(), headers={JSON_LENGTH: "0"})
    assert "Raw request must only have 1 input" in error_of(answer, 400)


@pytest.mark.parametrize("value,says", [
    ("+118", "Unable to parse Inference-Header-Content-Length, got: +118"),
    ("0x10", "Unable to parse Inference-Header-Content-Length"),
    ("", "Unable to parse Inference-Header-Content-Length"),
    ("abc", "Unable to parse Inference-Header-Content-Length, got: abc"),
    ("99999999999", "Unable to parse Inference-Header-Content-Length"),
    ("-1", "inference header size should be in range"),
    ("1000000", "inference header size should be in range"),
    ("3", "ends inside the string"),
    ("1", "not valid JSON"),
])
def test_header_length(server, value, says):
    body = json.dumps({"inputs": [tensor("a", A), tensor("b", B)]})
    answer = server.post(INFER.format("pair"), body, headers={JSON_LENGTH: value})
    assert says in error_of(answer, 400)


def test_binary_sizes(server):
    body, headers = binary_request({"a": A, "b": B})
    path = INFER.format("pair")
    assert ("unexpected size for input 'b', expecting 4 additional bytes for model 'pair'"
            in error_of(server.post(path, body[:-4], headers=headers), 400))
    assert ("unexpected additional input data for model 'pair'"
            in error_of(server.post(path, body + b"1234", headers=headers), 400))


@pytest.mark.parametrize("n", [1, 7, 8, 9, 50])
def test_batches(server, n):
    """Also more than the model's largest batch: such a request is split and put together again."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    y = outputs_of(infer_binary(server, "relu", {"x": x}))["y"]
    assert y.shape == x.shape and (y == x.clip(0)).all()


def test_no_batch_axis(server):
    x = np.array([[1, -1], [2, -2], [3, -3]], np.float32)
    assert outputs_of(infer(server, "fixed", {"x": x}))["y"].tolist() == [[1, 0], [2, 0], [3, 0]]
    answer = infer(server, "fixed", {"x": x[:2]})
    assert "Expected [3,2], got [2,2]." in error_of(answer, 400)


def test_large_json(server):
    """A photo-sized tensor: the way that costs most."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1, 3, 224, 224)).astype(np.float32)
    y = outputs_of(infer(server, "volume", {"x": x}))["y"]
    assert (y == x.clip(0)).all()


def test_timeout(server):
    x = np.zeros((1, 3), np.float32)
    answer = infer(server, "relu", {"x": x}, parameters={"timeout": 1})
    if answer.status_code != 200:  # one microsecond may be enough for what remains to be done
        assert "expired" in error_of(answer, 504)
    assert infer(server, "relu", {"x": x}, parameters={"timeout": 60000000}).status_code == 200


X = '"name":"x","shape":[1,3],"datatype":"FP32"'
GOOD = '{%s,"data":[1,2,3]}' % X

BAD = [
    ("", "the body is empty"),
    (" \n", "not valid JSON"),
    ('{"id":"a\\u0000b","inputs":[%s]}' % GOOD, "the character \\u0000, which is not taken"),
    ('{"a\\u0000":1,"inputs":[%s]}' % GOOD, "the character \\u0000, which is not taken"),
    ('{"a":1e999,"inputs":[%s]}' % GOOD, "a number is too large"),
    ("{", "not valid JSON"),
    ("nonsense", "not valid JSON"),
    ("[]", "must be a JSON object"),
    ("{}", "has no 'inputs'"),
    ('{"inputs":{}}', "'inputs'"),
    ('{"inputs":[]}', "expected 1 inputs but got 0 inputs for model 'relu'. Got input(s) [], but "
     "missing required input(s) ['x']. Please provide all required input(s)."),
    ('{"inputs":[%s]}x' % GOOD, "not valid JSON"),
    ('{"inputs":[%s],}' % GOOD, "not valid JSON"),
    ('{"inputs":[%s],"inputs":[]}' % GOOD, "duplicate"),
    ('{"inputs":[%s],"a":NaN}' % GOOD, "not valid JSON"),
    ('{"inputs":[%s],"a":"\xff"}' % GOOD, None),
    ('{"inputs":[{%s,"data":[1,2,3],"data":[1,2,3]}]}' % X, "duplicate"),
    ('{"inputs":[%s,%s]}' % (GOOD, GOOD), "input 'x' already exists in request"),
    ('{"inputs":[%s]}' % GOOD.replace('"x"', '"y"'), "unexpected inference input 'y' for model"),
    ('{"inputs":[%s]}' % GOOD.replace('"x"', "7"), "'name'"),
    ('{"inputs":[%s]}' % GOOD.replace("FP32", "INT64"),
     "inference input 'x' data-type is 'INT64', but model 'relu' expects 'FP32'"),
    ('{"inputs":[%s]}' % GOOD.replace("FP32", "FLOAT"), "'FLOAT'"),
    ('{"inputs":[%s]}' % GOOD.replace("[1,3]", "[1,4]"),
     "unexpected shape for input 'x' for model 'relu'. Expected [-1,3], got [1,4]."),
    ('{"inputs":[%s]}' % GOOD.replace("[1,3]", "[3]"), "got [3]"),
    ('{"inputs":[%s]}' % GOOD.replace("[1,3]", "[]"), "has no shape"),
    ('{"inputs":[%s]}' % GOOD.replace("[1,3]", "[0,3]"), "batch dimension must be >= 1"),
    ('{"inputs":[%s]}' % GOOD.replace("[1,3]", "[-1,3]"), "Unable to parse 'shape'"),
    ('{"inputs":[%s]}' % GOOD.replace("[1,3]", '["1",3]'), "Unable to parse 'shape'"),
    ('{"inputs":[%s]}' % GOOD.replace("[1,3]", "[2,3]"), "fewer than the 6 elements"),
    ('{"inputs":[%s]}' % GOOD.replace("[1,3]", "[2000000000,3]"), "fewer"),
    ('{"inputs":[%s]}' % GOOD.replace("[1,3]", "[9223372036854775807,3]"), None),
    ('{"inputs":[%s]}' % GOOD.replace("[1,3]", "[99999999999999999999,3]"), None),
    ('{"inputs":[%s]}' % GOOD.replace("[1,2,3]", "[1,2,3,4]"), "more than the 3 elements"),
    ('{"inputs":[%s]}' % GOOD.replace("[1,2,3]", "7"), "'data'"),
    ('{"inputs":[%s]}' % GOOD.replace("[1,2,3]", "[" * 99 + "]" * 99), "nesting depth"),
    ('{"inputs":[{%s}]}' % X, "But no field is set"),
    ('{"inputs":[{%s,"data":[1,2,3],"parameters":{"binary_data_size":12}}]}' % X,
     "But set 'data' 'binary_data_size'"),
    ('{"inputs":[{%s,"parameters":{"shared_memory_region":"r"}}]}' % X, "shared memory"),
    ('{"inputs":[{%s,"parameters":{"binary_data_size":12}}]}' % X, "expecting 12 additional bytes"),
    ('{"inputs":[{%s,"parameters":{"binary_data_size":"12"}}]}' % X, "'binary_data_size'"),
    ('{"inputs":[%s],"outputs":[{"name":"z"}]}' % GOOD,
     "unexpected inference output 'z' for model 'relu'"),
    ('{"inputs":[%s],"outputs":[{"name":"y"},{"name":"y"}]}' % GOOD,
     "output 'y' already exists in request"),
    ('{"inputs":[%s],"outputs":[{}]}' % GOOD, "'name'"),
    ('{"inputs":[%s],"outputs":7}' % GOOD, "'outputs'"),
    ('{"inputs":[%s],"id":7}' % GOOD, "'id'"),
    ('{"inputs":[%s],"parameters":[]}' % GOOD, "'parameters'"),
    ('{"inputs":[%s],"parameters":{"p":null}}' % GOOD, "parameter 'p' has invalid type"),
    ('{"inputs":[%s],"parameters":{"triton_p":1}}' % GOOD, "'triton_p'"),
    ('{"inputs":[%s],"parameters":{"timeout":-1}}' % GOOD, "'timeout'"),
    ("[" * 250000, "nesting depth exceeds maximum allowed limit (100)"),
    ('{"inputs":[{"data":' + "[" * 250000, "nesting depth exceeds maximum allowed limit (100)"),
    ('{"a":' * 250000, "nesting depth exceeds maximum allowed limit (100)"),
]


@pytest.mark.parametrize("body,says", BAD, ids=range(len(BAD)))
def test_bad_body(server, body, says):
    answer = server.post(INFER.format("relu"), body.encode("latin-1"))
    sentence = error_of(answer, 400)
    assert says is None or says in sentence


def test_too_much_json_beside_the_data(server):
    body = '{"inputs":[%s],"a":"%s"}' % (GOOD, "x" * 1000000)
    assert "longer than" in error_of(server.post(INFER.format("relu"), body), 413)


def test_unknown_fields_are_ignored(server):
    body = ('{"model_name":"x","a":[{"data":[1]}],"inputs":[{%s,"data":[1,2,3],"b":{"data":[9]},'
            '"parameters":{"content_type":"np"}}],"parameters":{"p":1.5,"q":"s","r":true}}' % X)
    assert outputs_of(server.post(INFER.format("relu"), body))["y"].tolist() == [[1, 2, 3]]
