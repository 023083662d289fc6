"""How the server behaves: many clients, slow and broken ones, too much of something, and its end."""

import json
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests

import serving
from serving import PATIENCE, binary_request, error_of, outputs_of, wait_until

SLOW = np.ones((1, 1, 192, 192), np.float32)


def stats(server, model):
    return server.get(f"/v2/models/{model}/stats").json()["model_stats"][0]


def receive(sock, data=b""):
    """One answer that has a Content-Length, which may have begun with data: (status, headers,
    body), and in the body whatever came behind it."""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    head, body = data.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
    while len(body) < int(headers.get("content-length", 0)):
        piece = sock.recv(65536)
        assert piece, "the connection closed in the middle of an answer"
        body += piece
    return int(lines[0].split()[1]), headers, body


def request_bytes(path, body, headers=()):
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}",
             *(f"{k}: {v}" for k, v in headers)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def slow_request():
    body, headers = binary_request({"x": SLOW})
    return request_bytes("/v2/models/slow/infer", body, headers.items())


def test_fifty_clients(server):
    """Each gets its own answer, whatever batch its request travelled in."""
    def client(n):
        rng = np.random.default_rng(n)
        with requests.Session() as session:
            for i in range(10):
                x = rng.normal(size=(1 + i % 3, 3)).astype(np.float32)
                body, headers = binary_request({"x": x}, id=f"{n}-{i}")
                answer = session.post(server.url + "/v2/models/relu/infer", data=body,
                                      headers=headers, timeout=PATIENCE)
                assert answer.json()["id"] == f"{n}-{i}"
                assert (outputs_of(answer)["y"] == x.clip(0)).all()
        return n

    with ThreadPoolExecutor(50) as pool:
        assert sorted(pool.map(client, range(50))) == list(range(50))


def test_same_bits_alone_and_in_company(server):
    rng = np.random.default_rng(5)
    image = rng.normal(size=(1, 1, 28, 28)).astype(np.float32)
    body, headers = binary_request({"image": image}, parameters={"binary_data_output": True})

    def ask(_):
        answer = requests.post(server.url + "/v2/models/fashion/infer", data=body, headers=headers,
                               timeout=PATIENCE)
        return outputs_of(answer)["logits"].tobytes()

    alone = ask(0)
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, range(100))) == {alone}


def test_keep_alive_and_pipelining(server):
    get = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with server.connect() as sock:
        for _ in range(3):
            sock.sendall(get)
            assert receive(sock)[0] == 200
        body, headers = binary_request({"x": np.array([[1, -1, 2]], np.float32)})
        sock.sendall(get * 2 + request_bytes("/v2/models/relu/infer", body, headers.items()) + get)
        rest = b""
        for _ in range(4):
            status, headers, rest = receive(sock, rest)
            assert status == 200
            rest = rest[int(headers["content-length"]):]


def test_chunked(server):
    body, headers = binary_request({"x": np.array([[1, -1, 2]], np.float32)})

    def pieces():
        for i in range(0, len(body), 7):
            yield body[i:i + 7]

    answer = server.post("/v2/models/relu/infer", pieces(), headers=headers)
    assert outputs_of(answer)["y"].tolist() == [[1, 0, 2]]


def test_expect_continue(server):
    body, headers = binary_request({"x": np.array([[1, -1, 2]], np.float32)})
    whole = request_bytes("/v2/models/relu/infer", body,
                          [*headers.items(), ("Expect", "100-continue")])
    with server.connect() as sock:
        sock.sendall(whole[:-len(body)])
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(body)
        assert receive(sock)[0] == 200


def test_post_without_length(server):
    with server.connect() as sock:
        sock.sendall(b"POST /v2/models/relu/infer HTTP/1.1\r\nHost: x\r\n\r\n")
        assert receive(sock)[0] == 400


def test_slow_sender_does_not_hold_others_up(server):
    body, headers = binary_request({"x": np.ones((1, 3), np.float32)})
    whole = request_bytes("/v2/models/relu/infer", body, headers.items())
    with server.connect() as a, server.connect() as b:
        for sock in a, b:
            sock.sendall(whole[:40])
        assert server.get("/v2/health/live").status_code == 200
        assert server.post("/v2/models/relu/infer", body, headers=headers).status_code == 200
        for i in range(40, len(whole)):
            a.sendall(whole[i:i + 1])
        assert receive(a)[0] == 200


