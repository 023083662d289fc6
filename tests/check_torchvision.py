#!/usr/bin/python3
"""Every classification network of torchvision, exported and run by convd, against PyTorch.

    tests/check_torchvision.py              all of them at opsets 11, 13 and 16: hours
    tests/check_torchvision.py --quick      a dozen of every kind, opset 13
    tests/check_torchvision.py --models resnet18,vit_b_16 --opset 11

Of each network and opset: the answers of one picture and of five are PyTorch's, computed in double
precision, to 1e-4 of their range, and with --exact to 1e-5 or to twice what PyTorch's own single
precision is off, if that is more; a picture's answer is the same bit for bit alone, among five, on
one thread and on two; no BatchNormalization is left to stand alone. Weights are random, batch norm
statistics those of random pictures. CONVD_BINARY names the binary (default: build/convd). Prints a
line for each and 'N passed, N failed, N skipped'."""

import argparse
import collections
import copy
import gc
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "models"))
import export_common  # noqa: E402
import export_torchvision  # noqa: E402

CONVD = os.environ.get("CONVD_BINARY", str(ROOT / "build" / "convd"))
OPSETS = [11, 13, 16]
TOLERANCE = 1e-4  # of the range of PyTorch's answers
EXACT_TOLERANCE = 1e-5  # without algorithms that reorder sums
SEED = 7
DRAWS = 4
PICTURES = 5
ALONE = 3  # the one of them that is also run by itself

# What a size of 128 does not do for: the smallest that the network takes or can be exported at.
# Adaptive pooling exports only where the feature map divides evenly.
SIDES = {"alexnet": 224, "vgg": 224, "vit_h_14": 112, "inception": 299, "maxvit": 224}
QUICK = ["convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5",
         "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1",
         "swin_t"]


def side_of(name):
    return next((side for start, side in SIDES.items() if name.startswith(start)), 128)


class Wrong(Exception):
    """What a network failed at, in one line."""


def convd(*args):
    env = {k: v for k, v in os.environ.items() if not k.startswith("CONVD_")}
    done = subprocess.run([CONVD, *map(str, args)], capture_output=True, text=True, env=env)
    if done.returncode != 0:
        raise Wrong(f"convd {args[0]} exits {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def answers(folder, pictures, threads, *options):
    """What convd makes of pictures [n, 3, h, w]."""
    np.save(folder / "in.npy", pictures)
    convd("run", folder / "model.onnx", "--input", folder / "in.npy", "--output", folder / "out",
          "--threads", threads, *options)
    return np.load(folder / "out" / f"{export_common.OUTPUT}.npy")


def same_bits(a, b, what):
    if a.tobytes() != b.tobytes():
        raise Wrong(f"{what}: {int((a != b).sum())} of {a.size} answers differ, "
                    f"by up to {np.abs(a - b).max():.3g}")


def check_batchnorms(model, expected):
    report = json.loads(convd("inspect", model, "--json"))["batchnorms"]
    if len(report) != expected:
        raise Wrong(f"inspect reports {len(report)} batch norms, the file has {expected}")
    alone = [b for b in report if b["fate"] == "standalone"]
    if alone:
        raise Wrong(f"{len(alone)} of {len(report)} batch norms stand alone; "
                    f"{alone[0]['name']} ({alone[0]['placement']}): {alone[0]['why']}")
    return collections.Counter(b["fate"] for b in report)


def off(answer, expected):
    return float(np.abs(answer - expected).max() / np.ptp(expected))


def check(network, opset, pictures, expected, rounding, folder):
    """Returns what to say about a network that passes."""
    norms = export_common.export(network, folder / "model.onnx", opset)
    five = answers(folder, pictures, 1)
    if five.shape != expected.shape:
        raise Wrong(f"the shape is {list(five.shape)}, not {list(expected.shape)}")
    error, exact = off(five, expected), off(answers(folder, pictures, 1, "--exact"), expected)
    if not error <= TOLERANCE:
        raise Wrong(f"differs from PyTorch by {error:.3g} of the range")
    if not exact <= max(EXACT_TOLERANCE, 2 * rounding):
        raise Wrong(f"differs from PyTorch by {exact:.3g} of the range with --exact, "
                    f"PyTorch's single precision by {rounding:.3g}")
    one = answers(folder, pictures[ALONE:ALONE + 1], 1)
    same_bits(one[0], five[ALONE], "alone and among five")
    same_bits(answers(folder, pictures, 2), five, "on one thread and on two")
    fates = check_batchnorms(folder / "model.onnx", norms)
    return f"{error:.1e} of the range, exact {exact:.1e}; batch norms: " + (
        ", ".join(f"{n} {fate}" for fate, n in sorted(fates.items())) or "none")


def draw(name, seed, shift):
    """The network with random weights, pictures for it, PyTorch's answers in double precision, and
    how far its answers in single precision are off, of their range."""
    torch.manual_seed(seed)
    network = export_torchvision.load(name, False, side_of(name))
    export_common.randomise(network.module, network.side, seed, shift)
    # Of those that made the statistics: a deep random network would explode on most of others.
    pictures = export_common.pictures(export_common.N_PICTURES, network.side, seed)[:PICTURES]
    with torch.no_grad():
        single = network.module(pictures).numpy()
        expected = copy.deepcopy(network.module).double()(pictures.double()).numpy()
    return network, pictures.numpy(), expected, np.abs(single - expected).max() / np.ptp(expected)


def prepare(name):
    """The first draw on which programs can agree at all: rounding grows from layer to layer in
    random networks as it does not in trained ones, and in some of the deepest without bound."""
    for k in range(DRAWS):
        network, pictures, expected, rounding = draw(name, SEED + k, k)
        if rounding <= TOLERANCE / 4:
            break
    else:
        raise Wrong(f"of {DRAWS} random networks PyTorch's own single precision is right for none")
    spread = np.abs(expected - expected[0]).max() / np.ptp(expected)
    if not spread > 0.01:  # or a program that never looks at the picture could pass
        raise Wrong("the random network gives all pictures the same answer")
    return network, pictures, expected, rounding


def run(name, opsets, count):
    """Checks one network, prints its lines and counts them."""
    try:
        network, pictures, expected, rounding = prepare(name)
    except Wrong as e:
        print(f"FAIL {name}: {e}", flush=True)
        count["failed"] += len(opsets)
        return
    for opset in opsets:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="convd-torchvision-") as folder:
            try:
                said = check(network, opset, pictures, expected, rounding, pathlib.Path(folder))
                verdict, word = "passed", "ok  "
            except torch.onnx.errors.OnnxExporterError as e:
                said = f"torch does not export it: {str(e).strip().split('. ')[0]}"
                verdict, word = "skipped", "skip"
            except (Wrong, export_common.Failure) as e:
                said, verdict, word = str(e), "failed", "FAIL"
        count[verdict] += 1
        print(f"{word} {name} opset {opset}, {network.side} x {network.side}: {said} "
              f"({time.monotonic() - start:.0f} s)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", help="names, with commas between them (default: all)")
    parser.add_argument("--opset", type=int, action="append", help="default: 11, 13 and 16")
    parser.add_argument("--quick", action="store_true", help="a dozen networks, opset 13")
    options = parser.parse_args()
    names = options.models.split(",") if options.models else \
        QUICK if options.quick else export_torchvision.names()
    opsets = options.opset or ([13] if options.quick else OPSETS)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    count = collections.Counter()
    for name in names:
        run(name, opsets, count)
        gc.collect()
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
