"""Clients that mean harm: each gets a bounded answer or an end. What others notice of them:
test_neighbours.py."""

import contextlib
import json
import os
import pathlib
import shutil
import time

import pytest
from requests.structures import CaseInsensitiveDict

import serving
from serving import ROOT, error_of, slow_readers, wait_until

DATA = pathlib.Path(os.environ.get("CONVD_DATA", ROOT / ".." / "shared" / "data"))
CHUNKED = b"POST /v2/models/relu/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_endless_chunks(server):
    """What comes behind a refusal is dropped for a while only."""
    with server.connect() as s, pytest.raises(ConnectionError):
        s.sendall(CHUNKED)
        for _ in range(20000):
            s.sendall(b"1\r\n \r\n" * 1000)


def test_slow_body(serve):
    """Byte by byte does not put off the end."""
    server = serve("--body-timeout", "1", "--idle-timeout", "300")
    begin = time.monotonic()
    with server.connect() as s:
        s.sendall(b"POST /v2/models/relu/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        s.settimeout(0.1)
        answer = None
        while answer is None and time.monotonic() - begin < 60:
            with contextlib.suppress(ConnectionError):
                s.sendall(b" ")
            try:
                answer = s.recv(4096)
            except TimeoutError:
                pass
            except ConnectionError:
                answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408"), answer


def test_slow_readers_are_ended(serve):
    server = serve("--idle-timeout", "1")
    before = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    with slow_readers(server)():
        assert server.get("/v2/health/ready").status_code == 200
        wait_until(lambda: len(os.listdir(f"/proc/{server.process.pid}/fd")) <= before + 2, 60)


def keys_of(serve, tmp_path):
    file = tmp_path / "keys"
    file.write_text("the-key-of-this-test-0123456789\n")
    return serve("--api-keys", file)


def test_wrong_keys_look_alike(serve, tmp_path):
    """Neither the answer nor its length tells how much of a key was right."""
    server = keys_of(serve, tmp_path)
    key = "the-key-of-this-test-0123456789"
    answers = set()
    for guess in ["x" * len(key), key[:-1] + "x", key[:1] + "x" * (len(key) - 1), key + "x",
                  key[:-1], key.upper()]:
        answer = server.get("/v2/models", headers={"Authorization": f"Bearer {guess}"})
        answers.add((answer.status_code, answer.content, frozenset(answer.headers)))
    assert len(answers) == 1 and answers.pop()[0] == 401
    assert server.get("/v2/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200


NAMES = ["../relu", "..", ".", "/etc/passwd", "relu/../pair", "%2e%2e%2frelu", "%2e%2e/%2e%2e/etc",
         "relu%00", "..%5crelu", "%c0%ae%c0%ae", "relu%2f1", "a" * 4000]


@pytest.mark.parametrize("path", ["/v2/models/{}", "/v2/models/{}/config", "/v2/models/{}/stats",
                                  "/v2/models/relu/versions/{}", "/v1/models/{}",
                                  "/v1/models/relu/versions/{}", "/v2/models/{}/versions/1/infer",
                                  "/{}", "/v2/repository/models/{}/load",
                                  "/v2/repository/models/{}/unload"])
def test_names_in_every_place(serve, models, path):
    """Sent as they are: no client of ours tidies them up."""
    server = serve("--model-control", paths=[models])
    with server.connect() as s:
        reader = s.makefile("rb")
        for name in NAMES:
            method = "POST" if path.endswith(("load", "infer")) else "GET"
            length = "Content-Length: 0\r\n" if method == "POST" else ""
            s.sendall(f"{method} {path.format(name)} HTTP/1.1\r\nHost: x\r\n{length}\r\n".encode())
            status = int(reader.readline().split()[1])
            headers = CaseInsensitiveDict(
                line.decode().strip().split(": ", 1)
                for line in iter(reader.readline, b"\r\n"))
            body = reader.read(int(headers["Content-Length"]))
            assert 400 <= status < 500 and b"root:" not in body, (name, status, body[:200])
    assert server.get("/v2/health/ready").status_code == 200


@pytest.mark.skipif(not (DATA / "images" / "meta.json").exists(), reason="the files are not there")
def test_pictures(serve):
    """Bombs, broken ones and sound ones: what their list says becomes of them."""
    server = serve("--max-pixels", "64M", paths=[ROOT / "models" / "fashion"])
    for entry in json.loads((DATA / "images" / "meta.json").read_text()):
        name, expect = entry["file"], entry["expect"]
        before = server.memory()
        answer = server.post("/classify", (DATA / "images" / name).read_bytes())
        taken = server.memory() - before
        foreign = pathlib.Path(name).suffix in (".bmp", ".gif", ".ppm")  # refused on purpose
        if foreign or expect.startswith("must be"):
            assert answer.status_code in (400, 413, 415), (name, answer.status_code, answer.text)
            assert len(error_of(answer, answer.status_code)) > 10, name
            assert taken < 100 << 20 or serving.INSTRUMENTED, (name, taken)
        elif expect.startswith("decode"):
            assert answer.status_code == 200, (name, answer.text)
        else:
            assert answer.status_code in (200, 400), (name, answer.status_code, answer.text)
    assert server.get("/v2/health/ready").status_code == 200
    assert server.stop() == 0


@pytest.mark.skipif(not (DATA / "malformed" / "meta.json").exists(),
                    reason="the files are not there")
def test_malformed_models(serve, tmp_path):
    """Loaded over HTTP, one in the other's place: an error each, and the server goes on."""
    folder = tmp_path / "models"
    for name in "relu", "victim":
        (folder / name).mkdir(parents=True)
        (folder / name / "model.onnx").write_bytes(serving.one_node("Relu", 1, ["N", 3]))
    server = serve("--model-control", "--max-model-memory", "256M", paths=[folder])
    for entry in json.loads((DATA / "malformed" / "meta.json").read_text()):
        name, expect = entry["file"], entry["expect"]
        shutil.copy(DATA / "malformed" / name, folder / "victim" / "model.onnx")
        answer = server.post("/v2/repository/models/victim/load")
        if expect.startswith(("reject with", "reject (")):
            assert answer.status_code >= 400, (name, expect)
        if expect.startswith("loads"):
            assert answer.status_code == 200, (name, answer.text)
        if answer.status_code != 200:
            assert len(error_of(answer, answer.status_code)) > 20, name
            assert answer.status_code < 500, (name, answer.status_code, answer.text)
        assert server.get("/v2/models/relu").status_code == 200, name
    assert server.stop() == 0
