#!/usr/bin/python3
"""Makes the tiny models: a folder each with model.onnx and, in test_data_set_0, an input and the
answer by the operators' definitions in double precision.

    models/tiny/make_tiny.py         writes all of them next to this file
    build/convd test models/tiny     compares

A new one is a function below. It gets a network of its input's shape, adds nodes and returns the
output; its name is the folder's. It is picked up by the tests of batch invariance as well."""

import pathlib
import sys

import numpy as np
import onnx
from onnx import numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests"))

from small_net import Net  # noqa: E402

TINY = []


def tiny(*shape, samples=None, **options):
    """Registers a network of input [samples, *shape], where None stands for a free batch."""
    def add(build):
        TINY.append((build, samples, Net(*shape, **options)))
        return build
    return add


def block(n, x, m, c, **attributes):
    """Conv, batch norm, Relu."""
    return n("Relu", n.norm(n.conv(x, m, c, pads=[1, 1, 1, 1], **attributes), m))


@tiny(3, 9, 7)
def residual(n):
    """Two blocks around which their input goes: all of it becomes convolutions."""
    x = block(n, "x", 8, 3)
    y = n.norm(n.conv(block(n, x, 8, 8), 8, 8, pads=[1, 1, 1, 1]), 8)
    return n("Relu", n("Add", y, x))


@tiny(6, 9, 9)
def separable(n):
    """A depthwise and a pointwise convolution, as MobileNet has them."""
    x = block(n, "x", 6, 6, group=6, strides=[2, 2])
    return n("Relu", n.norm(n.conv(x, 10, 6, 1, 1), 10))


@tiny(4, 6, 7)
def dense(n):
    """Batch norm in front of a padded convolution and behind Concat, as DenseNet has it."""
    y = n.conv(n("Relu", n.norm("x", 4)), 5, 4, pads=[1, 1, 1, 1])
    return n.conv(n("Relu", n.norm(n("Concat", "x", y, axis=1), 9)), 3, 9, 1, 1)


@tiny(4, 8, 8)
def after_activation(n):
    """Batch norm behind an activation and behind a pool, with scales below zero."""
    y = n.norm(n("Relu", n.conv("x", 6, 4)), 6)
    y = n("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    return n("Sigmoid", n.norm(y, 6, scale=[-1, 1, -0.5, 2, 0, -3]))


@tiny(5, 8, 8)
def squeeze_excite(n):
    """Channels scaled by what the mean of all pixels says."""
    x = n("HardSwish", n.norm(n.conv("x", 9, 5, pads=[1, 1, 1, 1]), 9))
    s = n("Relu", n.conv(n("GlobalAveragePool", x), 4, 9, 1, 1))
    return n("Mul", x, n("Sigmoid", n.conv(s, 9, 4, 1, 1)))


@tiny(4, 5, 4)
def upsampling(n):
    """A transposed convolution with a batch norm behind it, as generators have it."""
    w = n.normal(4, 6, 4, 4) / 4
    return n("Relu", n.norm(n("ConvTranspose", "x", w, strides=[2, 2]), 6))


@tiny(4, 17)
def line(n):
    """One spatial axis."""
    y = n("Relu", n.norm(n.conv("x", 6, 4, 5, pads=[2, 2]), 6))
    return n("AveragePool", y, kernel_shape=[3], strides=[2])


@tiny(2, 5, 6, 4)
def volume(n):
    """Three spatial axes."""
    y = n("Relu", n.norm(n.conv("x", 5, 2, 3, 3, 3, pads=[1] * 6), 5))
    return n("GlobalAveragePool", n("MaxPool", y, kernel_shape=[2, 2, 2], strides=[2, 2, 2]))


@tiny(3, 4, 4)
def classifier(n):
    """Flattened, through a layer with a batch norm of its own."""
    y = n("Reshape", block(n, "x", 6, 3), np.array([0, 96]))
    y = n("Relu", n.norm(n("Gemm", y, n.normal(8, 96) / 8, n.normal(8), transB=1), 8))
    return n("Gemm", y, n.normal(8, 5), n.normal(5))


@tiny(3, 6, 5, samples=1)
def one_sample(n):
    """A batch of 1, and a Reshape that says so: run for each sample of a batch."""
    y = n("Reshape", n("Relu", n.norm(n.conv("x", 4, 3), 4)), np.array([1, 48]))
    return n("MatMul", y, n.normal(48, 5))


@tiny(6, 7, 5, dtype=np.float64)
def doubles(n):
    return block(n, n.norm("x", 6), 4, 6)


def write(folder, build, samples, net):
    data = folder / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    output = build(net)
    path = net.save(folder / "model.onnx", output)
    if samples is not None:
        model = onnx.load(path)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = samples
        onnx.save(model, path)
    x = net.feed(samples or 3)
    (y,) = net.reference(x)
    for name, array, file in ("x", x, "input_0.pb"), (output, y.astype(net.dtype), "output_0.pb"):
        (data / file).write_bytes(numpy_helper.from_array(array, name).SerializeToString())


if __name__ == "__main__":
    for build, samples, net in TINY:
        write(HERE / build.__name__, build, samples, net)
