"""Fashion-MNIST: its files as tensors, its label names, and the network's view of a pixel."""

import gzip
import pathlib

import numpy as np
import torch

LABELS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
          "Bag", "Ankle boot"]
SIZE = 28

# Of the 60,000 training images, in units of white = 1.
MEAN = 0.2860
STD = 0.3530

# Where Debian's dataset-fashion-mnist puts it.
DEFAULT_DIR = pathlib.Path("/usr/share/datasets/fashion-mnist")


def load(directory, part):
    """Images uint8 [n, 28, 28] and labels int64 [n] of part 'train' or 't10k'."""
    def idx(name, header):
        with gzip.open(pathlib.Path(directory) / f"{part}-{name}-ubyte.gz") as f:
            return np.frombuffer(f.read(), np.uint8, offset=header)

    images = idx("images-idx3", 16).reshape(-1, SIZE, SIZE)
    labels = idx("labels-idx1", 8).astype(np.int64)
    return torch.from_numpy(images.copy()), torch.from_numpy(labels)


def normalise(images, dtype=torch.float32):
    """uint8 [n, 28, 28] to what the network reads, [n, 1, 28, 28]."""
    return ((images.to(dtype) / 255 - MEAN) / STD).unsqueeze(1)
