"""Arithmetic on the number of samples, as exporters write it in front of Reshape: folded for every
batch where one answer is right for all, and planned for each batch where none is."""

import json

import numpy as np
import pytest

from onnx import TensorProto

from small_net import Net, convd

LARGEST = np.iinfo("i8").max


def ints(*values):
    return np.array(values, "i8")


def to_int32(n, s):
    return n("Cast", s, to=TensorProto.INT32)


def in_32_bits(n, s, rest):
    """The batch and the rest, as TensorFlow's exporters join them."""
    first = n("Gather", to_int32(n, s), np.array([0], "i4"))
    return n("Cast", n("Concat", first, rest, axis=0), to=TensorProto.INT64)


# What a Reshape of x [N,4,2,2] is given, and where it leads at batch n.
FREE = {
    "max": (lambda n, s: n("Max", s, ints(1)), lambda n: (n, 4, 2, 2)),
    "min": (lambda n, s: n("Min", s, ints(LARGEST, 8, 2, 2)), lambda n: (n, 4, 2, 2)),
    "max of two": (lambda n, s: n("Max", s, n("Mul", s, ints(1, 1, 1, 1))), lambda n: (n, 4, 2, 2)),
    "clip": (lambda n, s: n("Clip", s, np.array(1), np.array(LARGEST)), lambda n: (n, 4, 2, 2)),
    "div": (lambda n, s: n("Mul", n("Div", s, ints(1, 2, 1, 1)), ints(1, 1, 2, 1)),
            lambda n: (n, 2, 4, 2)),
    "mod": (lambda n, s: n("Add", s, n("Mod", s, ints(1, 4, 2, 2))), lambda n: (n, 4, 2, 2)),
    "greater": (lambda n, s: n("Where", n("Greater", s, ints(0)), s, ints(1)),
                lambda n: (n, 4, 2, 2)),
    "less": (lambda n, s: n("Where", n("Less", n("Mul", s, ints(2, 1, 1, 1)), ints(1)), ints(7), s),
             lambda n: (n, 4, 2, 2)),
    "scatter": (lambda n, s: n("ScatterND", s, ints(1, 3).reshape(2, 1), ints(8, 1)),
                lambda n: (n, 8, 2, 1)),
    "scatter elements": (lambda n, s: n("ScatterElements", s, ints(1, 3), ints(8, 1)),
                         lambda n: (n, 8, 2, 1)),
    "32 bits": (lambda n, s: in_32_bits(n, s, np.array([16], "i4")), lambda n: (n, 16)),
    "parts in 32 bits": (
        lambda n, s: in_32_bits(n, s, n("Div", n(
            "Mul", n("Slice", to_int32(n, s), ints(1), ints(4)), np.array([2, 1, 1], "i4")),
            np.array([1, 2, 1], "i4"))),
        lambda n: (n, 8, 1, 2)),
    "gather": (lambda n, s: n("Concat", n("GatherND", s, ints(0).reshape(1, 1)), ints(-1), axis=0),
               lambda n: (n, 16)),
    "gather elements": (lambda n, s: n("Concat", n("GatherElements", s, ints(0)), ints(-1), axis=0),
                        lambda n: (n, 16)),
    "sum so far": (lambda n, s: n("Concat", n("Slice", n("CumSum", n("Mul", s, ints(1, 0, 0, 0)),
                                                         np.array(0)), ints(3), ints(4)),
                                  ints(16), axis=0), lambda n: (n, 16)),
}

# Here the batch decides which operand it is, or what remains.
PLANNED = {
    "max": (lambda n, s: n("Where", n("Equal", n("Max", s, ints(3)), ints(-5)), ints(1), s),
            "Max"),
    "less": (lambda n, s: n("Where", n("Less", s, ints(3, 9, 9, 9)), s, ints(-1, 4, 2, 2)), "Less"),
    "mod": (lambda n, s: n("Sub", s, n("Mod", s, ints(9, 9, 3, 3))), "Mod"),
    "scatter": (lambda n, s: n("ScatterND", s, ints(0).reshape(1, 1), ints(1), reduction="max"),
                "ScatterND"),
}


def run(folder, build):
    net = Net(4, 2, 2, opset=18)
    y = net("Reshape", "x", build(net, net("Shape", "x")))
    path = net.save(folder / "model.onnx", y)

    def answer(batch):
        x = net.feed(batch)
        np.save(folder / "x.npy", x)
        convd("run", path, "--input", folder / "x.npy", "--output", folder / "out")
        return x, np.load(folder / "out" / f"{y}.npy")

    return json.loads(convd("inspect", path, "--json").stdout), answer


@pytest.mark.parametrize("chain", FREE)
def test_right_for_every_batch(chain, tmp_path):
    build, shape = FREE[chain]
    report, answer = run(tmp_path, build)
    assert report["batch_note"] is None and report["max_batch"] > 0, report["batch_note"]
    for batch in (1, 3, 5):
        x, y = answer(batch)
        np.testing.assert_array_equal(y, x.reshape(shape(batch)))


@pytest.mark.parametrize("chain", PLANNED)
def test_planned_for_each_batch(chain, tmp_path):
    build, named = PLANNED[chain]
    report, answer = run(tmp_path, build)
    assert named in report["batch_note"]
    x, y = answer(4)
    np.testing.assert_array_equal(y, x)
