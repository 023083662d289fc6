"""The serving core under load: each figure next to its goal. Exit status 1 when one is missed.

    make compare-serving                        everything
    make compare-serving ONLY=tiny,reloads      some of it
    make compare-serving MOBILENET=net.onnx     another network of 1x3x224x224

Whatever is compared is measured in turns within one run, and a figure is the median of its rounds,
so that what else the machine does meets both sides. Servers and load generators share the cores.
"""

import argparse
import contextlib
import http.client
import io
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import onnxfile as ox  # noqa: E402
import serving  # noqa: E402

missed = []


def report(what, value, goal=None, good=True):
    mark = "" if goal is None else f"   goal {goal}: {'met' if good else 'MISSED'}"
    print(f"  {what:58} {value}{mark}", flush=True)
    if not good:
        missed.append(what)


def at_least(what, value, goal, unit=""):
    report(what, f"{value:.2f}{unit}", f">= {goal}{unit}", value >= goal)


def at_most(what, value, goal, unit=""):
    report(what, f"{value:.2f}{unit}", f"<= {goal}{unit}", value <= goal)


def median_ratio(a, b):
    return statistics.median(x / y for x, y in zip(a, b))


# The two sides.

class Convd(serving.Server):
    def __init__(self, *args, **more):
        super().__init__(*args, "--log-level", "info", **more)
        serving.wait_until(lambda: self.get("/v2/health/ready").status_code == 200, 60)


class Other:
    """Another server, on a port of its own."""

    def __init__(self, *command, port, env=None):
        self.port = port
        self.process = subprocess.Popen(list(map(str, command)), env=env,
                                        stdout=subprocess.DEVNULL)
        serving.wait_until(self._answers, 60)

    def _answers(self):
        assert self.process.poll() is None, "it ended"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def stop(self):
        self.process.terminate()
        self.process.wait()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def empty_server(answer_bytes):
    """libmicrohttpd alone, with as many threads as convd has for sockets."""
    port = free_port()
    return Other(args.empty_server, port, 2, answer_bytes, port=port)


# The load.

class Case:
    """A request, and what is right as its answer."""

    def __init__(self, folder, name, body, headers):
        self.body, self.headers, self.name = body, headers, name
        self.file = folder / f"{name}.body"
        self.file.write_bytes(body)
        self.answers = []

    def learn(self, server, path):
        answer = server.post(path, self.body, headers=self.headers)
        assert answer.status_code == 200, answer.text
        file = self.file.with_name(f"{self.file.name}.answer{len(self.answers)}")
        file.write_bytes(answer.content)
        self.answers.append(file)
        return answer


def load(port, path, cases, connections, seconds, rate=None):
    """What convd-load says of one load, with "rate": right answers a second."""
    command = [args.load, f"http://127.0.0.1:{port}", "--path", path, "--body", "raw",
               "--connections", connections, "--time", seconds, "--warm-up", 0, "--timeout", 60,
               "--arrivals", "constant", "--json", "-"]
    command += ["--rate", max(1, round(rate))] if rate else ["--concurrency", connections]
    for name, value in cases[0].headers.items():
        command += ["--header", f"{name}: {value}"]
    for case in cases:
        command += ["--data", case.file]
    if cases[0].answers:
        command += ["--check"]
    out = json.loads(subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE,
                                    text=True).stdout)["sides"][0]["levels"][0]
    out["rate"] = out["answers"].get("200", {"count": 0})["count"] / seconds
    return out


def wrk(port, path, case, connections, seconds):
    env = dict(os.environ, BODY=str(case.file),
               JSON_LENGTH=case.headers.get(serving.JSON_LENGTH, "0"))
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "-s",
                          str(HERE / "post.lua"), f"http://127.0.0.1:{port}{path}"],
                         check=True, capture_output=True, text=True, env=env).stdout
    assert "Non-2xx" not in out, out
    return float(out.split("Requests/sec:")[1].split()[0])


def bench(model, batches, seconds=1, threads=None):
    """Images a second of the bare runtime, and milliseconds a run, by batch."""
    threads = threads or args.threads
    out = subprocess.run([serving.BINARY, "bench", model, "--batch", ",".join(map(str, batches)),
                          "--threads", str(threads), "--seconds", str(seconds), "--json"],
                         check=True, capture_output=True, text=True).stdout
    return {r["batch"]: (r["images_per_second"], r["median_seconds"] * 1000)
            for r in json.loads(out)["results"]}


