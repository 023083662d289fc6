"""`convd health`: what a container's health check hears from a server in every state."""

import signal
import socket
import subprocess
import threading

import numpy as np
import pytest

import serving
from serving import ROOT, binary_request, wait_until
from test_tls import files, made, start  # noqa: F401


def health(*args, **env):
    done = subprocess.run([serving.BINARY, "health", *map(str, args)], env=env, timeout=60,
                          capture_output=True, text=True)
    assert done.stderr.count("\n") == (done.returncode != 0), done.stderr
    return done.returncode, done.stdout + done.stderr


def test_ready(serve):
    server = serve(paths=[ROOT / "models" / "fashion"])
    for call in ((server.url,), (server.url + "/",), ("--port", server.port),
                 ("--port", server.port, "--host", "127.0.0.1"),
                 ("--port", server.port, "--live")):
        status, text = health(*call)
        assert status == 0 and text in ("ready\n", "alive\n"), (call, text)


def test_settings_of_the_server(serve, tmp_path):
    """The environment and the file that `serve` would read say where it is."""
    server = serve(paths=[ROOT / "models" / "fashion"])
    assert health(CONVD_PORT=str(server.port)) == (0, "ready\n")
    assert health(CONVD_PORT=str(server.port), CONVD_HOST="0.0.0.0") == (0, "ready\n")
    config = tmp_path / "convd.json"
    config.write_text(f'{{"port": {server.port}, "host": "127.0.0.1", "max_batch": 4}}')
    assert health(CONVD_CONFIG=str(config)) == (0, "ready\n")
    status, text = health(CONVD_PORT="http")
    assert status == 1 and "CONVD_PORT" in text
    status, text = health(CONVD_PORT="0")
    assert status == 2 and "which one" in text


def test_keys_are_not_asked_for(serve, tmp_path):
    (tmp_path / "keys").write_text("0123456789abcdef\n")
    server = serve("--api-keys", tmp_path / "keys", paths=[ROOT / "models" / "fashion"])
    assert health(server.url) == (0, "ready\n")


def test_nobody_there():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        status, text = health("--port", s.getsockname()[1], "--host", "127.0.0.1")
    assert status == 1 and "refused" in text


def test_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as s:
        status, text = health(f"http://127.0.0.1:{s.getsockname()[1]}", "--timeout", "300ms")
        assert status == 1 and "no answer in time" in text
        status, text = health(f"https://127.0.0.1:{s.getsockname()[1]}", "--timeout", "300ms")
        assert status == 1 and "TLS" in text


@pytest.mark.parametrize("answer, said", [
    (b"", "closed without an answer"), (b"HTTP", "closed without an answer"),
    (b"220 mail.example.org ESMTP\r\n", "not HTTP"), (b"HTTP/1.1 abc\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "not ready (status 503)"),
])
def test_strange_answers(answer, said):
    def reply(listening):
        peer, _ = listening.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as s:
        thread = threading.Thread(target=reply, args=(s,))
        thread.start()
        status, text = health(f"http://127.0.0.1:{s.getsockname()[1]}")
        thread.join()
    assert status == 1 and said in text, text


def test_draining(server_of_slow):
    """A server that stops is alive and no longer ready."""
    server, busy = server_of_slow
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: health(server.url)[0] == 1)
    status, text = health(server.url)
    assert status == 1 and ("503" in text or "refused" in text), text
    busy.join()


@pytest.fixture
def server_of_slow(serve, tmp_path):
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "model.onnx").write_bytes(serving.slow())
    server = serve("--threads", "1", paths=[tmp_path / "slow"])
    body, headers = binary_request({"x": np.zeros((8, 1, 192, 192), np.float32)})
    busy = threading.Thread(target=server.post, args=("/v2/models/slow/infer", body),
                            kwargs={"headers": headers})
    busy.start()
    # The one that asks is in flight, too.
    wait_until(lambda: "convd_requests_in_flight 2\n" in server.get("/metrics").text)
    return server, busy


def test_tls(serve, files):  # noqa: F811
    server = start(serve, files)
    assert health(server.url.replace("127.0.0.1", "localhost")) == (0, "ready\n")
    assert health(CONVD_PORT=str(server.port), CONVD_TLS_CERT=str(files[0])) == (0, "ready\n")
    status, text = health("--port", server.port)
    assert status == 1 and "https" in text, text


def test_tls_where_there_is_none(serve):
    server = serve(paths=[ROOT / "models" / "fashion"])
    status, text = health(server.url.replace("http:", "https:"))
    assert status == 1 and "http only" in text, text


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "http://x:0",
                                 "http://x:99999", "http://x:8a", "http://[::1", "http://x/path",
                                 "http://[::1]x"])
def test_bad_urls(url):
    status, text = health(url)
    assert status == 2 and "health --help" in text
