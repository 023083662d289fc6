"""/openapi.json against the server: its paths are the route table, and answers are what it says."""

import json
import re

import jsonschema
import numpy as np
import pytest

import serving

SAMPLE = serving.ROOT / "models" / "fashion" / "samples" / "0000_ankle_boot.png"


@pytest.fixture(scope="module")
def spec(server):
    answer = server.get("/openapi.json")
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/json"
    return answer.json()


def routes():
    """(method, path) of every line of the table, as the description writes them."""
    text = (serving.ROOT / "server" / "routes.c").read_text()
    found = set()
    for method, pattern in re.findall(r'\{ "(GET|POST)", "([^"]*)", sv_', text):
        forms = [pattern]
        if "/V" in pattern:
            forms = [pattern.replace("/V", ""), pattern.replace("/V", "/versions/{version}")]
        for form in forms:
            form = form.replace("versions/N", "versions/{version}")
            form = re.sub(r"^page/M", "page/{file}", form)
            form = re.sub(r"^v2/repository/M/", "v2/repository/{repository}/", form)
            form = re.sub(r"/M\b", "/{model}", form)
            found.add((method.lower(), "/" + form))
    return found


def test_every_route_is_described(spec):
    described = {(method, path) for path, item in spec["paths"].items() for method in item}
    assert described == routes()
    ids = [operation["operationId"] for item in spec["paths"].values()
           for operation in item.values()]
    assert len(ids) == len(set(ids))


def refs(thing):
    if isinstance(thing, dict):
        if "$ref" in thing:
            yield thing["$ref"]
        for part in thing.values():
            yield from refs(part)
    elif isinstance(thing, list):
        for part in thing:
            yield from refs(part)


def test_it_is_well_formed(spec):
    assert spec["openapi"] == "3.1.0"
    assert re.fullmatch(r"\d+\.\d+\.\d+", spec["info"]["version"])
    for ref in set(refs(spec)):
        at = spec
        for key in ref[2:].split("/"):
            at = at[key]
    used = {ref.split("/")[-1] for ref in refs(spec)}
    for kind in ("schemas", "responses", "parameters"):
        assert set(spec["components"][kind]) <= used, f"{kind} that nothing uses"
    for schema in spec["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for path, item in spec["paths"].items():
        for operation in item.values():
            named = {p.get("name", p.get("$ref", "").split("/")[-1])
                     for p in operation.get("parameters", [])}
            assert set(re.findall(r"\{(\w+)\}", path)) <= named, path


def operation_of(spec, method, path):
    for described, item in spec["paths"].items():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/:]+", re.escape(described))
        if re.fullmatch(pattern, path) and method in item:
            yield described, item[method]