def binary_case(folder, name, model, seed=1):
    import onnx
    graph = onnx.load(model, load_external_data=False).graph
    weights = {t.name for t in graph.initializer}
    x = next(i for i in graph.input if i.name not in weights)
    shape = [1] + [d.dim_value for d in x.type.tensor_type.shape.dim][1:]
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    body, headers = serving.binary_request({x.name: values},
                                           parameters={"binary_data_output": True})
    return Case(folder, name, body, headers)


def place(folder, name, model):
    (folder / name).mkdir()
    shutil.copyfile(model, folder / name / "model.onnx")
    return folder / name


# What is measured.

def tiny(folder):
    """A model that costs almost nothing, against a handler that does nothing."""
    case = binary_case(folder, "tiny", args.mnist)
    convd = Convd(place(folder, "mnist", args.mnist), "--threads", args.threads)
    path = "/v2/models/mnist/infer"
    answer = case.learn(convd, path)
    empty = empty_server(len(answer.content))
    ours, theirs = [], []
    for _ in range(args.rounds):
        ours.append(wrk(convd.port, path, case, 32, args.seconds))
        theirs.append(wrk(empty.port, path, case, 32, args.seconds))
    report("convd, mnist8", f"{statistics.median(ours):.0f} requests/s")
    report("empty libmicrohttpd handler", f"{statistics.median(theirs):.0f} requests/s")
    bare = bench(args.mnist, [1], threads=1)[1][1]
    report("the runtime alone, one image", f"{bare * 1000:.0f} us of one core")
    at_least("convd / empty", median_ratio(ours, theirs), 0.6)
    half = [load(convd.port, path, [case], 32, args.seconds, statistics.median(ours) / 2)
            for _ in range(args.rounds)]
    at_most("p99 at half of that load", statistics.median(h["answers"]["200"]["p99"] for h in half),
            2, " ms")
    report("wrong answers", sum(h["wrong"] for h in half), 0, not any(h["wrong"] for h in half))
    empty.stop()
    assert convd.stop() == 0


def large(folder):
    """mobilenet_v2, tensors as binary bodies, 8 connections."""
    cases = [binary_case(folder, f"large{i}", args.mobilenet, i) for i in range(4)]
    convd = Convd(place(folder, "mobilenet", args.mobilenet), "--threads", args.threads)
    path = "/v2/models/mobilenet/infer"
    for case in cases:
        case.learn(convd, path)
    served, bare, wrong = [], [], 0
    for _ in range(args.rounds):
        b = bench(args.mobilenet, [1, 8])
        out = load(convd.port, path, cases, 8, args.seconds * 2)
        served.append(out["rate"])
        bare.append(max(images for images, _ in b.values()))
        wrong += out["wrong"]
    report("convd over HTTP", f"{statistics.median(served):.1f} images/s")
    report("convd bench, the better of batch 1 and 8", f"{statistics.median(bare):.1f} images/s")
    at_least("HTTP / bench", median_ratio(served, bare), 0.95)
    report("wrong answers", wrong, 0, wrong == 0)
    assert convd.stop() == 0


def picture(seed, width=640, height=480):
    """A JPEG of soft shapes, as large as a photo of its size."""
    from PIL import Image
    small = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.BICUBIC).save(out, "JPEG", quality=88)
    return out.getvalue()


