"""The standard scenarios of the load tests: what a choice costs or gains, side by side.

    make load-test                        everything, on the bundled model and mobilenet_v2
    make load-test MOBILENET=net.onnx     another network in place of mobilenet_v2
    make load-test-quick                  the same in short, to see that all of it works

Sides are measured in interleaved rounds by convd-load. Servers compute on half of the cores, unless
threads are what is compared, so that the generator and their sockets have the others.
Writes one JSON and one SVG a scenario and report.html to --output. Exit status 1 when any request
failed.
"""

import argparse
import html
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import serving  # noqa: E402

CORES = len(os.sched_getaffinity(0))
HALF = ["--threads", max(1, CORES // 2)]
SAMPLE = ROOT / "models" / "fashion" / "samples" / "0000_ankle_boot_280x280.jpg"


class Net:
    """A model's files, the picture it is asked about, and the p99 that its users would accept."""

    def __init__(self, name, model, config, labels, picture, limit):
        self.name, self.model, self.config, self.labels = name, model, config, labels
        self.picture, self.limit = picture, limit

    def place(self, home, name, **settings):
        """A copy called name, with other settings."""
        folder = home / name
        folder.mkdir()
        os.symlink(self.model, folder / "model.onnx")
        config = {**self.config, **settings}
        if self.labels:
            shutil.copyfile(self.labels, folder / "labels.txt")
            config["labels"] = "labels.txt"
        (folder / "config.json").write_text(json.dumps(config))


def fashion():
    home = ROOT / "models" / "fashion"
    return Net("fashion", home / "model.onnx", json.loads((home / "config.json").read_text()),
               home / "labels.txt", SAMPLE, "25ms")


def photo(path):
    """A JPEG of a photo's size."""
    from PIL import Image
    out = io.BytesIO()
    Image.open(SAMPLE).convert("RGB").resize((640, 480)).save(out, "JPEG", quality=90)
    path.write_bytes(out.getvalue())
    return path


def mobilenet(folder):
    """mobilenet_v2 from --mobilenet, or exported here; None where there is neither."""
    model = args.mobilenet
    if model is None or not model.exists():
        made = args.output / "models" / "mobilenet_v2"
        model = made / "model.onnx"
        if not model.exists():
            done = subprocess.run([sys.executable, ROOT / "models" / "export_torchvision.py",
                                   "mobilenet_v2", "--random", "--output", made.parent],
                                  capture_output=True, text=True)
            if done.returncode != 0:
                print("without mobilenet_v2: no MOBILENET=net.onnx is there, and no torchvision "
                      "that could export it:", done.stderr.strip().splitlines()[-1:])
                return None
    return Net("mobilenet_v2", model.resolve(), {"max_batch_size": 8}, None,
               photo(folder / "photo.jpg"), "250ms")


# The scenarios: each gives servers' arguments, and sides on them.

def batch_norms(net, home):
    """Batch norms folded into other layers, against each as its own."""
    net.place(home, "folded", batchnorm="folded")
    net.place(home, "separate", batchnorm="separate")
    return [HALF], [("folded", 0, "model=folded"), ("separate", 0, "model=separate")]


def batching(net, home):
    """Waiting requests run together, up to eight, against one after the other."""
    net.place(home, "batched", max_batch_size=8)
    net.place(home, "single", max_batch_size=1)
    return [HALF], [("batches up to 8", 0, "model=batched"), ("no batches", 0, "model=single")]


def threads(net, home):
    """One core to compute with, against all that there are."""
    net.place(home, "net")
    return ([["--threads", 1], ["--threads", CORES]],
            [("1 thread", 0, ""), (f"{CORES} threads", 1, "")])


def bodies(net, home):
    """The same work asked for by a JPEG, by a binary tensor and by JSON."""
    net.place(home, "net")
    return [HALF], [("binary tensor", 0, "body=binary"),
                  ("JPEG", 0, f"body=image,data={net.picture}"), ("JSON", 0, "body=json")]


SCENARIOS = {"batchnorm": batch_norms, "batching": batching, "threads": threads, "bodies": bodies}


def load(name, title, targets, *options):
    """Runs convd-load; what it printed."""
    command = [args.load, *targets, "--title", title, "--json", args.output / f"{name}.json",
               "--plot", args.output / f"{name}.svg", "--time", args.time, "--warm-up",
               args.warm_up, *options]
    return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE,
                          text=True).stdout


def failed(name):
    result = json.loads((args.output / f"{name}.json").read_text())
    return sum(level["failed"] for side in result["sides"] for level in side["levels"])


def compare(net, scenario):
    """One scenario of one network: its part of the report."""
    name = f"{net.name}_{scenario}"
    make = SCENARIOS[scenario]
    title = f"{net.name}: {make.__doc__[0].lower()}{make.__doc__[1:].rstrip('.')}"
    print(f"\n{title}", flush=True)
    with tempfile.TemporaryDirectory() as home:
        settings, sides = make(net, pathlib.Path(home))
        servers = [serving.Server(home, *extra) for extra in settings]
        for s in servers:
            serving.wait_until(lambda s=s: s.get("/v2/health/ready").status_code == 200, 60)
        targets = [f"{label}={servers[i].url}" + (f",{more}" if more else "")
                   for label, i, more in sides]
        out = load(name, title, targets, "--concurrency", "1,2,4,8,16", "--rounds", args.rounds)
        for s in servers:
            assert s.stop() == 0
    print(out, end="", flush=True)
    return name, title, out


def knee(net):
    """The highest rate of random arrivals that one server carries."""
    name, title = f"{net.name}_knee", f"{net.name}: latency as random arrivals grow denser"
    print(f"\n{title}", flush=True)
    with tempfile.TemporaryDirectory() as home:
        net.place(pathlib.Path(home), "net")
        server = serving.Server(home, *HALF)
        serving.wait_until(lambda: server.get("/v2/health/ready").status_code == 200, 60)
        out = load(name, title, [f"{net.name}={server.url}"], "--knee", "--limit", net.limit)
        assert server.stop() == 0
    print(out, end="", flush=True)
    return name, title, out


def cpu():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return os.uname().machine


def write_report(parts):
    page = ["<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>convd under load"
            "</title>\n<body style=\"font-family:system-ui,sans-serif;margin:24px;max-width:1100px\">",
            "<h1>convd under load</h1>",
            f"<p>{html.escape(cpu())}, {CORES} cores; servers compute on "
            f"{HALF[1]} of them where nothing else is said. Rounds of {html.escape(args.time)}, sides in turns.</p>"]
    for name, title, out in parts:
        page += [f"<h2>{html.escape(title)}</h2>", (args.output / f"{name}.svg").read_text(),
                 f"<pre>{html.escape(out)}</pre>"]
    page.append("</body></html>\n")
    (args.output / "report.html").write_text("\n".join(page))


def main():
    args.output.mkdir(parents=True, exist_ok=True)
    parts, bad = [], []
    with tempfile.TemporaryDirectory() as folder:
        makers = {"fashion": fashion, "mobilenet_v2": lambda: mobilenet(pathlib.Path(folder))}
        nets = [net for net in (makers[name]() for name in args.nets) if net is not None]
        for net in nets:
            for scenario in SCENARIOS:
                if scenario in args.only:
                    parts.append(compare(net, scenario))
                    if failed(parts[-1][0]):
                        bad.append(parts[-1][0])
            # A search goes beyond what can be carried: failures are its business.
            if "knee" in args.only:
                parts.append(knee(net))
    write_report(parts)
    print(f"\nwritten: {args.output / 'report.html'}")
    if bad:
        print("requests failed in:", ", ".join(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--load", type=pathlib.Path, required=True, help="convd-load")
    p.add_argument("--output", type=pathlib.Path, default=ROOT / "build" / "load")
    p.add_argument("--mobilenet", type=pathlib.Path)
    p.add_argument("--time", default="5s", help="of each round")
    p.add_argument("--warm-up", default="1s")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--nets", type=lambda s: s.split(","), default=["fashion", "mobilenet_v2"])
    p.add_argument("--only", type=lambda s: s.split(","),
                   default=[*SCENARIOS, "knee"], help=",".join([*SCENARIOS, "knee"]))
    args = p.parse_args()
    sys.exit(main())
