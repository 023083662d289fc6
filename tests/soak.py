#!/usr/bin/env python3
"""Mixed traffic for a long time: answers, reloads, refusals, clients that go away. Every answer is
compared with the first one of its kind, byte for byte; memory and descriptors have to stay flat.

    tests/soak.py [SECONDS]      CONVD_BINARY names the binary (default: build/convd)

What a minute does to memory is the slope of a line through the samples after the first third."""

import gzip
import http.client
import json
import pathlib
import random
import socket
import statistics
import sys
import tempfile
import threading
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "e2e"))
import onnxfile as ox  # noqa: E402
import serving  # noqa: E402

# Of memory, a minute; of it all, over the run. Allocators take a while to settle.
MOST_SLOPE = 256 << 10
SAMPLE_SECONDS = 2
PAUSE = 0.02  # between two requests of a client: a soak is long, not a load test


class Soak:
    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.done = {}  # kind: how many
        self.first = {}  # kind: the first answer
        self.wrong = []
        self.n = 0

    def count(self, kind, n=1):
        with self.lock:
            self.done[kind] = self.done.get(kind, 0) + n

    def fail(self, kind, what):
        with self.lock:
            self.wrong.append(f"{kind}: {what}")
        if len(self.wrong) > 20:
            self.ending.set()

    def next_id(self):
        with self.lock:
            self.n += 1
            return f"request-{self.n}"

    def same(self, kind, content):
        with self.lock:
            first = self.first.setdefault(kind, content)
        if content != first:
            self.fail(kind, f"differs from the first answer: {content[:200]!r}")
        self.count(kind)


def ask(connection, method, path, body=None, headers=()):
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def picture(soak, connection, rng):
    sample = rng.choice(sorted((serving.ROOT / "models/fashion/samples").glob("*.png")))
    status, body, _ = ask(connection, "POST", "/v2/models/fashion/classify?top=10",
                          sample.read_bytes())
    if status != 200:
        return soak.fail("picture", f"{status} {body[:200]}")
    soak.same(f"picture {sample.name}", body)


def tensor(seed, n=1):
    return np.random.default_rng(seed).normal(size=(n, 1, 28, 28)).astype(np.float32)


def binary(soak, connection, rng):
    """Alone or two, three together: the same bits."""
    seeds = [rng.randrange(50) for _ in range(rng.randrange(1, 4))]
    x = np.concatenate([tensor(s) for s in seeds])
    ident = soak.next_id()
    body, headers = serving.binary_request({"image": x}, id=ident,
                                           parameters={"binary_data_output": True})
    status, content, told = ask(connection, "POST", "/v2/models/fashion/infer", body, headers)
    if status != 200:
        return soak.fail("binary", f"{status} {content[:200]}")
    length = int(told[serving.JSON_LENGTH])
    if json.loads(content[:length])["id"] != ident:
        return soak.fail("binary", f"the answer to another request: {content[:length]}")
    rows = np.frombuffer(content[length:], np.float32).reshape(len(seeds), -1)
    for seed, row in zip(seeds, rows):
        soak.same(f"tensor {seed}", row.tobytes())


def as_json(soak, connection, rng):
    seed = rng.randrange(50)
    ident = soak.next_id()
    body = json.dumps({"id": ident, "inputs": [serving.tensor("image", tensor(seed))]}).encode()
    headers = {"Content-Encoding": "gzip"} if rng.random() < 0.5 else {}
    status, content, _ = ask(connection, "POST", "/v2/models/fashion/infer",
                             gzip.compress(body, 1) if headers else body, headers)
    if status != 200:
        return soak.fail("json", f"{status} {content[:200]}")
    told = json.loads(content)
    if told.pop("id") != ident:
        return soak.fail("json", "the answer to another request")
    row = np.array(told["outputs"][0]["data"], np.float32)
    soak.same(f"tensor {seed}", row.tobytes())


def flip(soak, connection, rng):
    """A model that is replaced all the time: one factor or the other, whole."""
    body, headers = serving.binary_request({"x": np.ones((2, 64), np.float32)},
                                           parameters={"binary_data_output": True})
    status, content, told = ask(connection, "POST", "/v2/models/flip/infer", body, headers)
    if status != 200:
        return soak.fail("flip", f"{status} {content[:200]}")
    y = np.frombuffer(content[int(told[serving.JSON_LENGTH]):], np.float32)
    if not ((y == 2).all() or (y == 3).all()):
        soak.fail("flip", f"two models in one answer: {y}")
    soak.count("flip")


