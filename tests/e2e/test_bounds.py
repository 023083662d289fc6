"""What a client may not have more of: each bound is met by an error at once, and serving goes on.

Bodies, queues, connections, deadlines and nesting have their tests beside what they bound:
test_behaviour.py, test_metrics.py, test_infer.py, test_compression.py."""

import contextlib
import io
import json
import re
import socket
import time

import numpy as np
import pytest
import requests
from PIL import Image

import onnxfile as ox
import serving
from serving import (ROOT, binary_request, error_of, one_node, outputs_of, tensor,
                     wait_until)


def picture(width, height, kind="PNG"):
    out = io.BytesIO()
    Image.new("L", (width, height), 128).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pixels(serve, kind):
    server = serve("--max-pixels", "1600", paths=[ROOT / "models" / "fashion"])
    assert server.post("/classify", picture(40, 40, kind)).status_code == 200
    error = error_of(server.post("/classify", picture(40, 41, kind)), 413)
    assert "1600" in error
    assert server.post("/classify", picture(40, 40, kind)).status_code == 200


def chunked(server, body, size):
    """POSTs body in chunks of so many bytes; status and what the answer's body begins with."""
    with server.connect() as s:
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(body[i:i + size]), body[i:i + size])
                          for i in range(0, len(body), size))
        s.sendall(b"POST /v2/models/relu/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                  b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_chunks(server):
    x = np.ones((1, 3), np.float32)
    body = json.dumps({"inputs": [tensor("x", x)]}).encode()
    status, answer = chunked(server, body + b" " * (60000 - len(body)), 1)
    assert status == 200 and answer["outputs"][0]["data"] == [1, 1, 1]
    status, answer = chunked(server, body + b" " * 70000, 1)
    assert status == 400 and "65536 chunks" in answer["error"]
    status, answer = chunked(server, body.replace(b"]}]}", b" " * 3000000 + b"]}]}"), 30)
    assert status == 400 and "65536 chunks" in answer["error"]
    status, answer = chunked(server, body.replace(b"]}]}", b" " * 3000000 + b"]}]}"), 16384)
    assert status == 200 and answer["outputs"][0]["data"] == [1, 1, 1]


def test_headers_too_large(server):
    """libmicrohttpd answers these by itself."""
    with server.connect() as s:
        s.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n")
        with pytest.raises(OSError):
            for i in range(1000):
                s.sendall(b"X-%d: %b\r\n" % (i, b"y" * 1000))
                time.sleep(0.0001)
            s.sendall(b"\r\n")
            assert s.recv(65536)[:12] == b"HTTP/1.1 431"
            raise ConnectionResetError
    assert server.get("/v2").status_code == 200


def test_a_header_of_some_kilobytes_is_fine(server):
    assert server.get("/v2", headers={"X-Long": "y" * 8000}).status_code == 200


def test_idle_connections_are_closed(serve):
    server = serve("--idle-timeout", "1")
    with server.connect() as s:
        s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert s.recv(65536).startswith(b"HTTP/1.1 200")
        assert s.recv(1) == b""
    assert server.get("/v2").status_code == 200


def test_bodies_of_all_requests_together(serve):
    """Two bodies that are being sent fit, a third does not; when one is gone there is room again."""
    server = serve("--max-body-memory", "3M")
    body, headers = binary_request({"x": np.zeros((1, 3, 224, 224), np.float32)})
    head = ("POST /v2/models/volume/infer HTTP/1.1\r\nHost: x\r\n"
            f"Content-Length: 1400000\r\n\r\n").encode()
    held = [server.connect() for _ in range(2)]
    for s in held:
        s.sendall(head + b" " * 1399999)
    path = "/v2/models/volume/infer"
    # What was sent is not yet all read when sendall returns.
    wait_until(lambda: "convd_body_bytes 2800000\n" in server.get("/metrics").text)
    answer = server.post(path, body, headers=headers)
    assert "--max-body-memory" in error_of(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0
    assert server.get("/v2/health/ready").status_code == 200
    held.pop().close()
    wait_until(lambda: server.post(path, body, headers=headers).status_code == 200)
    held.pop().close()
    x = np.full((1, 3, 224, 224), 2, np.float32)
    body, headers = binary_request({"x": x})
    assert (outputs_of(server.post(path, body, headers=headers))["y"] == x).all()


def wide(folder, times):
    """A model that answers with 3 << times floats for three."""
    names = ["x"] + [f"v{i}" for i in range(times - 1)] + ["y"]
    nodes = [ox.node("Concat", [a, a], [b], ox.integer("axis", 1)) for a, b in zip(names, names[1:])]
    (folder / "wide").mkdir()
    (folder / "wide" / "model.onnx").write_bytes(
        ox.model(nodes, [ox.value_info("x", ox.FLOAT, ["N", 3])],
                 [ox.value_info("y", ox.FLOAT, ["N", 3 << times])]))
    return folder


@pytest.mark.parametrize("protocol", ["binary", "JSON", "v1"])
def test_answers_that_are_too_large(serve, tmp_path, protocol):
    """A short request may ask for a long answer, in a batch or in more samples than one holds."""
    server = serve("--max-answer", "1M", paths=[wide(tmp_path, 12)])  # 48 KiB a sample

    def ask(n):
        x = np.ones((n, 3), np.float32)
        if protocol == "v1":
            return server.post("/v1/models/wide:predict", json.dumps({"instances": x.tolist()}))
        if protocol == "JSON":
            return server.post("/v2/models/wide/infer", json.dumps({"inputs": [tensor("x", x)]}))
        body, headers = binary_request({"x": x}, parameters={"binary_data_output": True})
        return server.post("/v2/models/wide/infer", body, headers=headers)
    assert ask(21).status_code == 200
    for n in 22, 100000:
        assert "--max-answer" in error_of(ask(n), 413)
    assert ask(1).status_code == 200


LONG_ANSWER = "/v2/models/wide/infer"


def long_answer_body():
    """The body, and its headers, of a request that wide() answers with 19 MB."""
    return binary_request({"x": np.ones((406, 3), np.float32)},
                          parameters={"binary_data_output": True})


def long_answer_request():
    body, headers = long_answer_body()
    head = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    return (f"POST {LONG_ANSWER} HTTP/1.1\r\nHost: x\r\n{head}"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def slow_reader(server, request):
    """A connection that has sent this and takes little of its answer at a time."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(60)
    s.connect(("127.0.0.1", server.port))
    s.sendall(request)
    return s


def test_answers_of_all_requests_together(serve, tmp_path):
    """Requests that come at the same time are let in while none of them has an answer yet."""
    server = serve("--max-body-memory", "50M", paths=[wide(tmp_path, 12)])
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(slow_reader(server, long_answer_request()))
                   for _ in range(8)]
        said = [s.recv(13) for s in clients]
        assert sorted(said) == [b"HTTP/1.1 200 "] * 2 + [b"HTTP/1.1 503 "] * 6
        assert re.search(r"convd_answer_bytes 39\d{6}\n", server.get("/metrics").text)
        refused = clients[said.index(b"HTTP/1.1 503 ")]
        rest = refused.recv(4096).decode()
        assert "--max-body-memory" in rest and "Retry-After: 1\r\n" in rest
        assert "Inference-Header-Content-Length" not in rest
    wait_until(lambda: "convd_answer_bytes 0\n" in server.get("/metrics").text, 60)


def test_answers_that_nobody_takes(serve, tmp_path):
    """They count as bodies do, and have as long; a byte now and then does not put off the end."""
    server = serve("--max-body-memory", "19M", "--body-timeout", "2", "--idle-timeout", "300",
                   paths=[wide(tmp_path, 12)])
    path, request = LONG_ANSWER, long_answer_request()
    body, headers = long_answer_body()
    memory = server.memory()
    with slow_reader(server, request) as s:
        assert s.recv(1) == b"H"
        assert re.search(r"convd_answer_bytes 19\d{6}\n", server.get("/metrics").text)
        # The answer, but not the tensors that it was made from.
        assert server.memory() < memory + (30 << 20) or serving.INSTRUMENTED
        assert "--max-body-memory" in error_of(server.post(path, body, headers=headers), 503)
        wait_until(lambda: s.recv(1) != b"" and
                   "convd_answer_bytes 0\n" in server.get("/metrics").text, 60)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        taken = 0
        with contextlib.suppress(ConnectionResetError):
            for piece in iter(lambda: s.recv(1 << 20), b""):
                taken += len(piece)
        assert taken < 19000000
    assert server.post(path, body, headers=headers).status_code == 200


def test_an_unfinished_request_line(serve):
    """The time for headers begins with the connection, not when the request line is complete: more
    clients than there may be do not keep others out for longer than that."""
    server = serve("--max-connections", "20", "--header-timeout", "1", "--idle-timeout", "300")
    held = [server.connect() for _ in range(24)]
    for s in held:
        s.sendall(b"POST /v2 HT")
    wait_until(lambda: requests.get(server.url + "/v2", timeout=60).status_code == 200)
    for s in held:
        s.close()


def test_an_unfinished_request_line_behind_a_request(serve):
    """A connection may rest for long, but not in the middle of a request."""
    server = serve("--header-timeout", "1", "--idle-timeout", "300")
    with server.connect() as resting, server.connect() as begun:
        for s in resting, begun:
            s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert s.recv(65536).startswith(b"HTTP/1.1 200")
        time.sleep(0.1)
        begun.sendall(b"GET /v2/heal")
        assert begun.recv(1) == b""
        resting.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert resting.recv(65536).startswith(b"HTTP/1.1 200")


def test_headers_byte_by_byte(serve):
    server = serve("--header-timeout", "1", "--idle-timeout", "300")
    with server.connect() as s:
        with pytest.raises(OSError):
            for byte in b"GET /v2/health/live HTTP/1.1\r\n" + b"A: b\r\n" * 1000:
                s.sendall(bytes([byte]))
                time.sleep(0.1)


def test_a_connection_that_says_nothing(serve):
    server = serve("--idle-timeout", "1", "--header-timeout", "1")
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as s:
        assert s.recv(1) == b""


@pytest.mark.parametrize("memory, waiting", [("0", 256), ("31360", 10), ("1G", 256), ("1", 1)])
def test_queue_memory(serve, memory, waiting):
    """Inputs of 28x28 floats: as many may wait as fit."""
    server = serve("--max-queue-memory", memory, paths=[ROOT / "models" / "fashion"])
    config = server.get("/v2/models/fashion/config").json()
    assert config["dynamic_batching"]["default_queue_policy"]["max_queue_size"] == waiting


def held(folder):
    """A model whose only place in the queue one request keeps for a minute."""
    (folder / "held").mkdir()
    (folder / "held" / "model.onnx").write_bytes(one_node("Relu", ox.FLOAT, ["N", "W"]))
    (folder / "held" / "config.json").write_text(json.dumps(
        {"max_batch_size": 4, "max_queue_size": 1, "max_queue_delay_us": 60000000}))
    return folder


def read_answer(sock):
    """Head and body of the one answer that is on its way."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n")
                  if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += sock.recv(65536)
    return head, body


def test_a_full_queue_needs_no_bodies(serve, tmp_path):
    """A body that cannot be taken is not waited for, or dropped as it comes."""
    server = serve(paths=[held(tmp_path)])
    queued = 'convd_queue_length{model="held",version="1"} 1'
    body, headers = binary_request({"x": np.ones((1, 3), np.float32)})
    post = b"POST /v2/models/held/infer HTTP/1.1\r\nHost: x\r\n"
    with server.connect() as holder:
        holder.sendall(post + b"".join(b"%b: %b\r\n" % (k.encode(), v.encode())
                                       for k, v in headers.items()) +
                       b"Content-Length: %d\r\n\r\n" % len(body) + body)
        wait_until(lambda: queued in server.get("/metrics").text)
        for more in (b"Content-Length: 30000000\r\n", b"Transfer-Encoding: chunked\r\n",
                     b"Content-Length: 100000\r\nExpect: 100-continue\r\n"):
            with server.connect() as s:
                s.sendall(post + more + b"\r\n")
                head, answer = read_answer(s)
                assert head.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: " in head
                assert "Exceeds maximum queue size" in json.loads(answer)["error"]
                assert s.recv(1) == b""
        with server.connect() as s:  # a short one is read, and the connection stays
            for _ in range(2):
                s.sendall(post + b"Content-Length: 100000\r\n\r\n" + bytes(100000))
                head, answer = read_answer(s)
                assert head.startswith(b"HTTP/1.1 503 ")
                assert "Exceeds maximum queue size" in json.loads(answer)["error"]
        found = re.search(r'convd_\w+{model="held",[^}]*outcome="rejected"} (\d+)',
                          server.get("/metrics").text)
        assert found and found.group(1) == "5"
    wait_until(lambda: queued not in server.get("/metrics").text)


def test_what_is_refused_unread_has_shown_its_key(serve, tmp_path):
    """Who has no key is not told how long the queue is."""
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-some-length\n")
    server = serve("--api-keys", keys, paths=[ROOT / "models" / "fashion"])
    with server.connect() as s:
        s.sendall(b"POST /v2/models/fashion/infer HTTP/1.1\r\nHost: x\r\n"
                  b"Content-Length: 30000000\r\n\r\n")
        head, _ = read_answer(s)
        assert head.startswith(b"HTTP/1.1 401 ")
        assert s.recv(1) == b""