def check(spec, method, path, answer):
    """The answer is one that the description of some path allows."""
    path = path.split("?")[0]
    candidates = list(operation_of(spec, method, path))
    assert candidates, f"{method} {path} is not described"
    # The most exact path is meant: /v2/models/stats is no model called stats.
    described, operation = min(candidates, key=lambda c: c[0].count("{"))
    status = str(answer.status_code)
    assert status in operation["responses"], f"{method} {described}: {status}: {answer.text[:300]}"
    response = operation["responses"][status]
    if "$ref" in response:
        response = spec["components"]["responses"][response["$ref"].split("/")[-1]]
    content = response.get("content", {})
    media = answer.headers.get("Content-Type", "").split(";")[0]
    if not content:
        return
    assert media in content, f"{method} {described}: {status} as {media}"
    if media == "application/json":
        schema = {**content[media]["schema"], "components": spec["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())


def test_examples_are_answered(server, spec):
    """As they stand, by a model that takes rows of three numbers."""
    sent = 0
    for path, item in spec["paths"].items():
        for method, operation in item.items():
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                if "example" not in content or "versions" in path or path == "/v2/logging":
                    continue
                answer = server.post(path.replace("{model}", "relu"), json.dumps(content["example"]),
                                     headers={"Content-Type": media})
                assert answer.status_code == 200, f"{path}: {answer.text}"
                check(spec, method, path, answer)
                sent += 1
    assert sent == 2


INFER = json.dumps({"inputs": [serving.tensor("x", np.array([[1, -2, 3]], "f4"))]})

GETS = [
    "/", "/docs", "/openapi.json", "/page/main.js", "/page/nothing.js", "/v2", "/v2/health/live",
    "/v2/health/ready", "/v2/models", "/v2/models/stats", "/v2/models/fashion",
    "/v2/models/fashion/versions/1", "/v2/models/fashion/versions/9", "/v2/models/nothing",
    "/v2/models/pair", "/v2/models/broken", "/v2/models/fashion/ready", "/v2/models/nothing/ready",
    "/v2/models/fashion/versions/1/ready", "/v2/models/fashion/stats", "/v2/models/nothing/stats",
    "/v2/models/fashion/versions/1/stats", "/v2/models/fashion/config", "/v2/models/fixed/config",
    "/v2/models/fashion/versions/1/config", "/v2/models/fashion/report", "/v2/models/pair/report",
    "/v2/models/fixed/report", "/v2/models/broken/report", "/v2/models/nothing/report",
    "/v2/models/fashion/versions/1/report", "/v1/models", "/v1/models/fashion",
    "/v1/models/broken", "/v1/models/nothing", "/v1/models/versions/versions/3",
    "/v1/models/fashion/metadata", "/v1/models/versions/versions/3/metadata",
    "/v1/models/nothing/metadata", "/v2/logging", "/metrics",
    # the wrong method
    "/classify", "/v2/models/fashion/infer", "/v2/models/fashion/profile",
]

POSTS = [
    ("/classify", SAMPLE.read_bytes()), ("/classify", b"no picture"), ("/classify", b""),
    ("/v2/models/fashion/classify?top=3", SAMPLE.read_bytes()),
    ("/v2/models/fashion/classify?top=x", SAMPLE.read_bytes()),
    ("/v2/models/fashion/versions/1/classify", SAMPLE.read_bytes()),
    ("/v2/models/volume/classify", SAMPLE.read_bytes()),
    ("/v2/models/nothing/classify", SAMPLE.read_bytes()),
    ("/v2/models/relu/infer", INFER), ("/v2/models/relu/infer", "{"),
    ("/v2/models/relu/infer", '{"inputs":[]}'), ("/v2/models/nothing/infer", INFER),
    ("/v2/models/broken/infer", INFER), ("/v2/models/versions/versions/3/infer", INFER),
    ("/v2/models/fashion/profile", b""), ("/v2/models/fashion/profile?batch=2", b""),
    ("/v2/models/fashion/profile?batch=0", b""), ("/v2/models/fashion/profile?batch=x", b""),
    ("/v2/models/nothing/profile", b""), ("/v2/models/pair/profile", b""),
    ("/v2/models/versions/versions/3/profile", b""),
    ("/v1/models/relu:predict", '{"instances":[[1,2,3]]}'),
    ("/v1/models/relu:predict", '{"inputs":[[1,2,3]]}'), ("/v1/models/relu:predict", "{}"),
    ("/v1/models/nothing:predict", '{"instances":[[1,2,3]]}'),
    ("/v1/models/versions/versions/3:predict", '{"instances":[[1,2,3]]}'),
    ("/v1/models/relu:classify", "{}"), ("/v1/models/relu:regress", "{}"),
    ("/v1/models/relu:explain", "{}"),
    ("/v2/repository/index", b""), ("/v2/repository/index", '{"ready":true}'),
    ("/v2/repository/index", '{"ready":1}'), ("/v2/repository/models/relu/load", b""),
    ("/v2/repository/models/relu/unload", b""), ("/v2/repository/other/index", b""),
    ("/v2/repository/other/models/m/load", b""), ("/v2/repository/other/models/m/unload", b""),
    ("/v2/logging", "{}"), ("/v2/logging", '{"log_info":3}'),
    # the wrong method
    ("/v2/health/live", b""), ("/v2/models/fashion/report", b""),
]


@pytest.mark.parametrize("path", GETS)
def test_get(server, spec, path):
    answer = server.get(path)
    if answer.status_code == 405:
        check_error(spec, answer)
    else:
        check(spec, "get", path, answer)


@pytest.mark.parametrize("path, body", POSTS)
def test_post(server, spec, path, body):
    answer = server.post(path, body)
    if answer.status_code == 405:
        check_error(spec, answer)
    else:
        check(spec, "post", path, answer)
        # Every route can be asked for in the wrong way.
        bad = server.post(path, b"x", headers={"Content-Encoding": "compress"})
        check(spec, "post", path, bad)


def check_error(spec, answer):
    schema = {**spec["components"]["schemas"]["Error"]}
    jsonschema.Draft202012Validator(schema).validate(answer.json())


def test_control_and_keys(serve, spec, tmp_path):
    (tmp_path / "api").write_text("the-key-of-a-client-1234\n")
    (tmp_path / "control").write_text("the-key-of-an-operator-1234\n")
    s = serve("--model-control", "--api-keys", tmp_path / "api", "--control-keys",
              tmp_path / "control", "--max-body", "1000")
    client = {"Authorization": "Bearer the-key-of-a-client-1234"}
    operator = {"X-API-Key": "the-key-of-an-operator-1234"}
    for path in ("relu", "broken", "nothing"):
        for verb in ("load", "unload"):
            for headers in ({}, client, operator):
                where = f"/v2/repository/models/{path}/{verb}"
                check(spec, "post", where, s.post(where, b"", headers=headers))
    for path, item in spec["paths"].items():
        path = re.sub(r"\{version\}", "1", re.sub(r"\{(model|repository)\}", "relu", path))
        path = path.replace("{file}", "style.css")
        for method in item:
            ask = s.get if method == "get" else s.post
            check(spec, method, path, ask(path))
            if method == "post":
                check(spec, method, path, ask(path, b"x" * 2000, headers=operator))
