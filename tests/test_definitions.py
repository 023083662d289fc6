"""What the standard's definitions say of versions, attributes and special values, one by one."""

import pathlib

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from one_model import Model
from small_net import convd


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


# --- Dropout in training mode: its elements are drawn at random, what holds of each is not -------

STANDARD = pathlib.Path("/usr/share/libonnx-testdata/data/node")


def check_dropped(x, y, mask, ratio):
    """Each element is left out, or kept and scaled; mask says which."""
    np.testing.assert_allclose(y, np.where(mask, x / (1 - ratio), 0), rtol=1e-6)
    deviation = np.sqrt(x.size * ratio * (1 - ratio))
    assert abs((~mask).sum() - ratio * x.size) < 6 * deviation


@pytest.mark.parametrize("name", ["", "_default", "_default_mask", "_mask"])
def test_training_dropout_of_the_standard(name, tmp_path):
    folder = STANDARD / f"test_training_dropout{name}"
    if not folder.is_dir():
        pytest.skip("libonnx-testdata is not installed")
    files = [folder / "test_data_set_0" / f"input_{i}.pb" for i in range(3)]
    x, ratio, mode = (numpy_helper.to_array(onnx.load_tensor(str(f))) for f in files)
    assert mode and (x != 0).all()
    inputs = [part for f in files for part in ("--input", f)]
    convd("run", folder / "model.onnx", *inputs, "--output", tmp_path)
    y = np.load(tmp_path / "y.npy")
    mask = np.load(tmp_path / "z.npy") if "mask" in name else y != 0
    assert mask.dtype == bool
    check_dropped(x, y, mask, float(ratio))


def dropout(folder, **seed):
    nodes = [helper.make_node("Dropout", ["x", "ratio", "mode"], ["y", "mask"], "drop", **seed)]
    return Model(folder, nodes, [("x", "f4", [10, 10000])], [("y", "f4"), ("mask", "?")],
                 [("ratio", np.float32(0.25)), ("mode", np.bool_(True))])


def test_training_dropout_draws_by_its_seed(tmp_path):
    x = np.random.default_rng(1).uniform(1, 2, (10, 10000)).astype("f4")
    seeded, free = dropout(tmp_path, seed=7), [None, None]
    y, mask = seeded(x=x)
    check_dropped(x, y, mask, 0.25)
    np.testing.assert_array_equal(seeded(x=x)[1], mask)
    (tmp_path / "other").mkdir()
    for i in range(2):
        free[i] = dropout(tmp_path / "other")(x=x)[1]
    assert (free[0] != free[1]).any() and (free[0] != mask).any()
