"""Compressed bodies: Content-Encoding of requests, Accept-Encoding of answers."""

import gzip
import json
import re
import socket
import zlib

import numpy as np
import pytest

from serving import JSON_LENGTH, binary_request, error_of, outputs_of, tensor, wait_until

INFER = "/v2/models/relu/infer"
X = np.array([[1, -1, 2], [-3, 4, -5]], np.float32)
WANTED = np.maximum(X, 0).tolist()


def body(rows=None):
    return json.dumps({"inputs": [tensor("x", X if rows is None else rows)]}).encode()


CODINGS = [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress),
           ("x-gzip", gzip.compress), ("gzip", zlib.compress), ("deflate", gzip.compress),
           ("identity", bytes), ("", bytes)]


@pytest.mark.parametrize("coding,compress", CODINGS)
def test_request(server, coding, compress):
    answer = server.post(INFER, compress(body()), headers={"Content-Encoding": coding})
    assert outputs_of(answer)["y"].tolist() == WANTED


def test_binary_request(server):
    """Lengths are those of the uncompressed body."""
    content, headers = binary_request({"x": X}, parameters={"binary_data_output": True})
    headers["Content-Encoding"] = "gzip"
    answer = server.post(INFER, gzip.compress(content), headers=headers)
    assert outputs_of(answer)["y"].tolist() == WANTED
    assert "Content-Encoding" not in answer.headers


def test_chunked_and_compressed(server):
    packed = gzip.compress(body())
    pieces = (packed[i:i + 7] for i in range(0, len(packed), 7))
    answer = server.post(INFER, pieces, headers={"Content-Encoding": "gzip"})
    assert outputs_of(answer)["y"].tolist() == WANTED


def test_members(server):
    whole = body()
    packed = gzip.compress(whole[:10]) + gzip.compress(b"") + gzip.compress(whole[10:])
    answer = server.post(INFER, packed, headers={"Content-Encoding": "gzip"})
    assert outputs_of(answer)["y"].tolist() == WANTED


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "gzip;q=1"])
def test_unknown_coding(server, coding):
    answer = server.post(INFER, body(), headers={"Content-Encoding": coding})
    assert "Unsupported compression type" in error_of(answer, 415)
    assert answer.headers["Accept-Encoding"] == "gzip, deflate"


PACKED = gzip.compress(body())
DAMAGED = [(b"", "nothing to be decompressed"), (body(), "damaged"), (PACKED[:-9], "too early"),
           (PACKED[:5], "too early"), (PACKED[:-8] + bytes(8), "damaged"),
           (PACKED + b"tail", "damaged"), (PACKED[:30] + bytes(20) + PACKED[50:], "damaged")]


@pytest.mark.parametrize("content,says", DAMAGED)
def test_damaged(server, content, says):
    answer = server.post(INFER, content, headers={"Content-Encoding": "gzip"})
    assert says in error_of(answer, 400)


def test_bound(serve):
    """What comes of a body is bounded like the body itself, whatever it was packed into."""
    server = serve("--max-body", "100k")
    limit = 100 << 10
    whole = body()
    for size, status in (limit, 200), (limit + 1, 413), (300 << 20, 413):
        packed = gzip.compress(whole + b" " * (size - len(whole)), 1)
        before = server.memory()
        answer = server.post(INFER, packed[:limit], headers={"Content-Encoding": "gzip"})
        assert answer.status_code in (status, 400 if len(packed) > limit else status)
        assert server.memory() < before + (8 << 20)
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(64)) + bomb.flush()
    answer = server.post(INFER, packed, headers={"Content-Encoding": "gzip"})
    assert "--max-body" in error_of(answer, 413)


def test_bound_of_all_requests_together(serve):
    """What comes out of bodies is held like what came; a request that is alone has its --max-body."""
    server = serve("--max-body-memory", "5M")

    def ask(n):
        packed = gzip.compress(body(np.zeros((n, 3), np.float32)), 1)
        return server.post(INFER, packed, headers={"Content-Encoding": "gzip"})

    def held():
        return int(re.search(r"convd_body_bytes (\d+)\n", server.get("/metrics").text).group(1))
    with socket.create_connection(("127.0.0.1", server.port)) as other:
        other.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{{".encode())
        wait_until(held)
        assert outputs_of(ask(10000))["y"].shape == (10000, 3)
        assert "--max-body-memory" in error_of(ask(1000000), 503)
        wait_until(lambda: held() < 100)
        assert outputs_of(ask(10000))["y"].shape == (10000, 3)
    wait_until(lambda: held() == 0)
    assert outputs_of(ask(1000000))["y"].shape == (1000000, 3)


ROWS = np.arange(3000, dtype=np.float32).reshape(-1, 3)


def ask(server, accept, rows=ROWS, **more):
    headers = {"Accept-Encoding": accept, **more}
    return server.post(INFER, body(rows), headers=headers, stream=True)


@pytest.mark.parametrize("accept,coding", [
    ("gzip", "gzip"), ("deflate", "deflate"), ("gzip, deflate, br", "gzip"), ("identity", None),
    ("", None), ("br", None), ("deflate;q=0.5, gzip;q=0.8", "gzip"), ("GZIP", "gzip"),
    ("gzip;q=0.5, deflate;q=0.501", "deflate"), ("gzip;q=0", None), ("identity, gzip", None),
    ("gzip;q=0.5, identity", None), ("gzip;q=nonsense, deflate", "deflate"),
    ("gzip;q=2, deflate;q=0.1", "deflate"), (", ;,gzip ; q=1.000", "gzip"),
])
def test_answer(server, accept, coding):
    answer = ask(server, accept)
    assert answer.status_code == 200
    assert answer.headers.get("Content-Encoding") == coding
    assert answer.headers["Vary"] == "Accept-Encoding"
    raw = answer.raw.read(decode_content=False)
    assert len(raw) == int(answer.headers["Content-Length"])
    text = zlib.decompress(raw, 47) if coding else raw
    if coding == "deflate":
        assert zlib.decompress(raw) == text
    assert json.loads(text)["outputs"][0]["data"] == ROWS.ravel().tolist()
    assert (len(raw) < len(text)) == (coding is not None)


def test_short_answers_stay(server):
    answer = ask(server, "gzip", X)
    assert "Content-Encoding" not in answer.headers
    assert outputs_of(answer)["y"].tolist() == WANTED


def test_binary_answers_stay(server):
    content, headers = binary_request({"x": ROWS}, parameters={"binary_data_output": True})
    headers["Accept-Encoding"] = "gzip"
    answer = server.post(INFER, content, headers=headers)
    assert "Content-Encoding" not in answer.headers and JSON_LENGTH in answer.headers
    assert outputs_of(answer)["y"].tobytes() == ROWS.tobytes()