BAD = [("POST", "/v2/models/fashion/infer", b"{", {}, 400),
       ("POST", "/v2/models/fashion/infer", b'{"inputs":[]}', {}, 400),
       ("POST", "/v2/models/nothing/infer", b"{}", {}, 404),
       ("POST", "/v2/models/fashion/classify", b"\xff\xd8\xff\xe0 no picture", {}, 400),
       ("POST", "/v2/models/fashion/infer", b"\x1f\x8b broken", {"Content-Encoding": "gzip"}, 400),
       ("POST", "/v2/models/fashion/infer", b"[" * 5000, {}, 400),
       ("POST", "/v2/models/fashion/infer", b"{}", {serving.JSON_LENGTH: "99"}, 400),
       ("PUT", "/v2/models/fashion", b"", {}, 405),
       ("POST", "/v2/repository/models/..%2f..%2fetc/load", b"", {}, None),
       ("POST", "/v2/repository/models/broken/load", b"", {}, 400),
       ("GET", "/metrics", None, {}, 200), ("GET", "/v2/models/fashion/stats", None, {}, 200)]


def bad(soak, connection, rng):
    method, path, body, headers, wanted = rng.choice(BAD)
    status, content, _ = ask(connection, method, path, body, headers)
    if (status != wanted if wanted else not 400 <= status < 500):
        soak.fail("bad", f"{method} {path}: {status} {content[:200]}")
    if status >= 400 and list(json.loads(content)) != ["error"]:
        soak.fail("bad", f"{method} {path}: no sentence: {content[:200]}")
    soak.count("refused" if status >= 400 else "read")


def disconnect(soak, _, rng):
    """In the middle of a head or body, or before the answer."""
    x = serving.binary_request({"image": tensor(1)})
    head = (f"POST /v2/models/fashion/infer HTTP/1.1\r\nHost: a\r\n{serving.JSON_LENGTH}: "
            f"{x[1][serving.JSON_LENGTH]}\r\nContent-Length: {len(x[0])}\r\n\r\n").encode()
    whole = head + x[0]
    with soak.server.connect() as s:
        s.sendall(whole[:rng.choice([7, len(head) - 2, len(head) + 100, len(whole)])])
        if rng.random() < 0.5:  # a reset instead of an end
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    soak.count("left")


def pipelined(soak, _, rng):
    """So many answers as requests, in their order, and not a byte more."""
    n = rng.randrange(2, 9)
    ids = [soak.next_id() for _ in range(n)]
    sent = b""
    for i, ident in enumerate(ids):
        body = json.dumps({"id": ident, "inputs": [serving.tensor("image", tensor(i))]}).encode()
        last = "Connection: close\r\n" if i == n - 1 else ""
        sent += (f"POST /v2/models/fashion/infer HTTP/1.1\r\nHost: a\r\n{last}"
                 f"Content-Length: {len(body)}\r\n\r\n").encode() + body
    with soak.server.connect() as s:
        s.sendall(sent)
        reader = s.makefile("rb")
        for i, ident in enumerate(ids):
            if not reader.readline().startswith(b"HTTP/1.1 200 "):
                return soak.fail("pipelined", f"answer {i} of {n}")
            headers = http.client.parse_headers(reader)
            told = json.loads(reader.read(int(headers["Content-Length"])))
            if told["id"] != ident:
                return soak.fail("pipelined", f"{told['id']} instead of {ident}")
            soak.same(f"tensor {i}", np.array(told["outputs"][0]["data"], np.float32).tobytes())
        if reader.read() != b"":
            soak.fail("pipelined", "something follows the last answer")


def client(soak, seed, kinds):
    rng = random.Random(seed)
    connection = None
    while not soak.ending.is_set():
        try:
            if connection is None or rng.random() < 0.02:
                if connection is not None:
                    connection.close()
                connection = http.client.HTTPConnection("127.0.0.1", soak.server.port,
                                                        timeout=serving.PATIENCE)
            rng.choice(kinds)(soak, connection, rng)
        except (OSError, http.client.HTTPException, ValueError, KeyError) as e:
            soak.fail("connection", repr(e))
            connection = None
        soak.ending.wait(PAUSE)
    if connection is not None:
        connection.close()


