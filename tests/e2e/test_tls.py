"""HTTPS: the certificate that is shown, its change while connections are open, bad files."""

import shutil
import socket
import ssl
import subprocess
import time

import numpy as np
import pytest
import requests

import serving
from serving import binary_request, make_certificate, outputs_of, wait_until

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not there")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    return make_certificate(folder, "one"), make_certificate(folder, "two")


@pytest.fixture
def files(tmp_path, made):
    """A copy of the first pair, which a test may change."""
    return [shutil.copy(source, tmp_path / name)
            for source, name in zip(made[0], ("cert.pem", "key.pem"))]


def shown(server):
    """The certificate of a new connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(server.connect()) as s:
        assert s.version() in ("TLSv1.2", "TLSv1.3")
        return ssl.DER_cert_to_PEM_cert(s.getpeercert(True)).strip()


def pem(path):
    return open(path).read().strip()


def start(serve, files, *more):
    server = serve("--tls-cert", files[0], "--tls-key", files[1], *more)
    server.url = server.url.replace("http:", "https:")
    server.session.trust_env = False  # a bundle named in the environment would win
    server.session.verify = str(files[0])
    return server


def test_answers(serve, files):
    server = start(serve, files)
    assert server.get("/v2/health/ready").json() == {"ready": True}
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for _ in range(20):
        body, headers = binary_request({"x": x})
        assert (outputs_of(server.post("/v2/models/relu/infer", body, headers=headers))["y"]
                == x).all()
    volume = np.random.default_rng(1).normal(size=(2, 3, 224, 224)).astype(np.float32)
    body, headers = binary_request({"x": volume}, parameters={"binary_data_output": True})
    y = outputs_of(server.post("/v2/models/volume/infer", body, headers=headers))["y"]
    assert (y == np.maximum(volume, 0)).all()
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(server.url.replace("https", "http") + "/v2", timeout=5)
    assert server.stop() == 0


def test_old_protocols_are_refused(serve, files):
    server = start(serve, files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.options |= ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3
    with pytest.raises(OSError), context.wrap_socket(server.connect()):
        pass


def test_certificate_changes(serve, files, made):
    server = start(serve, files)
    held = server.session.get(server.url + "/v2", timeout=serving.PATIENCE)
    assert held.status_code == 200 and shown(server) == pem(made[0][0])
    for to, source in zip(files, made[1]):
        shutil.copy(source, to)
    server.process.send_signal(serving.signal.SIGHUP)
    wait_until(lambda: shown(server) == pem(made[1][0]))
    # A pair that does not belong together is not taken.
    shutil.copy(made[0][0], files[0])
    server.process.send_signal(serving.signal.SIGHUP)
    wait_until(lambda: any("is not the key of" in line for line in server.log))
    assert shown(server) == pem(made[1][0])


@pytest.mark.parametrize("which,content,says", [
    (0, "nothing", "is not a PEM certificate"), (1, "nothing", "is not a PEM private key")])
def test_bad_files(files, which, content, says):
    open(files[which], "w").write(content)
    done = subprocess.run([serving.BINARY, "serve", "--tls-cert", files[0], "--tls-key", files[1]],
                          capture_output=True, text=True, timeout=serving.PATIENCE)
    assert done.returncode == 1 and says in done.stderr


def test_silent_handshakes_are_ended(serve, files):
    server = start(serve, files, "--header-timeout", "1", "--idle-timeout", "1")
    begun = time.monotonic()
    with server.connect() as s:
        s.sendall(b"\x16\x03\x01")
        try:
            assert s.recv(100) is not None
            while s.recv(100):
                pass
        except ConnectionError:
            pass
    assert time.monotonic() - begun < 30
    assert server.get("/v2/health/live").status_code == 200
