"""What a serving process can no longer do, and that everything it has to do goes on inside. All other
tests of this folder run inside, too: it is the default."""

import ctypes
import os
import pathlib
import platform
import shutil

import numpy as np
import pytest

import onnxfile as ox
import serving
import test_tls
from serving import binary_request, outputs_of, wait_until


def has_landlock():
    """Version 1 or more (system call 444, landlock_create_ruleset, asked for its version)."""
    return ctypes.CDLL(None).syscall(444, None, 0, 1) > 0


def statuses(server):
    """{field: value} of every thread."""
    for thread in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir():
        text = (thread / "status").read_text()
        yield dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def of_threads(server, field):
    return {int(status[field]) for status in statuses(server)}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no filter for it")
def test_every_thread_is_bound(server):
    x = np.ones((2, 3, 224, 224), np.float32)
    body, headers = binary_request({"x": x})
    outputs_of(server.post("/v2/models/volume/infer", body, headers=headers))
    assert of_threads(server, "Seccomp") == {2} and of_threads(server, "Seccomp_filters") == {2}
    assert of_threads(server, "NoNewPrivs") == {1}


def test_off(serve):
    server = serve("--sandbox", "off")
    own = serving.pathlib.Path("/proc/self/status").read_text()  # a container has filters, too
    assert f"Seccomp_filters:\t{of_threads(server, 'Seccomp_filters').pop()}\n" in own
    assert server.get("/v2/health/ready").status_code == 200


def add(factor):
    x, y = ox.value_info("x", ox.FLOAT, ["N", 2]), ox.value_info("y", ox.FLOAT, ["N", 2])
    return ox.model([ox.node("Mul", ["x", "w"], ["y"])], [x], [y],
                    [ox.floats("w", np.full((1, 2), factor, np.float32))])


def factor_of(server, model):
    body, headers = binary_request({"x": np.ones((1, 2), np.float32)})
    answer = server.post(f"/v2/models/{model}/infer", body, headers=headers)
    return outputs_of(answer)["y"][0, 0] if answer.status_code == 200 else None


def put(folder, content):
    """As deployments do: written beside, renamed to its place."""
    folder.mkdir(exist_ok=True)
    (folder / "part").write_bytes(content)
    (folder / "part").rename(folder / "model.onnx")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not there")
def test_all_goes_on_inside(serve, tmp_path):
    """TLS, watched folders, loads over HTTP, keys, a log that is rotated: each changes while it
    serves."""
    models, secrets, logs = (tmp_path / name for name in ("models", "secrets", "logs"))
    for folder in models, secrets, logs:
        folder.mkdir()
    put(models / "m", add(2))
    made = [test_tls.make_certificate(secrets, name) for name in ("one", "two")]
    files = [shutil.copy(source, secrets / name)
             for source, name in zip(made[0], ("cert.pem", "key.pem"))]
    keys = secrets / "keys"
    keys.write_text("first-key-of-the-test\n")
    log = logs / "access.log"
    server = serve("--tls-cert", files[0], "--tls-key", files[1], "--watch", "--model-control",
                   "--control-keys", keys, "--access-log", log, "--threads", "2", paths=[models])
    server.url = server.url.replace("http:", "https:")
    server.session.verify = False
    server.session.trust_env = False
    assert factor_of(server, "m") == 2

    put(models / "m", add(3))
    wait_until(lambda: factor_of(server, "m") == 3)
    put(models / "another", add(4))
    wait_until(lambda: factor_of(server, "another") == 4)

    load = "/v2/repository/models/m/load"
    assert server.post(load).status_code == 401
    key = {"Authorization": "Bearer first-key-of-the-test"}
    assert server.post(load, b"{}", headers=key).status_code == 200

    log.rename(logs / "access.log.1")
    keys.write_text("second-key-of-the-test\n")
    for to, source in zip(files, made[1]):
        part = pathlib.Path(str(to) + ".part")
        shutil.copy(source, part)
        part.rename(to)
    server.process.send_signal(serving.signal.SIGHUP)
    wait_until(lambda: test_tls.shown(server) == test_tls.pem(made[1][0]))
    wait_until(log.exists)
    assert server.post(load, b"{}", headers=key).status_code == 401
    key = {"Authorization": "Bearer second-key-of-the-test"}
    assert server.post(load, b"{}", headers=key).status_code == 200
    assert factor_of(server, "m") == 3
    assert server.stop() == 0
    assert log.read_text() and (logs / "access.log.1").read_text()


@pytest.mark.skipif(serving.INSTRUMENTED, reason="files are not confined there")
@pytest.mark.skipif(not has_landlock(), reason="the kernel has no Landlock")
def test_files_elsewhere(serve, tmp_path):
    """What a link leads to can be read when it is there at the start, not when it comes later."""
    models, store = tmp_path / "models", tmp_path / "store"
    models.mkdir()
    for name in "early", "late":
        put_in = store / name
        put_in.mkdir(parents=True)
        put(put_in, add(5))
    os.symlink(store / "early", models / "early")
    server = serve("--model-control", paths=[models])
    assert factor_of(server, "early") == 5
    os.symlink(store / "late", models / "late")
    refused = server.post("/v2/repository/models/late/load")
    assert refused.status_code >= 400 and factor_of(server, "late") is None
    os.unlink(models / "late")
    put(models / "late", add(6))
    assert server.post("/v2/repository/models/late/load").status_code == 200
    assert factor_of(server, "late") == 6
    assert server.stop() == 0

    os.rename(models / "late", store / "kept")
    os.symlink(store / "late", models / "late")
    free = serve("--model-control", "--sandbox", "off", paths=[models])
    assert factor_of(free, "late") == 5
