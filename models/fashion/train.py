#!/usr/bin/python3
"""Trains the bundled classifier on Fashion-MNIST and writes everything else in this folder.

Needs Debian's python3-torch, python3-onnx, python3-pil and dataset-fashion-mnist:
    /usr/bin/python3 models/fashion/train.py
Each finished epoch is kept under --work; started again, it goes on from there."""

import argparse
import pathlib
import sys
import time
from typing import NamedTuple

import torch
from torch.nn import functional

import data
import release
from network import FashionNet

ROOT = pathlib.Path(__file__).resolve().parents[2]

SEED = 20
BATCH = 128
MOMENTUM = 0.9
SMOOTHING = 0.1
SHIFT = 2  # pixels, each way
CUTOUT = 8  # side of the square blanked in half of the images, where a cycle blanks at all


class Cycle(NamedTuple):
    """Epochs over which the learning rate climbs and falls to zero once."""

    epochs: int
    peak: float
    weight_decay: float
    cutout: bool


# The first finds a good region, the second settles in it with less to hold it back.
CYCLES = [Cycle(20, 0.2, 5e-4, True), Cycle(8, 0.05, 1e-4, False)]
WARM_UP = 0.25  # share of a cycle in which the learning rate climbs


def augment(x, generator, cutout):
    """Flips, shifts and, with cutout, blanks each image of x [n, 1, 28, 28] by its own draw."""
    n, _, h, w = x.shape

    def draw(low, high):
        return torch.randint(low, high, (n, 1), generator=generator)

    flip, dy, dx = draw(0, 2), draw(0, 2 * SHIFT + 1), draw(0, 2 * SHIFT + 1)
    rows, cols = torch.arange(h) + dy, torch.arange(w) + dx
    cols = torch.where(flip == 1, cols.flip(1), cols)
    black = -data.MEAN / data.STD
    padded = functional.pad(x[:, 0], (SHIFT,) * 4, value=black)
    x = padded[torch.arange(n)[:, None, None], rows[:, :, None], cols[:, None, :]]

    if not cutout:
        return x.unsqueeze(1)
    top, left, keep = draw(0, h), draw(0, w), draw(0, 2)
    half = CUTOUT // 2
    in_rows = (torch.arange(h) - top).abs() < half
    in_cols = (torch.arange(w) - left).abs() < half
    blank = in_rows[:, :, None] & in_cols[:, None, :] & (keep == 0)[:, :, None]
    return x.masked_fill(blank, 0).unsqueeze(1)


def learning_rate(cycle, done):
    """Up in a line, then down in a line to zero. done: share of the cycle's steps, 0 to 1."""
    return cycle.peak * min(done / WARM_UP, (1 - done) / (1 - WARM_UP))


def optimizer_for(net):
    """Two groups: the matrices, whose weight decay each cycle sets; batch norm and biases, which
    have none."""
    matrices = [p for p in net.parameters() if p.dim() > 1]
    vectors = [p for p in net.parameters() if p.dim() == 1]
    return torch.optim.SGD([{"params": matrices}, {"params": vectors}], lr=0,
                           momentum=MOMENTUM, nesterov=True)


def train_epoch(net, optimizer, images, labels, epoch, cycle, first):
    """One pass over the training images, in a cycle whose first epoch is `first`; returns the mean
    loss. The draws of an epoch depend on its number alone, so a run that was cut short continues
    as if it had not been."""
    generator = torch.Generator().manual_seed(SEED * 1000 + epoch)
    order = torch.randperm(len(images), generator=generator)
    steps = len(images) // BATCH
    total = 0.0
    optimizer.param_groups[0]["weight_decay"] = cycle.weight_decay
    net.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(cycle, (epoch - first + step / steps) / cycle.epochs)
        pick = order[step * BATCH:(step + 1) * BATCH]
        x = augment(images[pick], generator, cycle.cutout)
        x = x.contiguous(memory_format=torch.channels_last)
        loss = functional.cross_entropy(net(x), labels[pick], label_smoothing=SMOOTHING)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.item()
        if sys.stdout.isatty():
            full = 24 * (step + 1) // steps
            print(f"\repoch {epoch + 1} {'█' * full}{'░' * (24 - full)} {100 * (step + 1) // steps:3} %"
                  f"  loss {total / (step + 1):.4f}", end="\r\x1b[K" if step + 1 == steps else "",
                  flush=True)
        elif (step + 1) % 52 == 0:
            print(f"epoch {epoch + 1}  step {step + 1:3}/{steps}  loss {total / (step + 1):.4f}",
                  flush=True)
    return total / steps


def count_correct(net, images, labels):
    net.eval()
    with torch.no_grad():
        return sum(int((net(x).argmax(1) == y).sum())
                   for x, y in zip(images.split(500), labels.split(500)))


def train(options):
    """Returns the trained network, the number of epochs and the seconds that they took."""
    torch.manual_seed(SEED)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    images, labels = data.load(options.data, "train")
    test_images, test_labels = data.load(options.data, "t10k")
    images, test_images = data.normalise(images), data.normalise(test_images)

    net = FashionNet().to(memory_format=torch.channels_last)
    optimizer = optimizer_for(net)
    options.work.mkdir(parents=True, exist_ok=True)
    kept = options.work / ("quick.pt" if options.quick else "checkpoint.pt")
    done, seconds = 0, 0.0
    if kept.exists():
        state = torch.load(kept)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        done, seconds = state["epoch"], state["seconds"]
        print(f"continuing after epoch {done} of {kept}")

    cycles = [c._replace(epochs=1) for c in CYCLES] if options.quick else CYCLES
    plan = [(cycle, sum(c.epochs for c in cycles[:i]))
            for i, cycle in enumerate(cycles) for _ in range(cycle.epochs)]
    for epoch, (cycle, first) in list(enumerate(plan))[done:]:
        start = time.monotonic()
        loss = train_epoch(net, optimizer, images, labels, epoch, cycle, first)
        took = time.monotonic() - start
        seconds += took
        correct = count_correct(net, test_images, test_labels)
        print(f"epoch {epoch + 1}/{len(plan)}  loss {loss:.4f}  test {correct}/10000  "
              f"{took:.0f} s, {seconds / 60:.1f} min so far", flush=True)
        part = kept.with_suffix(".part")
        torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(),
                    "epoch": epoch + 1, "seconds": seconds}, part)
        part.replace(kept)
    return net, len(plan), seconds


def main():
    parser = argparse.ArgumentParser(description="Train the bundled classifier and write its card.")
    parser.add_argument("--quick", action="store_true",
                        help="one epoch a cycle, to try the script; the model is not as good")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=pathlib.Path, default=data.DEFAULT_DIR)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "fashion",
                        help="where finished epochs are kept")
    options = parser.parse_args()
    net, epochs, seconds = train(options)
    test_images, test_labels = data.load(options.data, "t10k")
    release.write(net, test_images, test_labels, epochs, seconds, options.threads)


if __name__ == "__main__":
    main()