GARBAGE = {
    "empty lines": b"\r\n\r\n",
    "a word": b"nonsense\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "no path": b"GET\r\n\r\n",
    "version": b"GET /v2 HTTP/9.9\r\n\r\n",
    "long path": b"GET " + b"/" * 100000 + b" HTTP/1.1\r\n\r\n",
    "length is a word": b"POST /v2 HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    "negative length": b"POST /v2 HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "long header": b"GET /v2 HTTP/1.1\r\nA: " + b"b" * 200000 + b"\r\n\r\n",
    "many headers": b"GET /v2 HTTP/1.1\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
    "chunk size": b"POST /v2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage(server, what):
    with server.connect() as sock:
        try:
            sock.sendall(GARBAGE[what])
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except OSError:
            pass
    assert server.get("/v2/health/live").status_code == 200


def test_half_closed_client_gets_its_answer(server):
    """Also when its end of the connection came together with the request."""
    for _ in range(5):
        with server.connect() as sock:
            sock.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            sock.shutdown(socket.SHUT_WR)
            begun = time.monotonic()
            assert receive(sock)[0] == 200
            assert sock.recv(1) == b""
            assert time.monotonic() - begun < 20


def test_body_limit(serve):
    server = serve("--max-body", "1M")
    path = "/v2/models/relu/infer"
    large = bytes((1 << 20) + 1)
    assert "--max-body" in error_of(server.post(path, large), 413)
    assert "--max-body" in error_of(server.post(path, (large[i:i + 50000] for i in
                                                       range(0, len(large), 50000))), 413)
    assert error_of(server.post("/classify", bytes(1 << 20)), 400)
    # A length alone is refused before anything is sent.
    with server.connect() as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 60}\r\n\r\n".encode())
        status, headers, _ = receive(sock)
        assert status == 413 and headers["connection"].lower() == "close"
    assert server.stop() == 0


def test_refusal_arrives_while_the_body_is_sent(serve):
    """Clients that send everything before they read must still get the 413."""
    server = serve("--max-body", "100K")
    for size in 200_000, 5_000_000, 40_000_000:
        for _ in range(3):
            error_of(requests.post(server.url + "/classify", data=bytes(size), timeout=PATIENCE), 413)


def test_announced_bodies_cost_nothing(serve):
    server = serve()
    before = server.memory()
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n" + bytes(1000)
    socks = [server.connect() for _ in range(20)]
    for sock in socks:
        sock.sendall(head)
    assert server.get("/v2/health/live").status_code == 200
    assert server.memory() - before < 100_000_000
    for sock in socks:
        sock.close()
    assert server.stop() == 0


