#!/usr/bin/env python3
"""A session of serving under valgrind: pictures, tensors, JSON, refusals, reloads, an unload, the end.
Any error, and any block that is lost, fails. CONVD_BINARY names the binary (default: build/convd)."""

import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "e2e"))
import serving  # noqa: E402

ERROR = 99
# libgomp keeps the team of a thread that has ended; its block is reached through thread-local memory.
SUPPRESSIONS = """{
   libgomp's teams
   Memcheck:Leak
   match-leak-kinds: possible
   fun:calloc
   fun:calloc
   fun:allocate_dtv
   fun:_dl_allocate_tls
}
{
   libgomp's pools
   Memcheck:Leak
   ...
   obj:*libgomp.so*
}
"""


def session(server):
    fashion = "/v2/models/fashion"
    samples = sorted((serving.ROOT / "models/fashion/samples").glob("*.png"))
    first = {}
    for i in range(60):
        sample = samples[i % len(samples)]
        answer = server.post(f"{fashion}/classify?top=3", sample.read_bytes())
        assert answer.status_code == 200, answer.text
        assert first.setdefault(sample, answer.content) == answer.content
    for n in 1, 3, 8:
        x = np.random.default_rng(n).normal(size=(n, 1, 28, 28)).astype(np.float32)
        body, headers = serving.binary_request({"image": x})
        one = serving.outputs_of(server.post(f"{fashion}/infer", body, headers=headers))
        body = json.dumps({"inputs": [serving.tensor("image", x)]}).encode()
        two = serving.outputs_of(server.post(f"{fashion}/infer", gzip.compress(body),
                                             headers={"Content-Encoding": "gzip"}))
        assert all((one[name] == two[name]).all() for name in one)
    for path, body, status in [(f"{fashion}/infer", b"{", 400), (f"{fashion}/infer", b"[" * 999, 400),
                               (f"{fashion}/classify", b"\x89PNG\r\n", 400),
                               ("/v2/models/no/infer", b"{}", 404),
                               ("/v2/repository/models/relu/load", b"", 200),
                               ("/v2/repository/models/broken/load", b"", 400),
                               ("/v2/repository/models/relu/unload", b"", 200)]:
        answer = server.post(path, body)
        assert answer.status_code == status, (path, answer.status_code, answer.text)
    for path in "/metrics", "/v2", "/v2/models", f"{fashion}/stats", "/", "/openapi.json":
        assert server.get(path).status_code == 200, path
    with server.connect() as s:
        s.sendall(b"POST /v2/models/fashion/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
    server.process.send_signal(serving.signal.SIGHUP)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        models = {"relu": serving.one_node("Relu", 1, ["N", 3]), "broken": b"\x08\x08no model"}
        for model, content in models.items():
            (folder / model).mkdir()
            (folder / model / "model.onnx").write_bytes(content)
        suppressions = folder / "convd.supp"
        suppressions.write_text(SUPPRESSIONS)
        log = folder / "valgrind.log"
        program = folder / "convd"
        program.write_text(f"#!/bin/sh\nexec valgrind -q --error-exitcode={ERROR} --leak-check=full "
                           "--errors-for-leak-kinds=definite,indirect,possible --num-callers=20 "
                           f"--suppressions={suppressions} --log-file={log} {serving.BINARY} \"$@\"\n")
        program.chmod(0o755)
        serving.BINARY = program
        os.environ["RT_ISA"] = "avx2"  # what valgrind knows of
        server = serving.Server(serving.ROOT / "models" / "fashion", folder, "--model-control",
                                "--threads", "2", "--sandbox", "off")
        try:
            session(server)
        finally:
            status = server.stop()
        print(log.read_text(), end="")
        print("valgrind:", "nothing found" if status == 0 else f"exit status {status}")
    return status != 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.TimeoutExpired:
        sys.exit("the server does not end")
