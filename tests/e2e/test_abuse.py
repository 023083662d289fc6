"""Clients that mean harm: each gets a bounded answer or an end, and the others notice little."""

import contextlib
import gzip
import json
import multiprocessing
import os
import pathlib
import resource
import shutil
import socket
import time

import numpy as np
import pytest
from requests.structures import CaseInsensitiveDict
import requests

import serving
from serving import ROOT, binary_request, error_of, tensor, wait_until

DATA = pathlib.Path(os.environ.get("CONVD_DATA", ROOT / ".." / "shared" / "data"))
# What other programs of the machine may add to a request's time.
STALLS = 0.03
REQUESTS = 100


def p99(server):
    """Of one client that asks one thing after another, in seconds."""
    body, headers = binary_request({"x": np.ones((1, 3), np.float32)})
    times = []
    for _ in range(REQUESTS):
        begin = time.monotonic()
        assert server.post("/v2/models/relu/infer", body, headers=headers).status_code == 200
        times.append(time.monotonic() - begin)
    return sorted(times)[REQUESTS * 99 // 100]


def loop(f):
    """A context in which f(ended) is called again and again, in a process of its own: a thread would
    take the interpreter's time from who measures. What it raises fails the test."""
    @contextlib.contextmanager
    def context():
        processes = multiprocessing.get_context("fork")
        ended = processes.Event()

        def run():
            while not ended.is_set():
                f(ended)
        process = processes.Process(target=run)
        process.start()
        try:
            yield
        finally:
            ended.set()
            process.join()
        assert process.exitcode == 0
    return context


def half_open(server):
    """A thousand that began a request."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3000:
        pytest.skip("too few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))

    @contextlib.contextmanager
    def context():
        with contextlib.ExitStack() as held:
            for _ in range(1000):
                s = held.enter_context(server.connect())
                s.sendall(b"POST /v2/models/relu/infer HTTP/1.1\r\nHost: x\r\nContent-Le")
            yield
    return context


def slow_readers(server):
    """Fifty that ask for megabytes, in a pipeline, and read nothing."""
    body, headers = binary_request({"x": np.ones((2, 3, 224, 224), np.float32)},
                                   parameters={"binary_data_output": True})
    head = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    request = (f"POST /v2/models/volume/infer HTTP/1.1\r\nHost: x\r\n{head}"
               f"Content-Length: {len(body)}\r\n\r\n").encode() + body

    @contextlib.contextmanager
    def context():
        with contextlib.ExitStack() as held:
            for _ in range(50):
                s = held.enter_context(socket.socket())
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                s.settimeout(serving.PATIENCE)
                s.connect(("127.0.0.1", server.port))
                s.sendall(request)
                s.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    s.send(request)
            time.sleep(1)  # what they asked for is work as any other's
            yield
    return context


def flood(server, *pieces):
    """One connection after another that sends these until the server has had enough."""
    def once(ended):
        with server.connect() as s, contextlib.suppress(OSError):
            s.settimeout(2)  # it need not read what it refused
            s.sendall(pieces[0])
            for _ in range(200):
                if ended.is_set():
                    return
                for piece in pieces[1:]:
                    s.sendall(piece)
    return loop(once)


def asking(server, path, body, status, **headers):
    # Sessions are for one thread.
    session = requests.Session()

    def once(_):
        answer = session.post(server.url + path, data=body, timeout=serving.PATIENCE,
                              headers={k.replace("_", "-"): v for k, v in headers.items()})
        error_of(answer, status)
    return loop(once)


CHUNKED = b"POST /v2/models/relu/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
INFER = "/v2/models/relu/infer"
FLOODS = {
    "chunks": lambda s: flood(s, CHUNKED, b"1\r\n \r\n" * 1000),
    "headers": lambda s: flood(s, b"GET /v2 HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n" * 50),
    "requests in a pipeline": lambda s: flood(s, b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n" * 20),
}
ATTACKS = {
    "half-open connections": half_open,
    "slow readers": slow_readers,
    "a bomb of zeros": lambda s: asking(s, INFER, gzip.compress(bytes(80 << 20)), 413,
                                        Content_Encoding="gzip"),
    "a bomb in a bomb": lambda s: asking(s, INFER, gzip.compress(gzip.compress(bytes(80 << 20))),
                                         400, Content_Encoding="gzip"),
    "deep JSON": lambda s: asking(s, INFER, b"[" * (1 << 20), 400),
    "long numbers": lambda s: asking(s, INFER, b'{"inputs":[{"name":"x","shape":[1,3],"datatype":'
                                     b'"FP32","data":[' + b"9" * (1 << 20) + b",1,1]}]}", 400),
    "huge shapes": lambda s: asking(s, INFER, b'{"inputs":[{"name":"x","shape":[9223372036854775807,'
                                    b'3],"datatype":"FP32","data":[1]}]}', 400),
    "many inputs": lambda s: asking(s, INFER, json.dumps({"inputs": [tensor("x", np.ones(
        (1, 3), np.float32))] * 5000}).encode(), 413),
}


@pytest.mark.parametrize("what", ATTACKS)
def test_neighbours(server, what):
    """Their p99 at most doubles."""
    attack = ATTACKS[what](server)
    alone, beside = [], []
    for _ in range(1 if serving.SANITIZED else 3):
        alone.append(p99(server))
        with attack():
            beside.append(p99(server))
        if min(beside) <= 2 * min(alone) + STALLS:
            return
    assert serving.SANITIZED, (alone, beside)


@pytest.mark.parametrize("what", FLOODS)
def test_floods(server, what):
    """One that sends as fast as it can takes a core's worth; the others still get their answers."""
    body, headers = binary_request({"x": np.ones((1, 3), np.float32)})
    with FLOODS[what](server)():
        for _ in range(10):
            answer = server.session.post(server.url + "/v2/models/relu/infer", body,
                                         headers=headers, timeout=20)
            assert answer.status_code == 200


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
            assert taken < 100 << 20 or serving.SANITIZED, (name, taken)
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
