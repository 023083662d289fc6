"""The Grafana dashboard uses only metrics and labels that the server has."""

import json
import pathlib
import re
import subprocess
import sys

from serving import ROOT

GRAFANA = ROOT / "docker" / "grafana"


def test_is_what_its_script_makes():
    made = subprocess.run([sys.executable, GRAFANA / "dashboard.py"], capture_output=True,
                          text=True, check=True).stdout
    assert made == (GRAFANA / "dashboards" / "convd.json").read_text()


def test_metrics_are_exported(serve):
    server = serve(paths=[ROOT / "models" / "fashion"])
    picture = pathlib.Path(ROOT / "models/fashion/samples/0000_ankle_boot.png").read_bytes()
    assert server.post("/classify", picture).status_code == 200
    labels_of = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*?)\})? ", server.get("/metrics").text, re.M):
        labels_of.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    dashboard = json.loads((GRAFANA / "dashboards" / "convd.json").read_text())
    queries = [t["expr"] for p in dashboard["panels"] for t in p["targets"]]
    queries += [v["query"] for v in dashboard["templating"]["list"]]
    scraped = {"instance", "job"}  # Prometheus adds these
    for query in queries:
        used = re.findall(r"\b((?:convd|process|nv)_\w+)(?:\{(.*?)\})?", query)
        assert used, query
        for name, selector in used:
            assert name in labels_of, f"{name} is not exported: {query}"
            for label in re.findall(r'(\w+)=~?"', selector):
                assert label in labels_of[name] | scraped, f"{name} has no label {label}: {query}"
        for label in ",".join(re.findall(r"by \(([^)]*)\)", query)).replace(" ", "").split(","):
            assert not label or label in labels_of[used[0][0]] | scraped, f"{label}: {query}"
