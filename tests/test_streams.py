"""A pointwise convolution whose output only a depthwise one reads is run by it, piece by piece: the
same bits as when its output is wanted whole, whatever the sizes, the batch and the team."""

import numpy as np
import pytest

from one_model import Model, pictures
from onnx import helper
from small_net import convd

# Channels before and between, height, width; kernel, stride, pads (of the start, of the end),
# dilation; the activation between.
CASES = {
    "small": (16, 40, 9, 11, 3, 1, (1, 1), 1, "Relu"),
    "whole planes": (24, 144, 56, 56, 3, 1, (1, 1), 1, "Relu"),
    "strips of rows": (16, 96, 130, 112, 3, 2, (1, 1), 1, "Relu"),
    "strips without padding": (17, 50, 203, 90, 3, 2, (0, 0), 1, "HardSwish"),
    "copied planes": (20, 33, 14, 14, 5, 1, (2, 2), 1, "HardSwish"),
    "wide kernel": (40, 72, 7, 7, 7, 1, (3, 3), 1, "Relu"),
    "dilated": (16, 32, 30, 100, 3, 1, (2, 2), 2, "Sigmoid"),
    "rows of padding alone": (16, 15, 83, 22, 3, 3, (1, 3), 1, "Sigmoid"),
    "uneven padding": (18, 70, 41, 37, 5, 2, (1, 3), 1, "Relu"),
}


def network(folder, case, outputs):
    before, between, height, width, kernel, stride, pads, dilation, act = CASES[case]
    random = np.random.default_rng(5)
    weights = [("w0", random.normal(size=(between, before, 1, 1)).astype("f4")),
               ("b0", random.normal(size=between).astype("f4")),
               ("w1", random.normal(size=(between, 1, kernel, kernel)).astype("f4")),
               ("b1", random.normal(size=between).astype("f4"))]
    nodes = [helper.make_node("Conv", ["x", "w0", "b0"], ["c"]),
             helper.make_node(act, ["c"], ["middle"]),
             helper.make_node("Conv", ["middle", "w1", "b1"], ["d"], group=between,
                              strides=[stride] * 2, dilations=[dilation] * 2,
                              pads=[pads[0]] * 2 + [pads[1]] * 2),
             helper.make_node("Relu", ["d"], ["y"])]
    folder.mkdir()
    return Model(folder, nodes, [("x", "f4", ["n", before, height, width])],
                 [(name, "f4") for name in outputs], weights)


@pytest.mark.parametrize("case", CASES)
def test_streamed_is_whole(tmp_path, case):
    streamed = network(tmp_path / "streamed", case, ["y"])
    whole = network(tmp_path / "whole", case, ["y", "middle"])
    ways = [[layer["algorithm"] for layer in net.report()["layers"]] for net in (streamed, whole)]
    assert "in the next layer" in ways[0] and "in the next layer" not in ways[1]
    for batch in 1, 3:
        before, _, height, width = CASES[case][:4]
        x = pictures(batch, before, height, width)
        want = whole(x=x)[0]
        assert np.isfinite(want).all() and want.any()
        for threads in 1, 2, 5:
            out = tmp_path / f"out{threads}"
            convd("run", streamed.path, "--input", whole.folder / "x.npy", "--output", out,
                  "--threads", threads)
            assert np.load(out / "y.npy").tobytes() == want.tobytes(), (batch, threads)