def pictures(folder):
    """mobilenet_v2, JPEG bodies of 640x480, 8 connections; against a server in JavaScript."""
    cases = [Case(folder, f"jpeg{i}", picture(i), {"Content-Type": "image/jpeg"}) for i in range(4)]
    convd = Convd(place(folder, "mobilenet", args.mobilenet), "--threads", args.threads)
    path = "/v2/models/mobilenet/classify"
    for case in cases:
        case.learn(convd, path)
    port = free_port()
    fastify = Other("node", HERE / "fastify_server.js", args.mobilenet, port, args.threads,
                    port=port, env=dict(os.environ, NODE_PATH=str(args.node_modules)))
    served, bare, theirs, wrong = [], [], [], 0
    unchecked = [Case(folder, f"other{i}", c.body, c.headers) for i, c in enumerate(cases)]
    load(port, path, unchecked, 8, 1)
    for _ in range(args.rounds):
        bare.append(max(images for images, _ in bench(args.mobilenet, [1, 8]).values()))
        out = load(convd.port, path, cases, 8, args.seconds * 2)
        served.append(out["rate"])
        wrong += out["wrong"]
        theirs.append(load(port, path, unchecked, 8, args.seconds * 2)["rate"])
    report("convd, JPEG bodies", f"{statistics.median(served):.1f} images/s")
    report("convd bench, the better of batch 1 and 8", f"{statistics.median(bare):.1f} images/s")
    report("fastify + sharp + onnxruntime-node", f"{statistics.median(theirs):.1f} images/s")
    at_least("HTTP with JPEG / bench", median_ratio(served, bare), 0.75)
    at_least("convd / fastify", median_ratio(served, theirs), 2.5)
    report("wrong answers", wrong, 0, wrong == 0)
    fastify.stop()
    assert convd.stop() == 0


class Watch:
    """Asks for health all the time, and notes the memory once a second."""

    def __init__(self, server):
        self.server, self.ms, self.memory, self.ended = server, [], [], False
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        begun = time.monotonic()
        while not self.ended:
            t = time.monotonic()
            c.request("GET", "/v2/health/ready")
            answer = c.getresponse()
            answer.read()
            assert answer.status == 200
            self.ms.append((time.monotonic() - t) * 1000)
            if time.monotonic() - begun > len(self.memory):
                self.memory.append(self.server.memory() / 2**20)
            time.sleep(0.05)
        c.close()

    def stop(self):
        self.ended = True
        self.thread.join()


def overload(folder):
    """Four times what can be carried."""
    cases = [binary_case(folder, f"storm{i}", args.mobilenet, i) for i in range(4)]
    queue, batch = 16, 8
    convd = Convd(place(folder, "mobilenet", args.mobilenet), "--threads", args.threads,
                  "--max-queue", queue, "--max-batch", batch)
    path = "/v2/models/mobilenet/infer"
    for case in cases:
        case.learn(convd, path)
    carried = load(convd.port, path, cases, queue + batch - 2, 8)
    usual = carried["answers"]["200"]
    report("carried", f"{carried['rate']:.1f} images/s, p50 {usual['p50']:.0f} ms, "
                      f"p99 {usual['p99']:.0f} ms")
    watch = Watch(convd)
    storm = load(convd.port, path, cases, 64, args.storm, 4 * carried["rate"])
    watch.stop()
    taken, refused = storm["answers"]["200"], storm["answers"].get("503", {"count": 0})
    others = {k: v["count"] for k, v in storm["answers"].items() if k not in ("200", "503")}
    report(f"{args.storm} s of {storm['requests'] / args.storm:.0f} requests/s",
           f"{taken['count']} answered, {refused['count']} refused, {others or 'no'} others")
    report("answers of other kinds, connections broken", f"{others} {storm['broken']}", "none",
           not others and storm["broken"] == storm["unsent"] == 0)
    report("refusals without Retry-After", storm["without_retry_after"], 0,
           storm["without_retry_after"] == 0)
    # The clock of a refusal begins when its request is sent: what the client, which has no core of
    # its own, was late with by then is not the server's.
    wait, late = refused["first_byte"], storm["begun_late_ms"]
    at_most("refused within, p50, from sending to the first byte", wait["p50"], 5, " ms")
    at_most("refused within, p99", wait["p99"], 5, " ms")
    report("  from when it was due to the answer's end, p99", f"{refused['p99']:.2f} ms, of which "
           f"the client was late with {late['p99']:.2f} ms (p99)")
    at_most("p50 of answered / p50 when carried", taken["p50"] / usual["p50"], 1.5)
    at_most("p99 of answered / p99 when carried", taken["p99"] / usual["p99"], 1.5)
    at_most("health answered within, p99", float(np.percentile(watch.ms, 99)), 20, " ms")
    at_most("health answered within, longest", max(watch.ms), 20, " ms")
    # Bodies come and go: what counts is where it stands on average.
    later = watch.memory[10:]
    half = len(later) // 2
    grown = statistics.mean(later[half:]) - statistics.mean(later[:half])
    at_most(f"memory {statistics.mean(later):.1f} MiB, second half over first after 10 s", grown, 1,
            " MiB")
    report("answers whose bits differ from those of the image alone", storm["wrong"], 0,
           storm["wrong"] == 0)
    assert convd.stop() == 0


