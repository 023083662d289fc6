"""The chart and its page name only options and metrics that the server has, and the server takes the
file trees that KServe puts below /mnt/models."""

import json
import re
import shutil
import subprocess
import sys

import pytest

import serving
from serving import ROOT

DOCKER = ROOT / "docker"
# What the chart sets itself.
OWN = {"config", "print_config", "models", "host", "port", "tls_cert", "tls_key", "api_keys",
       "drain_timeout", "control_keys"}


def test_settings_are_the_servers():
    schema = json.loads((DOCKER / "helm/convd/values.schema.json").read_text())
    text = (ROOT / "server/README.md").read_text().split("### convd serve")[1].split("\n### ")[0]
    options = {name.replace("-", "_") for name in re.findall(r"^\| `--([a-z-]+)", text, re.M)}
    assert set(schema["properties"]["settings"]["properties"]) == options - OWN


def test_metrics_are_exported(serve):
    server = serve(paths=[ROOT / "models" / "fashion"])
    exported = set(re.findall(r"^(convd_\w+)(?:\{| )", server.get("/metrics").text, re.M))
    made = {"convd_queue_seconds_mean"}  # by the adapter
    for file in ["helm/convd/templates/_helpers.tpl", "helm/convd/templates/hpa.yaml",
                 "kubernetes/prometheus-adapter.yaml", "kubernetes/keda.yaml"]:
        text = re.sub(r"#.*", "", (DOCKER / file).read_text())
        used = set(re.findall(r"\bconvd_\w+", text))
        assert used and used <= exported | made, (file, used - exported)


TREES = {"model.onnx": ("models", "1"), "fashion/model.onnx": ("fashion", "1"),
         "fashion/3/model.onnx": ("fashion", "3"), "1/model.onnx": ("models", "1"),
         "net.onnx": ("net", "1")}


@pytest.mark.parametrize("tree", TREES)
def test_trees_of_kserve(serve, tmp_path, tree):
    """What its storage initializer leaves: the tree that was at storageUri, below mnt/models."""
    name, version = TREES[tree]
    file = tmp_path / "mnt" / "models" / tree
    file.parent.mkdir(parents=True)
    shutil.copy(ROOT / "models/fashion/model.onnx", file)
    server = serve(paths=[tmp_path / "mnt" / "models"])
    assert server.get(f"/v2/models/{name}").json()["versions"] == [version]
    assert server.get(f"/v1/models/{name}").status_code == 200


def replicas(*arguments):
    done = subprocess.run([sys.executable, DOCKER / "kubernetes/replicas.py", *map(str, arguments)],
                          capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_capacity_formula():
    # Erlang's C for 10 servers at 8 erlang is 0.4092 in printed tables, for 2 at 1 it is 1/3.
    sys.path.insert(0, str(DOCKER / "kubernetes"))
    import replicas as capacity
    assert capacity.erlang_c(10, 8) == pytest.approx(0.4092, abs=5e-5)
    assert capacity.erlang_c(2, 1) == pytest.approx(1 / 3)
    assert capacity.erlang_c(1, 0.5) == pytest.approx(0.5)  # M/M/1: the utilization
    # M/M/1: the wait is exceeded with probability rho * exp(-(mu - lambda) t).
    assert capacity.wait(1, 50, 0.01, 0.99) == pytest.approx(0.01 / 0.5 * 3.912023, rel=1e-5)
    assert capacity.wait(4, 1, 0.01, 0.99) == 0  # hardly ever anybody waits
    few, many = (capacity.plan(1000, rate, 0.02, 0.99, 2, 0.8) for rate in (300, 3000))
    assert few.replicas == 3 < many.replicas
    assert many.utilization <= 0.8 and many.wait <= 0.02


def test_capacity_of_a_bench(tmp_path):
    bench = subprocess.run([serving.BINARY, "bench", ROOT / "models/fashion", "--threads", "1",
                            "--seconds", "50ms", "--json"], capture_output=True, text=True, check=True)
    (tmp_path / "bench.json").write_text(bench.stdout)
    status, out, err = replicas(tmp_path / "bench.json", "--rate", 2000, "--wait", 0.02)
    assert status == 0, err
    assert re.search(r"\d+ replicas", out), out
    status, _, err = replicas(tmp_path / "bench.json", "--rate", -1)
    assert status != 0 and "--rate" in err
