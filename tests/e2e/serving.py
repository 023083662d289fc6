"""A convd process to talk to, and the models that the tests give it."""

import contextlib
import json
import os
import pathlib
import queue
import re
import signal
import socket
import subprocess
import threading
import time

import numpy as np
import requests

import onnxfile as ox

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("CONVD_BINARY", ROOT / "build" / "convd")).resolve()
# Under a sanitizer, or while lines are counted, everything takes longer, and files are not confined.
# Sanitizers keep memory that was freed for a while.
PATIENCE = 300
INSTRUMENTED = re.search(rb"__[amt]san_init|\.gcda\0", BINARY.read_bytes()) is not None

JSON_LENGTH = "Inference-Header-Content-Length"


class Server:
    """convd serve on a free port. Lines of its log are kept in .log."""

    def __init__(self, *args, env=None, binary=None):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CONVD_")}
        environment.update(env or {})
        self.log = []
        self.process = subprocess.Popen(
            [binary or BINARY, "serve", *map(str, args), "--host", "127.0.0.1", "--port", "0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
        lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self.reader.start()
        self.port = None
        while self.port is None:
            line = lines.get(timeout=PATIENCE)
            assert line is not None, "convd ended:\n" + "".join(self.log)
            found = re.search(r"https?://127\.0\.0\.1:(\d+)", line)
            self.port = int(found.group(1)) if found else None
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = requests.Session()

    def _read(self, lines):
        for line in self.process.stderr:
            self.log.append(line)
            lines.put(line)
        lines.put(None)

    def get(self, path, **more):
        return self.session.get(self.url + path, timeout=PATIENCE, **more)

    def post(self, path, body=b"", **more):
        return self.session.post(self.url + path, data=body, timeout=PATIENCE, **more)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def stop(self, sig=signal.SIGTERM):
        """Ends it; the exit status."""
        self.session.close()
        if self.process.poll() is None:
            self.process.send_signal(sig)
        status = self.process.wait(timeout=PATIENCE)
        self.reader.join()
        self.process.stderr.close()
        if status != 0:  # pytest shows what is printed when the test then fails
            print("convd ended with", status, "after:\n" + "".join(self.log[-20:]))
        return status

    def memory(self):
        """Resident bytes."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) * 1024


# The wire.

OIP = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "bool": "BOOL", "int8": "INT8",
       "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8",
       "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64"}
NUMPY = {v: k for k, v in OIP.items()}


def tensor(name, array, binary=False):
    """An entry of "inputs"."""
    entry = {"name": name, "shape": list(array.shape), "datatype": OIP[array.dtype.name]}
    if binary:
        entry["parameters"] = {"binary_data_size": array.nbytes}
    else:
        entry["data"] = array.ravel().tolist()
    return entry


def binary_request(inputs, **more):
    """Body and headers for {name: array}, all of it binary."""
    head = json.dumps({"inputs": [tensor(n, a, True) for n, a in inputs.items()], **more}).encode()
    return (head + b"".join(np.ascontiguousarray(a).tobytes() for a in inputs.values()),
            {JSON_LENGTH: str(len(head))})


def outputs_of(answer):
    """{name: array} of an answer, JSON or binary."""
    assert answer.status_code == 200, answer.text[:1000]
    length = answer.headers.get(JSON_LENGTH)
    head, blobs = answer.content, b""
    if length is not None:
        assert answer.headers["Content-Type"] == "application/octet-stream"
        head, blobs = answer.content[:int(length)], answer.content[int(length):]
    else:
        assert answer.headers["Content-Type"] == "application/json"
    found = {}
    for out in json.loads(head)["outputs"]:
        dtype = NUMPY[out["datatype"]]
        if "data" in out:
            flat = np.array(out["data"], dtype)
        else:
            size = out["parameters"]["binary_data_size"]
            flat, blobs = np.frombuffer(blobs[:size], dtype), blobs[size:]
        found[out["name"]] = flat.reshape(out["shape"])
    assert blobs == b""
    return found


def error_of(answer, status):
    """The sentence of an answer that has to be an error."""
    assert answer.status_code == status, (answer.status_code, answer.text[:1000])
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert list(body) == ["error"] and body["error"], body
    return body["error"]


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


# Clients and certificates that several tests use.

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
                s.settimeout(PATIENCE)
                s.connect(("127.0.0.1", server.port))
                s.sendall(request)
                s.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    s.send(request)
            time.sleep(1)  # what they asked for is work as any other's
            yield
    return context


def make_certificate(folder, name):
    """A self-signed pair of this machine's address, for `openssl`; its two files."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert,
                    "-days", "2", "-subj", f"/CN={name}", "-addext",
                    "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return cert, key


# The models.

TYPES = {"FP32": ox.FLOAT, "FP64": ox.DOUBLE, "FP16": ox.FLOAT16, "BOOL": ox.BOOL,
         "INT8": ox.INT8, "INT16": ox.INT16, "INT32": ox.INT32, "INT64": ox.INT64,
         "UINT8": ox.UINT8, "UINT16": ox.UINT16, "UINT32": ox.UINT32, "UINT64": ox.UINT64}


def one_node(op, elem_type, shape):
    return ox.model([ox.node(op, ["x"], ["y"])], [ox.value_info("x", elem_type, shape)],
                    [ox.value_info("y", elem_type, shape)])


def pair():
    """sum = a + b, kept = relu(a)."""
    a, b = ox.value_info("a", ox.FLOAT, ["N", 2]), ox.value_info("b", ox.FLOAT, ["N", 2])
    return ox.model([ox.node("Add", ["a", "b"], ["sum"]), ox.node("Relu", ["a"], ["kept"])],
                    [a, b], [ox.value_info("sum", ox.FLOAT, ["N", 2]),
                             ox.value_info("kept", ox.FLOAT, ["N", 2])])


def slow(layers=20, channels=64, side=192):
    """A chain of convolutions that takes long enough to be interrupted."""
    weights = np.zeros((channels, channels, 3, 3), np.float32)
    weights[range(channels), range(channels), 1, 1] = 1
    nodes = [ox.node("Conv", [f"t{i}", "w"], [f"t{i + 1}"], ox.ints("pads", 1, 1, 1, 1))
             for i in range(layers)]
    nodes.insert(0, ox.node("Conv", ["x", "first"], ["t0"], ox.ints("pads", 1, 1, 1, 1)))
    nodes.append(ox.node("GlobalMaxPool", [f"t{layers}"], ["y"]))
    return ox.model(nodes, [ox.value_info("x", ox.FLOAT, ["N", 1, side, side])],
                    [ox.value_info("y", ox.FLOAT, ["N", channels, 1, 1])],
                    [ox.floats("w", weights), ox.floats("first", weights[:, :1])])


def write_models(folder):
    """The folder of models that most tests use."""
    models = {"relu": one_node("Relu", ox.FLOAT, ["N", 3]),
              "pair": pair(),
              "volume": one_node("Relu", ox.FLOAT, ["N", 3, 224, 224]),
              "fixed": one_node("Relu", ox.FLOAT, [3, 2]),
              "slow": slow()}
    for name, elem_type in TYPES.items():
        models[name.lower()] = one_node("Identity", elem_type, ["N", 4])
    for name, content in models.items():
        (folder / name).mkdir()
        (folder / name / "model.onnx").write_bytes(content)
    (folder / "slow" / "config.json").write_text('{"warmup": 0}')
    for version in "1", "3":
        (folder / "versions" / version).mkdir(parents=True)
        (folder / "versions" / version / "model.onnx").write_bytes(models["relu"])
    (folder / "broken").mkdir()
    (folder / "broken" / "model.onnx").write_bytes(b"\x08\x08this is no model")
    return folder
