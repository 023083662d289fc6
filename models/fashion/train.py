#!/usr/bin/python3
"""Trains the bundled classifier on Fashion-MNIST and writes everything else in this folder.

Needs Debian's python3-torch, python3-onnx, python3-pil and dataset-fashion-mnist:
    /usr/bin/python3 models/fashion/train.py
Each finished epoch is kept under --work; started again, it goes on from there."""

import argparse
import pathlib
import sys
import time

import torch
from torch.nn import functional

import data
import release
from network import FashionNet

ROOT = pathlib.Path(__file__).resolve().parents[2]

SEED = 20
BATCH = 128
PEAK_RATE = 0.2
WARM_UP = 0.25  # share of the steps in which the learning rate climbs
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
SMOOTHING = 0.1
SHIFT = 2  # pixels, each way
CUTOUT = 8  # side of the square blanked in half of the images


def augment(x, generator):
    """Flips, shifts and blanks each image of x [n, 1, 28, 28] by its own draw."""
    n, _, h, w = x.shape

    def draw(low, high):
        return torch.randint(low, high, (n, 1), generator=generator)

    flip, dy, dx = draw(0, 2), draw(0, 2 * SHIFT + 1), draw(0, 2 * SHIFT + 1)
    rows, cols = torch.arange(h) + dy, torch.arange(w) + dx
    cols = torch.where(flip == 1, cols.flip(1), cols)
    black = -data.MEAN / data.STD
    padded = functional.pad(x[:, 0], (SHIFT,) * 4, value=black)
    x = padded[torch.arange(n)[:, None, None], rows[:, :, None], cols[:, None, :]]

    top, left, keep = draw(0, h), draw(0, w), draw(0, 2)
    half = CUTOUT // 2
    in_rows = (torch.arange(h) - top).abs() < half
    in_cols = (torch.arange(w) - left).abs() < half
    blank = in_rows[:, :, None] & in_cols[:, None, :] & (keep == 0)[:, :, None]
    return x.masked_fill(blank, 0).unsqueeze(1)


def learning_rate(done):
    """One cycle: up in a line, then down in a line to zero. done: share of the steps, 0 to 1."""
    return PEAK_RATE * min(done / WARM_UP, (1 - done) / (1 - WARM_UP))


def optimizer_for(net):
    """Weight decay holds for the matrices only, not for batch norm and biases."""
    matrices = [p for p in net.parameters() if p.dim() > 1]
    vectors = [p for p in net.parameters() if p.dim() == 1]
    return torch.optim.SGD([{"params": matrices, "weight_decay": WEIGHT_DECAY},
                            {"params": vectors, "weight_decay": 0}],
                           lr=0, momentum=MOMENTUM, nesterov=True)


def train_epoch(net, optimizer, images, labels, epoch, epochs):
    """One pass over the training images; returns the mean loss. The draws of an epoch depend on
    its number alone, so a run that was cut short continues as if it had not been."""
    generator = torch.Generator().manual_seed(SEED * 1000 + epoch)
    order = torch.randperm(len(images), generator=generator)
    steps = len(images) // BATCH
    total = 0.0
    net.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate((epoch + step / steps) / epochs)
        pick = order[step * BATCH:(step + 1) * BATCH]
        x = augment(images[pick], generator).contiguous(memory_format=torch.channels_last)
        loss = functional.cross_entropy(net(x), labels[pick], label_smoothing=SMOOTHING)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.item()
        if (step + 1) % 52 == 0:
            print(f"epoch {epoch + 1}/{epochs}  step {step + 1:3}/{steps}  "
                  f"loss {total / (step + 1):.4f}", end="\r" if sys.stdout.isatty() else "\n",
                  flush=True)
    return total / steps


def count_correct(net, images, labels):
    net.eval()
    with torch.no_grad():
        return sum(int((net(x).argmax(1) == y).sum())
                   for x, y in zip(images.split(500), labels.split(500)))


def train(options):
    """Returns the trained network and the seconds that training took."""
    torch.manual_seed(SEED)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    images, labels = data.load(options.data, "train")
    test_images, test_labels = data.load(options.data, "t10k")
    images, test_images = data.normalise(images), data.normalise(test_images)

    net = FashionNet().to(memory_format=torch.channels_last)
    optimizer = optimizer_for(net)
    options.work.mkdir(parents=True, exist_ok=True)
    kept = options.work / f"checkpoint-{options.epochs}.pt"
    first, seconds = 0, 0.0
    if kept.exists():
        state = torch.load(kept)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds = state["epoch"], state["seconds"]
        print(f"continuing after epoch {first} of {kept}")

    for epoch in range(first, options.epochs):
        start = time.monotonic()
        loss = train_epoch(net, optimizer, images, labels, epoch, options.epochs)
        took = time.monotonic() - start
        seconds += took
        correct = count_correct(net, test_images, test_labels)
        print(f"epoch {epoch + 1}/{options.epochs}  loss {loss:.4f}  test {correct}/10000  "
              f"{took:.0f} s, {seconds / 60:.1f} min so far", flush=True)
        part = kept.with_suffix(".part")
        torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(),
                    "epoch": epoch + 1, "seconds": seconds}, part)
        part.replace(kept)
    return net, seconds


def main():
    parser = argparse.ArgumentParser(description="Train the bundled classifier and write its card.")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=pathlib.Path, default=data.DEFAULT_DIR)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "fashion",
                        help="where finished epochs are kept")
    options = parser.parse_args()
    net, seconds = train(options)
    test_images, test_labels = data.load(options.data, "t10k")
    release.write(net, test_images, test_labels, options.epochs, seconds, options.threads)


if __name__ == "__main__":
    main()