def versioned(weight):
    """Convolutions that multiply by weight."""
    w = np.zeros((16, 16, 3, 3), np.float32)
    w[range(16), range(16), 1, 1] = weight
    nodes = [ox.node("Conv", [f"t{i}", "w"], [f"t{i + 1}"], ox.ints("pads", 1, 1, 1, 1))
             for i in range(4)]
    nodes.append(ox.node("GlobalMaxPool", ["t4"], ["y"]))
    return ox.model(nodes, [ox.value_info("t0", ox.FLOAT, ["N", 16, 32, 32])],
                    [ox.value_info("y", ox.FLOAT, ["N", 16, 1, 1])], [ox.floats("w", w)])


def reloads(folder):
    """The same model from two files in turns, while it is used."""
    home = folder / "net"
    home.mkdir()
    files = [versioned(1.5), versioned(0.75)]
    (home / "model.onnx").write_bytes(files[0])
    convd = Convd(folder, "--model-control", "--threads", args.threads)
    path = "/v2/models/net/infer"
    cases = []
    for i in range(4):
        x = np.random.default_rng(i).standard_normal((1, 16, 32, 32)).astype(np.float32)
        body, headers = serving.binary_request({"t0": x}, parameters={"binary_data_output": True})
        cases.append(Case(folder, f"swap{i}", body, headers))

    def swap(i):
        (home / "next").write_bytes(files[i % 2])
        os.replace(home / "next", home / "model.onnx")
        assert convd.post("/v2/repository/models/net/load").status_code == 200

    for i in range(2):
        swap(i)
        for case in cases:
            case.learn(convd, path)
    totals, memory, done = {"answers": 0, "failed": 0, "wrong": 0}, [], 0
    while done < args.reloads:
        out = []
        user = threading.Thread(target=lambda: out.append(load(convd.port, path, cases, 8, 5)))
        user.start()
        while user.is_alive():
            swap(done)
            done += 1
            memory.append(convd.memory() / 2**10)
        user.join()
        totals["answers"] += out[0]["requests"]
        totals["failed"] += out[0]["failed"] - out[0]["wrong"]
        totals["wrong"] += out[0]["wrong"]
    report(f"{done} reloads under {totals['answers']} requests: failed", totals["failed"], 0,
           totals["failed"] == 0)
    report("answers that are neither version's", totals["wrong"], 0, totals["wrong"] == 0)
    later = memory[done // 10:]
    tenths = [later[i * len(later) // 10:(i + 1) * len(later) // 10] for i in range(10)]
    report("memory as it goes on, medians",
           " ".join(f"{statistics.median(t) / 2**10:.1f}" for t in tenths) + " MiB")
    # Now and then two models are there at once: what counts is how it goes on the whole. A model
    # that is not given back would be some 50 KiB.
    slope, _ = np.polyfit(np.arange(len(later)), later, 1)
    at_most("its slope behind the first tenth", slope, 1, " KiB a reload")
    assert convd.stop() == 0


def request(folder):
    """What a request of 1x3x224x224 costs beyond a handler that is sent the same and does nothing,
    and beyond the bare run on one thread."""
    shape = ["N", 3, 224, 224]
    (folder / "pool").mkdir()
    model = folder / "pool" / "model.onnx"
    model.write_bytes(ox.model([ox.node("GlobalAveragePool", ["x"], ["y"])],
                               [ox.value_info("x", ox.FLOAT, shape)],
                               [ox.value_info("y", ox.FLOAT, ["N", 3, 1, 1])]))
    x = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
    body, headers = serving.binary_request({"x": x}, parameters={"binary_data_output": True})
    text = ('{"inputs":[{"name":"x","shape":[1,3,224,224],"datatype":"FP32","data":[' +
            ",".join(map(repr, map(float, map(str, x.ravel())))) + "]}]}").encode()
    convd = Convd(folder / "pool", "--threads", 1)
    path = "/v2/models/pool/infer"
    empty = empty_server(200)
    for name, case, goal in (
            ("binary", Case(folder, "binary", body, headers), 0.1),
            (f"JSON, {len(text) / 1e6:.1f} MB", Case(folder, "json", text, {"X": "y"}), 8)):
        case.learn(convd, path)
        over, ours, theirs = [], [], []
        for _ in range(args.rounds):
            bare = bench(model, [1], 0.5, 1)[1][1]
            ours.append(load(convd.port, path, [case], 1, args.seconds)["answers"]["200"]["p50"])
            theirs.append(load(empty.port, path, [Case(folder, "plain", case.body, case.headers)],
                               1, args.seconds)["answers"]["200"]["p50"])
            over.append(ours[-1] - theirs[-1] - bare)
        report(f"{name}: round trip, of which an empty handler's",
               f"{statistics.median(ours):.3f} ms, {statistics.median(theirs):.3f} ms")
        report("  the bare run", f"{bare:.3f} ms")
        at_most("  what is left", statistics.median(over), goal, " ms")
    empty.stop()
    assert convd.stop() == 0


def cpu_seconds(server):
    """Processor time that its threads have used."""
    tasks = pathlib.Path(f"/proc/{server.process.pid}/task").iterdir()
    return sum(int((t / "schedstat").read_text().split()[0]) for t in tasks) / 1e9


def seen(folder):
    """What counting and the access log cost: against a build without counters, in short turns."""
    kinds = {"counted": (serving.BINARY, []), "uncounted": (args.uncounted, []),
             "logged": (serving.BINARY, ["--access-log", folder / "access.log"])}
    for name, model in ("mnist", args.mnist), ("mobilenet", args.mobilenet):
        case = binary_case(folder, name, model)
        home, path = place(folder, name, model), f"/v2/models/{name}/infer"
        servers = {kind: Convd(home, "--threads", args.threads, *more, binary=binary)
                   for kind, (binary, more) in kinds.items()}
        rate, cpu = {k: [] for k in kinds}, {k: [] for k in kinds}
        for turn in range(16 * args.rounds):
            # Who goes first changes, so that nobody always follows the same one.
            for kind in list(kinds)[turn % 3:] + list(kinds)[:turn % 3]:
                s = servers[kind]
                begun = cpu_seconds(s)
                out = load(s.port, path, [case], 8, 0.25)
                rate[kind].append(out["rate"])
                cpu[kind].append((cpu_seconds(s) - begun) / out["requests"])
        counted = servers["uncounted"].get("/v2/models/stats").json()["model_stats"][0]
        assert counted["inference_count"] == 0
        report(f"{name}: requests/s, processor time of a request",
               f"{statistics.median(rate['counted']):.0f}, "
               f"{statistics.median(cpu['counted']) * 1e6:.1f} us")
        for what, a, b in (("metrics", "counted", "uncounted"), ("access log", "logged", "counted")):
            report(f"  with {what} / without, requests/s",
                   f"{median_ratio(rate[a], rate[b]):.3f}")
            report(f"  with {what} / without, processor time",
                   f"{median_ratio(cpu[a], cpu[b]):.3f}")
        for s in servers.values():
            assert s.stop() == 0


ALL = {f.__name__: f for f in (tiny, large, pictures, overload, reloads, request, seen)}


def main():
    global args
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", default=",".join(ALL), help="some of " + ",".join(ALL))
    p.add_argument("--load", type=pathlib.Path, required=True)
    p.add_argument("--empty-server", type=pathlib.Path, required=True)
    p.add_argument("--uncounted", type=pathlib.Path, help="convd that counts nothing")
    p.add_argument("--node-modules", type=pathlib.Path)
    p.add_argument("--mnist", type=pathlib.Path)
    p.add_argument("--mobilenet", type=pathlib.Path)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=int, default=2, help="of one measurement")
    p.add_argument("--storm", type=int, default=60, help="seconds of overload")
    p.add_argument("--reloads", type=int, default=1000)
    args = p.parse_args()
    needs = {"tiny": args.mnist, "large": args.mobilenet, "pictures": args.mobilenet,
             "overload": args.mobilenet, "seen": args.mobilenet}
    for name in args.only.split(","):
        print(f"{name}: {ALL[name].__doc__}")
        model = needs.get(name, ROOT)
        if model is None or not model.exists():
            print(f"  skipped: there is no model file {model}")
            continue
        with tempfile.TemporaryDirectory(prefix="convd-load-") as folder:
            ALL[name](pathlib.Path(folder))
    if missed:
        print("missed:", "; ".join(missed))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