def test_full_queue(serve):
    server = serve("--max-queue", "2", "--max-batch", "1")
    body, headers = binary_request({"x": SLOW})

    def ask(_):
        return requests.post(server.url + "/v2/models/slow/infer", data=body, headers=headers,
                             timeout=PATIENCE)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(12)))
    refused = [a for a in answers if a.status_code != 200]
    assert len(refused) >= 1 and len(answers) - len(refused) >= 2
    for answer in refused:
        assert "Exceeds maximum queue size" in error_of(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0


def test_deadline(serve):
    server = serve("--max-batch", "1")
    body, headers = binary_request({"x": SLOW})
    hasty, hasty_headers = binary_request({"x": SLOW}, parameters={"timeout": 1000})
    url = server.url + "/v2/models/slow/infer"
    with ThreadPoolExecutor(8) as pool:
        busy = [pool.submit(requests.post, url, data=body, headers=headers, timeout=PATIENCE)
                for _ in range(8)]
        wait_until(lambda: re.search(r'^convd_queue_length{model="slow".*} [3-8]$',
                                     server.get("/metrics").text, re.M))
        answer = requests.post(url, data=hasty, headers=hasty_headers, timeout=PATIENCE)
        assert "expired" in error_of(answer, 504)
        assert all(b.result().status_code == 200 for b in busy)


def test_client_goes_away(serve):
    """What still waits for a client that left is not run, and nothing is kept of it."""
    server = serve("--max-batch", "1")
    whole = slow_request()
    socks = [server.connect() for _ in range(6)]
    for sock in socks:
        sock.sendall(whole)
    time.sleep(0.1)
    for sock in socks:
        sock.close()
    body, headers = binary_request({"x": SLOW})
    assert server.post("/v2/models/slow/infer", body, headers=headers).status_code == 200
    assert stats(server, "slow")["execution_count"] < 7
    # In the middle of the headers, of a body, of an answer.
    for cut in 10, 100, len(whole) // 2, len(whole) - 1:
        sock = server.connect()
        sock.sendall(whole[:cut])
        sock.close()
    for _ in range(20):
        sock = server.connect()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.sendall(request_bytes("/v2/models/volume/infer", bytes(602112),
                                   [("Inference-Header-Content-Length", "0")]))
        sock.recv(10)
        sock.close()
    assert server.get("/v2/health/ready").status_code == 200
    assert server.stop() == 0, "".join(server.log)


def test_memory_does_not_grow(serve):
    server = serve()
    body, headers = binary_request({"x": np.zeros((1, 3, 224, 224), np.float32)})
    bad = body[:-1]

    def round_of_requests():
        for i in range(100):
            server.post("/v2/models/volume/infer", body, headers=headers)
            server.post("/v2/models/volume/infer", bad, headers=headers)
            server.post("/classify", b"no picture")
            server.get("/nothing")

    round_of_requests()
    before = server.memory()
    round_of_requests()
    assert server.memory() - before < 8_000_000


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it(serve, sig):
    server = serve()
    assert server.get("/v2/health/ready").status_code == 200
    idle = server.connect()
    assert server.stop(sig) == 0, "".join(server.log)
    idle.close()


def test_sigterm_drains(serve):
    """Requests at work are answered; new ones are not taken; then it exits 0."""
    server = serve("--max-batch", "1", "--drain-timeout", PATIENCE)
    body, headers = binary_request({"x": SLOW})
    answers = []

    def ask():
        answers.append(requests.post(server.url + "/v2/models/slow/infer", data=body,
                                     headers=headers, timeout=PATIENCE))

    kept = server.connect()
    kept.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
    assert receive(kept)[0] == 200
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for t in threads:
        t.start()
    wait_until(lambda: stats(server, "slow")["execution_count"] > 0
               or any(t.is_alive() for t in threads))
    time.sleep(0.1)
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: any("stopping" in line for line in server.log))
    try:
        kept.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers_, body_ = receive(kept)
        assert status == 503 and "error" in json.loads(body_)
        assert headers_["connection"].lower() == "close"
    except (AssertionError, ConnectionResetError, BrokenPipeError):
        assert server.process.poll() is not None  # it had finished already
    with pytest.raises(OSError):
        server.connect()
    for t in threads:
        t.join()
    assert [a.status_code for a in answers] == [200] * 4
    assert server.process.wait(timeout=PATIENCE) == 0, "".join(server.log)


def test_sigterm_under_load(serve):
    """Every request that clients with kept connections have sent is answered; the last answer of
    each says that the connection closes."""
    server = serve("--drain-timeout", PATIENCE)
    body, headers = binary_request({"x": np.ones((1, 3), np.float32)})
    request = request_bytes("/v2/models/relu/infer", body, headers.items())
    answered = [0] * 16

    def client(n):
        with server.connect() as sock:
            while True:
                sock.sendall(request)
                status, headers, rest = receive(sock)
                answered[n] += 1
                if headers.get("connection", "").lower() == "close":
                    return status
                assert status == 200, rest

    with ThreadPoolExecutor(16) as pool:
        clients = [pool.submit(client, n) for n in range(16)]
        wait_until(lambda: min(answered) > 3, PATIENCE)
        server.process.send_signal(signal.SIGTERM)
        assert {c.result() for c in clients} <= {200, 503}
    assert server.process.wait(timeout=PATIENCE) == 0, "".join(server.log)


def test_drain_timeout(serve):
    """What does not end in time is refused, and the server ends all the same."""
    server = serve("--max-batch", "1", "--drain-timeout", "0.01")
    body, headers = binary_request({"x": SLOW})
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(requests.post, server.url + "/v2/models/slow/infer", data=body,
                             headers=headers, timeout=PATIENCE) for _ in range(8)]
        time.sleep(0.15)
        server.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        server.process.wait(timeout=PATIENCE)
        assert time.monotonic() - begun < PATIENCE / 2
        for a in asked:
            if a.exception() is None:
                assert a.result().status_code in (200, 503)


def test_port_taken(server, models):
    import subprocess
    done = subprocess.run([serving.BINARY, "serve", models, "--host", "127.0.0.1", "--port",
                           str(server.port)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode != 0 and "in use" in done.stderr.lower()


def test_unknown_host(models):
    import subprocess
    done = subprocess.run([serving.BINARY, "serve", models, "--host", "no.such.host.invalid"],
                          capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode != 0 and "no.such.host.invalid" in done.stderr
