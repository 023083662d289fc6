"""The image that docker/test.sh has built: what is in it, how it runs, stops and starts.

Times are medians of interleaved rounds, next to a program in the same image that only says it runs;
no time fails a test unless it is off by a multiple."""

import json
import mmap
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import serving  # noqa: E402
import test_tls as e2e_tls  # noqa: E402

WORK = pathlib.Path(os.environ["IMAGE_WORK"])
ARCHES = os.environ["IMAGE_ARCHES"].split()
NATIVE = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True,
                        check=True).stdout.strip()
PODMAN = ["podman", "--root", WORK / "store", "--runroot", WORK / "run", "--runtime=runc",
          "--cgroup-manager=cgroupfs"]
LOCKED = ["--network=host", "--no-healthcheck", "--ulimit", "nofile=1024:1024", "--ulimit",
          "nproc=1024:1024", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all",
          "--security-opt=no-new-privileges"]
BOOT = (ROOT / "models/fashion/samples/0000_ankle_boot.png").read_bytes()
MB = 1000 * 1000
# Start times are taken with all cores and with a half.
QUOTAS = [("--cpus=2",), ("--cpus=0.5",)]


def podman(*args, check=True):
    return subprocess.run([*PODMAN, *args], capture_output=True, text=True, check=check)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def top_class(url):
    answer = requests.post(url + "/classify?top=1", data=BOOT, timeout=60)
    answer.raise_for_status()
    return answer.json()["predictions"][0]["classes"][0]["label"]


class Container:
    """convd in the image, with these options of podman's and arguments of its own."""

    def __init__(self, *options, args=("serve",)):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.name = f"convd-test-{self.port}"
        podman("run", "-d", "--name", self.name, "-e", f"CONVD_PORT={self.port}", *LOCKED, *options,
               f"convd:{NATIVE}", *args)
        serving.wait_until(lambda: self.health() == 0, 120)
        self.pid = int(self.inspect("{{.State.Pid}}"))

    def inspect(self, form):
        return podman("inspect", "--format", form, self.name).stdout.strip()

    def health(self):
        return podman("exec", self.name, "/usr/bin/convd", "health", check=False).returncode

    def status(self):
        return pathlib.Path(f"/proc/{self.pid}/status").read_text()

    def remove(self):
        podman("rm", "-f", "-t", "0", self.name, check=False)


@pytest.fixture
def run():
    started = []

    def start(*options, **more):
        started.append(Container(*options, **more))
        return started[-1]

    yield start
    for c in started:
        c.remove()


@pytest.mark.parametrize("arch", ARCHES)
def test_size(arch):
    root = WORK / f"{arch}.root"
    files = [p for p in root.rglob("*") if p.is_file() and not p.is_symlink()]
    size = sum(p.stat().st_size for p in files)
    model = (root / "usr/share/convd/models/fashion/model.onnx").stat().st_size
    layers = json.loads((WORK / f"{arch}.dir" / "manifest.json").read_text())["layers"]
    packed = sum(layer["size"] for layer in layers)
    print(f"\n{arch}: {(size - model) / MB:.2f} MB and a model of {model / MB:.2f} MB, "
          f"{packed / MB:.2f} MB compressed with it")
    assert size - model <= 12 * MB
    assert packed - model * 0.9 <= 5 * MB  # weights hardly compress


@pytest.mark.parametrize("arch", ARCHES)
def test_bill_of_materials(arch):
    root = WORK / f"{arch}.root"
    bill = json.loads((root / "usr/share/convd/sbom.spdx.json").read_text())
    assert bill["spdxVersion"] == "SPDX-2.3"
    names = {p["name"] for p in bill["packages"]}
    assert {"convd", "libc6", "libgnutls28-dev", "libmicrohttpd-dev", "libspng0"} <= names
    ids = {p["SPDXID"] for p in bill["packages"]} | {"SPDXRef-DOCUMENT"}
    for r in bill["relationships"]:
        assert {r["spdxElementId"], r["relatedSpdxElement"]} <= ids
    for name in names:
        assert (root / "usr/share/doc" / name / "copyright").is_file(), name


