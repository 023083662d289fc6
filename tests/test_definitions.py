"""What the standard's definitions say of versions, attributes and special values, one by one."""

import numpy as np
import pytest
from onnx import helper

from one_model import Model


@pytest.mark.parametrize("op,want", [
    ("ThresholdedRelu", [0, np.inf, 0, 0, 2, 0]),  # x above alpha = 1, 0 otherwise
    ("Shrink", [0, np.inf, -np.inf, 1, 2, -1]),    # x beyond lambd = 0.5, 0 otherwise
])
def test_no_number_is_beyond_a_bound(op, want, tmp_path):
    model = Model(tmp_path, [helper.make_node(op, ["x"], ["y"])], [("x", "f4", ["N"])],
                  [("y", "f4")])
    x = np.array([np.nan, np.inf, -np.inf, 1, 2, -1], "f4")
    np.testing.assert_array_equal(model(x=x)[0], np.array(want, "f4"))


def half_range(folder, opset, **attributes):
    scalars = [(name, np.float16(value)) for name, value in [("from", 1), ("to", 3), ("by", 0.3)]]
    nodes = [helper.make_node("Range", ["from", "to", "by"], ["r"], "steps", **attributes),
             helper.make_node("Add", ["x", "r"], ["y"])]
    return Model(folder, nodes, [("x", "f2", ["N", 7])], [("y", "f2")], scalars, opset)


def test_range_of_halves_is_in_opset_27(tmp_path):
    model = half_range(tmp_path, 27, stash_type=1)
    want = (1 + np.arange(7) * np.float64(np.float16(0.3))).astype("f2")
    np.testing.assert_array_equal(model(x=np.zeros((2, 7), "f2"))[0], [want, want])


def test_range_that_rounds_on_the_way_is_refused(tmp_path):
    assert "node 'steps' (Range): stash_type 10" in half_range(tmp_path, 27, stash_type=10).refusal()


def test_attributes_of_a_newer_version_are_refused(tmp_path):
    error = half_range(tmp_path, 26, stash_type=1).refusal()
    assert "node 'steps' (Range): there is no attribute 'stash_type' in opset 26" in error
