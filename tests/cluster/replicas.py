"""Replicas of convd, each in a network namespace with a CPU quota, and HAProxy in front of them."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PERIOD_US = 20000  # of the quota: short, so that being throttled is not a stall


def ip(*words):
    subprocess.run(["ip", *words], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def impossible():
    """Why replicas cannot be made here, or None."""
    if os.geteuid() != 0:
        return "not root"
    for program in ("ip", "haproxy"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    name = f"convd-try-{os.getpid()}"
    try:
        ip("netns", "add", name)
        try:
            ip("link", "add", name[:15], "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "del", name[:15])
        finally:
            ip("netns", "del", name)
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not allowed: {error.stderr.decode().strip()}"
    return None


class Quota:
    """A cgroup (v1 or v2) that allows so many cores; .said tells whether there is one."""

    def __init__(self, name, cores):
        quota = int(PERIOD_US * cores)
        self.folder, self.said = None, "no CPU quota (cgroups cannot be written)"
        for root, files in ((pathlib.Path("/sys/fs/cgroup"), {"cpu.max": f"{quota} {PERIOD_US}"}),
                            (pathlib.Path("/sys/fs/cgroup/cpu"),
                             {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota)})):
            folder = root / name
            if not (root / "cgroup.procs").exists():
                continue
            try:
                folder.mkdir()
                self.folder = folder
                for file, value in files.items():
                    (folder / file).write_text(value)
                self.said = f"{cores} CPU by {next(iter(files))}"
                return
            except OSError:
                self.remove()

    def add(self):
        """Puts the calling process there; run in the child between fork and exec."""
        if self.folder is not None:
            (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self):
        if self.folder is not None:
            for _ in range(50):  # what ended a moment ago may still be in it
                try:
                    self.folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)
            self.folder = None


class Replica:
    """A namespace with one convd at a time in it, at self.address."""

    def __init__(self, binary, number, cores, arguments):
        tag = f"cv{os.getpid() % 100000}{number}"
        self.binary, self.number, self.arguments = binary, number, arguments
        self.netns, self.link = tag, tag
        self.host_address = f"198.18.{number}.1"
        self.address = f"198.18.{number}.2"
        self.process, self.starts = None, []
        self.quota = Quota(tag, cores)
        ip("netns", "add", self.netns)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.netns)
        ip("address", "add", f"{self.host_address}/30", "dev", self.link)
        ip("link", "set", self.link, "up")
        ip("-n", self.netns, "address", "add", f"{self.address}/30", "dev", "eth0")
        ip("-n", self.netns, "link", "set", "eth0", "up")
        ip("-n", self.netns, "link", "set", "lo", "up")

    def start(self):
        """Starts convd and waits until it is ready; that time, in seconds, is added to .starts."""
        begin = time.monotonic()
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.netns, self.binary, "serve", ROOT / "models" / "fashion",
             "--port", "8000", "--log-level", "warn", *self.arguments],
            preexec_fn=self.quota.add, stdout=subprocess.DEVNULL)
        while not self.is_ready():
            assert self.process.poll() is None, "convd ended"
            assert time.monotonic() - begin < 60, "convd does not become ready"
            time.sleep(0.01)
        self.starts.append(time.monotonic() - begin)

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.address}:8000{path}", timeout=5) as answer:
            return answer.read().decode()

    def is_ready(self):
        try:
            return '"ready":true' in self.get("/v2/health/ready")
        except OSError:
            return False

    def metric(self, name):
        """Sum over all labels."""
        return sum(float(v) for v in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", self.get("/metrics"), re.M))

    def answered(self, code):
        found = re.search(rf'^convd_http_responses_total{{code="{code}"}} (\d+)', self.get("/metrics"), re.M)
        return int(found.group(1)) if found else 0

    def end(self, sig=signal.SIGTERM):
        """Its exit status. `ip netns exec` has become convd, so the signal meets it."""
        self.process.send_signal(sig)
        status = self.process.wait(timeout=60)
        self.process = None
        return status

    def remove(self):
        if self.process is not None:
            self.end(signal.SIGKILL)
        # With the namespace the link would go too, but later: its name has to be free for the next.
        ip("link", "del", self.link)
        ip("netns", "del", self.netns)
        self.quota.remove()


class Balancer:
    """HAProxy in front of replicas, at .url."""

    def __init__(self, replicas, folder, retry="conn-failure empty-response 503"):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"127.0.0.1:{self.port}"
        self.socket = folder / "admin"
        text = (ROOT / "tests" / "cluster" / "haproxy.cfg").read_text()
        servers = "\n    ".join(f"server r{r.number} {r.address}:8000" for r in replicas)
        for key, value in (("SOCKET", self.socket), ("PORT", self.port), ("RETRY", retry),
                           ("SERVERS", servers)):
            text = text.replace(f"@{key}@", str(value))
        (folder / "haproxy.cfg").write_text(text)
        with open(folder / "log", "w") as log:
            self.process = subprocess.Popen(["haproxy", "-db", "-f", folder / "haproxy.cfg"], stderr=log)
        for _ in range(100):
            if self.socket.exists() and all(self.up(r) for r in replicas):
                return
            assert self.process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        raise AssertionError("haproxy does not see the replicas")

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.socket))
            s.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()

    def row(self, name):
        lines = self.ask("show stat").splitlines()
        keys = lines[0].lstrip("# ").split(",")
        rows = (dict(zip(keys, line.split(","))) for line in lines[1:])
        return next(r for r in rows if r.get("pxname") == "convd" and r["svname"] == name)

    def up(self, replica):
        return self.row(f"r{replica.number}")["status"].startswith("UP")

    def set_state(self, replica, state):
        answer = self.ask(f"set server convd/r{replica.number} state {state}").strip()
        assert not answer, answer

    def retries(self):
        """Requests that were asked again: of the same replica, of another one."""
        row = self.row("BACKEND")
        return int(row["wretr"]), int(row["wredis"])

    def remove(self):
        self.process.terminate()
        self.process.wait()


class Load:
    """convd-load as a child; finish() gives what it measured."""

    def __init__(self, program, url, seconds, *more):
        self.process = subprocess.Popen(
            [program, url, "--model", "fashion", "--time", f"{seconds}s", "--warm-up", "0", "--json",
             "-", *map(str, more)], stdout=subprocess.PIPE, text=True)

    def finish(self):
        out, _ = self.process.communicate(timeout=300)
        (level,) = json.loads(out)["sides"][0]["levels"]
        return level


class LastingLoad:
    """Two generators, each one load after the other, until finish(): however long what is done meanwhile
    takes, one of them is at work."""

    def __init__(self, program, url, seconds, connections):
        self.ending, self.levels = threading.Event(), []

        def repeat(first):
            each = first
            while not self.ending.is_set():
                self.levels.append(Load(program, url, each, "-c", connections // 2).finish())
                each = seconds

        self.threads = [threading.Thread(target=repeat, args=[s], daemon=True)
                        for s in (seconds / 2, seconds)]
        for thread in self.threads:
            thread.start()

    def finish(self):
        """Requests and failures of all of them."""
        self.ending.set()
        for thread in self.threads:
            thread.join()
        return {key: sum(level[key] for level in self.levels) for key in ("requests", "failed")}