@pytest.mark.parametrize("arch", ARCHES)
def test_architecture(arch):
    """What a registry and a cluster's nodes go by."""
    assert json.loads(podman("inspect", f"convd:{arch}").stdout)[0]["Architecture"] == arch


def test_description():
    config = json.loads(podman("inspect", f"convd:{NATIVE}").stdout)[0]
    assert config["User"] == "65532:65532"
    assert config["Healthcheck"]["Test"] == ["CMD", "/usr/bin/convd", "health"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.match(r"\d", config["Labels"]["org.opencontainers.image.version"])


def test_locked_down(run):
    """No rights, nothing to write to, half a core."""
    c = run("--cpus=0.5")
    status = c.status()
    assert re.search(r"^Uid:\s+65532\s+65532", status, re.M)
    assert re.search(r"^CapEff:\s+0+$", status, re.M) and re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    mounts = pathlib.Path(f"/proc/{c.pid}/mountinfo").read_text().splitlines()
    assert any(m.split()[4] == "/" and m.split()[5].split(",")[0] == "ro" for m in mounts)
    assert top_class(c.url) == "Ankle boot"
    # Half a core is one thread that computes, and the kernel holds it to the half.
    config = requests.get(c.url + "/v2/models/fashion/config", timeout=60).json()
    assert config["instance_group"][0]["count"] == 1, config["instance_group"]
    used = lambda: sum(map(int, pathlib.Path(f"/proc/{c.pid}/stat").read_text()  # noqa: E731
                           .rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    before, begin = used(), time.monotonic()
    batch = np.zeros((64, 1, 28, 28), np.float32)
    body, headers = serving.binary_request({"image": batch})
    while time.monotonic() < begin + 3:
        requests.post(c.url + "/v2/models/fashion/infer", data=body, headers=headers, timeout=60)
    share = (used() - before) / (time.monotonic() - begin)
    print(f"\nquota of 0.5 cores: {share:.2f} used")
    assert share < 0.7


def test_sandbox(run):
    """What the server gives up by itself comes on top of what the container takes away."""
    def filters(c):
        return int(re.search(r"^Seccomp_filters:\s+(\d+)", c.status(), re.M)[1])

    confined, free = run(), run(args=("serve", "--sandbox", "off"))
    assert filters(confined) > filters(free)
    assert top_class(confined.url) == top_class(free.url) == "Ankle boot"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not there")
def test_tls(run, tmp_path):
    cert, key = e2e_tls.make_certificate(tmp_path, "localhost")
    os.chmod(tmp_path, 0o755)
    os.chmod(key, 0o644)  # for the container's user
    c = run("-v", f"{tmp_path}:/tls:ro", "-e", f"CONVD_TLS_CERT=/tls/{cert.name}", "-e",
            f"CONVD_TLS_KEY=/tls/{key.name}")
    answer = requests.post(f"https://127.0.0.1:{c.port}/classify?top=1", data=BOOT, verify=cert,
                           timeout=60)
    assert answer.json()["predictions"][0]["classes"][0]["label"] == "Ankle boot"
    # An address of a hardware token is the name of a file that is not there.
    token = podman("run", "--rm", *LOCKED, f"convd:{NATIVE}", "serve", "--tls-cert",
                   "pkcs11:token=none", "--tls-key", "pkcs11:token=none", check=False)
    assert token.returncode == 1 and "pkcs11:token=none" in token.stderr


def test_health(run):
    c = run()
    assert c.health() == 0
    done = podman("exec", c.name, "/usr/bin/convd", "health", "--port", "1", check=False)
    assert done.returncode == 1 and "refused" in done.stderr


def test_drain(run, tmp_path):
    """SIGTERM: what is at work is answered, then the exit status is 0. What is at work is a second's
    work for a core, of which there is half a one; however slow that core is, it is waited for."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "model.onnx").write_bytes(serving.slow())
    (tmp_path / "slow" / "config.json").write_text('{"warmup": 0}')
    os.chmod(tmp_path, 0o755)
    c = run("--cpus=0.5", "-v", f"{tmp_path}:/models:ro", "-e", "CONVD_DRAIN_TIMEOUT=100",
            args=("serve", "/models"))
    body, headers = serving.binary_request({"x": np.zeros((2, 1, 192, 192), np.float32)})
    answers = []
    busy = threading.Thread(target=lambda: answers.append(requests.post(
        c.url + "/v2/models/slow/infer", data=body, headers=headers, timeout=120).status_code))
    busy.start()
    serving.wait_until(lambda: "convd_requests_in_flight 2\n" in
                       requests.get(c.url + "/metrics", timeout=60).text)
    os.kill(c.pid, signal.SIGTERM)
    serving.wait_until(lambda: c.inspect("{{.State.Status}}") != "running", 110)
    busy.join()
    assert answers == [200]
    assert c.inspect("{{.State.ExitCode}}") == "0"


def test_memory_limit(run):
    """The defaults follow the limit, and what goes over them is refused instead of killed."""
    c = run("--memory=96m")
    shown = podman("run", "--rm", *LOCKED, "--memory=96m", f"convd:{NATIVE}", "serve",
                   "--print-config").stdout
    shown = json.loads(shown)
    assert shown["max_model_memory"] == 48 << 20 and shown["max_body_memory"] == 12 << 20
    codes = []

    def post():
        codes.append(requests.post(c.url + "/v2/models/fashion/infer", data=b"x" * (11 << 20),
                                   timeout=120).status_code)

    posts = [threading.Thread(target=post) for _ in range(16)]
    for t in posts:
        t.start()
    for t in posts:
        t.join()
    assert len(codes) == 16 and set(codes) <= {400, 413, 503}, codes
    assert requests.post(c.url + "/classify", data=b"x" * (13 << 20), timeout=60).status_code == 413
    assert top_class(c.url) == "Ankle boot"
    assert c.inspect("{{.State.OOMKilled}}") == "false"


def take_memory(size):
    """Touches so many bytes, in large pages, and lets them go: a virtual machine that has given free
    memory back to its host waits for the host at the next touch, twenty times as long as for its own."""
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as m:
        m.madvise(mmap.MADV_HUGEPAGE)
        m[::mmap.PAGESIZE] = bytes(-(-size // mmap.PAGESIZE))


def start_times(options, args, right, rounds):
    """Medians in ms of podman run with these options: to a program's first byte, to convd's first
    right answer."""
    hello, convd = [], []
    for _ in range(rounds):
        take_memory(500 * MB)
        begin = time.monotonic()
        p = subprocess.Popen([*PODMAN, "run", "--rm", *LOCKED, *options, "-v",
                              f"{WORK}/hello:/hello:ro", "--entrypoint", "/hello",
                              f"convd:{NATIVE}"], stdout=subprocess.PIPE)
        p.stdout.read(1)
        hello.append(time.monotonic() - begin)
        p.wait()
        port = free_port()
        take_memory(500 * MB)
        begin = time.monotonic()
        name = f"convd-start-{port}"
        p = subprocess.Popen([*PODMAN, "run", "--rm", "--name", name, *LOCKED, *options, "-e",
                              f"CONVD_PORT={port}", f"convd:{NATIVE}", *args],
                             stderr=subprocess.DEVNULL)
        while True:
            assert p.poll() is None
            try:
                right(f"http://127.0.0.1:{port}")
                break
            except requests.ConnectionError:
                time.sleep(0.002)
            except requests.HTTPError as e:  # it listens, but is not ready
                assert e.response.status_code == 503
                time.sleep(0.002)
        convd.append(time.monotonic() - begin)
        podman("stop", "-t", "10", name, check=False)
        p.wait()
    return statistics.median(hello) * 1e3, statistics.median(convd) * 1e3


@pytest.mark.parametrize("options", QUOTAS, ids=" ".join)
def test_start_of_the_bundled_model(options):
    def right(url):
        assert top_class(url) == "Ankle boot"

    hello, convd = start_times(options, ("serve",), right, 7)
    print(f"\nexec to first right answer, bundled model: {convd - hello:.0f} ms "
          f"(podman run {hello:.0f}, with convd {convd:.0f}; aim 60)")
    assert convd < 4 * hello


@pytest.mark.parametrize("options", QUOTAS, ids=" ".join)
def test_start_of_resnet50(tmp_path, options):
    data = pathlib.Path(os.environ.get("CONVD_DATA", ROOT.parent / "shared" / "data"))
    light = data / "light"
    if not (light / "reweight.py").is_file():
        pytest.skip(f"{light} is not there")
    source = next((light / "resnet50").glob("*.onnx"), None)
    if source is None:
        pytest.skip("no resnet50")
    (tmp_path / "resnet50").mkdir()
    os.chmod(tmp_path, 0o755)
    subprocess.run([sys.executable, light / "reweight.py", source,
                    tmp_path / "resnet50" / "model.onnx"], check=True, capture_output=True)
    body, headers = serving.binary_request({"gpu_0/data_0": np.zeros((1, 3, 224, 224), np.float32)})

    def right(url):
        answer = requests.post(url + "/v2/models/resnet50/infer", data=body, headers=headers,
                               timeout=60)
        answer.raise_for_status()
        (scores,) = serving.outputs_of(answer).values()
        assert scores.size == 1000 and abs(scores.sum() - 1) < 1e-3

    hello, convd = start_times((*options, "-v", f"{tmp_path}:/models:ro"), ("serve", "/models"),
                               right, 5)
    print(f"\nexec to first right answer, resnet50: {convd - hello:.0f} ms "
          f"(podman run {hello:.0f}, with convd {convd:.0f}; aim 250)")
    assert convd < 10 * hello


@pytest.fixture
def emulated():
    """The start of a command that runs convd of the arm64 image."""
    if "arm64" not in ARCHES or NATIVE == "arm64":
        pytest.skip("ARCHES has no arm64")
    root = WORK / "arm64.root"
    return ["qemu-aarch64-static", "-L", root, root / "usr/bin/convd"]


@pytest.mark.parametrize("level", ["scalar", "neon"])
def test_arm64_recorded_answers(emulated, level):
    """Whole models against what they are known to answer, with vectors and without."""
    done = subprocess.run([*emulated, "test", ROOT / "models" / "tiny"], capture_output=True, text=True,
                          env={**os.environ, "RT_ISA": level})
    assert done.returncode == 0, done.stdout + done.stderr
    fashion = ROOT / "models" / "fashion"
    said = subprocess.run([*emulated, "predict", fashion, fashion / "samples", "--top", "1"],
                          capture_output=True, text=True, env={**os.environ, "RT_ISA": level}, check=True)
    pictures = json.loads(said.stdout)["predictions"]
    # The samples are named after what they show.
    right = sum(re.sub("[^a-z]+", "_", p["classes"][0]["label"].lower()) in p["name"] for p in pictures)
    print(f"\narm64, {level}: {done.stdout.splitlines()[-1]}; {right} of {len(pictures)} pictures right")
    assert right == len(pictures) > 0


def test_arm64_serves(emulated, tmp_path):
    """The emulator has no seccomp, but it tells which system calls the server makes: the sandbox's list
    has to have them all."""
    port, said = free_port(), tmp_path / "calls"
    with open(said, "wb") as calls:
        p = subprocess.Popen([emulated[0], "-strace", *emulated[1:], "serve",
                              WORK / "arm64.root/usr/share/convd/models/fashion", "--port", str(port)],
                             stdout=subprocess.DEVNULL, stderr=calls)
    try:
        def answers():
            try:
                return top_class(f"http://127.0.0.1:{port}") == "Ankle boot"
            except requests.ConnectionError:
                assert p.poll() is None
                return False
        serving.wait_until(answers, 120)
    finally:
        p.terminate()
        assert p.wait(60) == 0
    confined = said.read_text(errors="replace").partition("system calls are not filtered")[2]
    made = set(re.findall(r"^\d+ ([a-z]\w*)\(", confined, re.M))
    allowed = set(re.findall(r"SYS_(\w+)", (ROOT / "server/sandbox_calls.c").read_text()))
    print(f"\narm64: {len(made)} different system calls, not allowed: {made - allowed or 'none'}")
    assert {"futex", "accept4", "epoll_pwait"} <= made <= allowed