def factor(value):
    x, y = ox.value_info("x", ox.FLOAT, ["N", 64]), ox.value_info("y", ox.FLOAT, ["N", 64])
    return ox.model([ox.node("Mul", ["x", "w"], ["y"])], [x], [y],
                    [ox.floats("w", np.full((1, 64), value, np.float32))])


def replace(soak):
    """Another model in the place of flip, the bundled one read again, by turns."""
    connection = http.client.HTTPConnection("127.0.0.1", soak.server.port,
                                            timeout=serving.PATIENCE)
    n = 0
    while not soak.ending.wait(0.5) and soak.server.process.poll() is None:
        n += 1
        part = soak.folder / "flip" / "part"
        part.write_bytes(factor(2 + n % 2))
        part.rename(soak.folder / "flip" / "model.onnx")
        for name in ["flip", "fashion"][:1 + (n % 4 == 0)]:
            status, body, _ = ask(connection, "POST", f"/v2/repository/models/{name}/load", b"")
            if status != 200:
                soak.fail("load", f"{status} {body[:200]}")
            soak.count("loads")
        if n % 20 == 0:
            soak.server.process.send_signal(serving.signal.SIGHUP)
            soak.count("hangups")
    connection.close()


def descriptors(server):
    return len(list(pathlib.Path(f"/proc/{server.process.pid}/fd").iterdir()))


def slope(samples):
    """(a minute's growth in bytes, the mean) of the samples after the first third."""
    late = samples[len(samples) // 3:]
    if len(late) < 3:
        return 0, 0
    per_second, _ = statistics.linear_regression([t for t, _ in late], [m for _, m in late])
    return per_second * 60, statistics.fmean(m for _, m in late)


def run(server, folder, seconds):
    soak = Soak(server, folder)
    mix = [picture, picture, binary, binary, binary, as_json, flip, bad]
    threads = [threading.Thread(target=client, args=(soak, i, mix)) for i in range(4)]
    threads.append(threading.Thread(target=client, args=(soak, 99, [disconnect, pipelined])))
    threads.append(threading.Thread(target=replace, args=(soak,)))
    for t in threads:
        t.start()
    start = time.monotonic()
    memory, open_files = [], []
    while time.monotonic() - start < seconds and not soak.ending.is_set():
        soak.ending.wait(SAMPLE_SECONDS)
        if server.process.poll() is not None:
            soak.fail("server", "has ended")
            break
        memory.append((time.monotonic() - start, server.memory()))
        open_files.append(descriptors(server))
    soak.ending.set()
    for t in threads:
        t.join()
    return soak, memory, open_files


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for model in "flip", "broken":
            (folder / model).mkdir()
        (folder / "flip" / "model.onnx").write_bytes(factor(2))
        (folder / "broken" / "model.onnx").write_bytes(b"\x08\x08this is no model")
        server = serving.Server(serving.ROOT / "models" / "fashion", folder, "--model-control",
                                "--max-queue", "1000",
                                # A machine that stands still for a while is no reason to hang up.
                                "--idle-timeout", "3600", "--header-timeout", "600")
        at_rest = descriptors(server)
        soak, memory, open_files = run(server, folder, seconds)
        if server.process.poll() is None:
            deadline = time.monotonic() + 20
            while descriptors(server) > at_rest and time.monotonic() < deadline:
                time.sleep(0.1)
            if descriptors(server) > at_rest:
                soak.fail("descriptors", f"{descriptors(server)} are open, {at_rest} at first")
        status = server.stop()
        if status != 0:
            soak.fail("server", f"exit status {status}: {''.join(server.log[-5:])}")
    total = sum(soak.done.values())
    rest = {k: n for k, n in soak.done.items() if not k.startswith(("picture", "tensor"))}
    growth, mean = slope(memory)
    print(f"{seconds:.0f} s: {total} answers, of them "
          f"{total - sum(rest.values())} bit-equal to the first of their kind; "
          + ", ".join(f"{n} {k}" for k, n in sorted(rest.items())))
    print(f"memory: {mean / 2**20:.2f} MiB, {growth / 2**10:+.1f} KiB a minute; descriptors: "
          f"{min(open_files, default=0)} to {max(open_files, default=0)}, {at_rest} at rest")
    if seconds >= 300 and growth > MOST_SLOPE:
        soak.fail("memory", f"grows by {growth / 2**10:.0f} KiB a minute")
    for line in soak.wrong[:20]:
        print("FAILED", line)
    print(f"{total} passed, {len(soak.wrong)} failed")
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
