"""convd-load against wrk: the closed-loop throughput of both on the same target, in turns.

    make load-agreement

Cores are shared with whatever else runs, so the figure is the median of the rounds' ratios, and
there are three attempts. Exit status 1 when it is further than 5 % from 1 each time.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import serving  # noqa: E402

TOLERANCE = 0.05
BATCH = 16  # so that the target is the server, not the generator's own cost beside it


def convd_load(server, body, headers):
    command = [args.load, server.url, "--path", "/v2/models/fashion/infer", "--body", "raw",
               "--data", body, "-c", args.connections, "--time", f"{args.seconds}s", "--warm-up",
               "0", "--json", "-"]
    for name, value in headers.items():
        command += ["--header", f"{name}: {value}"]
    out = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE).stdout
    level, = json.loads(out)["sides"][0]["levels"]
    assert level["failed"] == 0
    return level["requests_per_second"]


def wrk(server, body, headers):
    env = dict(os.environ, BODY=str(body), JSON_LENGTH=headers[serving.JSON_LENGTH])
    out = subprocess.run(["wrk", "-t1", f"-c{args.connections}", f"-d{args.seconds}s", "-s",
                          str(ROOT / "tests" / "compare" / "post.lua"),
                          f"{server.url}/v2/models/fashion/infer"],
                         check=True, stdout=subprocess.PIPE, text=True, env=env).stdout
    assert "Non-2xx" not in out, out
    return float(out.split("Requests/sec:")[1].split()[0])


def attempt(server, body, headers):
    rates = {convd_load: [], wrk: []}
    for i in range(args.rounds):
        for tool in (convd_load, wrk) if i % 2 == 0 else (wrk, convd_load):
            rates[tool].append(tool(server, body, headers))
    ratio = statistics.median(a / b for a, b in zip(rates[convd_load], rates[wrk]))
    print(f"convd-load {statistics.median(rates[convd_load]):.1f} requests/s, wrk "
          f"{statistics.median(rates[wrk]):.1f}; median of {args.rounds} ratios {ratio:.3f}",
          flush=True)
    return abs(ratio - 1) <= TOLERANCE


def main():
    values = np.random.default_rng(1).standard_normal((BATCH, 1, 28, 28)).astype(np.float32)
    content, headers = serving.binary_request({"image": values})
    with tempfile.TemporaryDirectory() as folder:
        body = pathlib.Path(folder) / "body"
        body.write_bytes(content)
        server = serving.Server(ROOT / "models" / "fashion", "--threads", "1")
        serving.wait_until(lambda: server.get("/v2/health/ready").status_code == 200, 60)
        agreed = any(attempt(server, body, headers) for _ in range(3))
        assert server.stop() == 0
    print("they agree within 5 %" if agreed else "they DISAGREE by more than 5 %")
    return 0 if agreed else 1


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--load", type=pathlib.Path, required=True, help="convd-load")
    p.add_argument("--connections", type=int, default=4)
    p.add_argument("--seconds", type=int, default=1, help="of a round")
    p.add_argument("--rounds", type=int, default=7)
    args = p.parse_args()
    sys.exit(main())
