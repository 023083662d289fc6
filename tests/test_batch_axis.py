"""Operators that reach over the samples of a batch, and models whose batch is fixed to 1: what is
run, with the standard's answers, and what is refused, by name."""

import numpy as np
import pytest
from onnx import helper

from one_model import Model, pictures

# --- MaxPool's Indices, MaxUnpool ------------------------------------------------------------


def pool_with_indices(x, k=2):
    """Windows of k x k, a stride of k: the maxima, and where in x they are."""
    n, c, h, w = x.shape
    windows = x.reshape(n, c, h // k, k, w // k, k).swapaxes(3, 4)
    windows = windows.reshape(n, c, h // k, w // k, -1)
    place = np.arange(x.size).reshape(n, c, h // k, k, w // k, k).swapaxes(3, 4)
    at = windows.argmax(-1)[..., None]
    return (np.take_along_axis(windows, at, -1)[..., 0],
            np.take_along_axis(place.reshape(windows.shape), at, -1)[..., 0])


POOL = helper.make_node("MaxPool", ["x"], ["p", "i"], "pool", kernel_shape=[2, 2], strides=[2, 2])
UNPOOL = {"kernel_shape": [2, 2], "strides": [2, 2]}


@pytest.mark.parametrize("sized", [False, True])
def test_indices_for_unpool_alone_leave_the_batch_free(sized, tmp_path):
    nodes = [POOL, helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Relu", ["p"], ["q"]),
             helper.make_node("MaxUnpool", ["q", "i", "s"][:3 if sized else 2], ["y"], "unpool",
                              **UNPOOL)]
    model = Model(tmp_path, nodes, [("x", "f4", ["N", 3, 6, 8])], [("y", "f4")])
    assert model.report()["batch_note"] is None
    x = pictures(5, 3, 6, 8)
    maxima, indices = pool_with_indices(x)
    want = np.zeros(x.size, "f4")
    want[indices.ravel()] = np.maximum(maxima, 0).ravel()
    (y,) = model(x=x)
    np.testing.assert_array_equal(y, want.reshape(x.shape))
    beside = x.copy()
    beside[[0, 1, 3, 4]] = np.nan
    np.testing.assert_array_equal(model(x=beside)[0][2], y[2])
    np.testing.assert_array_equal(model(x=x[2:3])[0][0], y[2])


def test_indices_that_are_an_answer_are_of_the_whole_batch(tmp_path):
    model = Model(tmp_path, [POOL], [("x", "f4", ["N", 3, 6, 8])], [("p", "f4"), ("i", "i8")])
    assert "'pool' (MaxPool): Indices count over the batch axis" in model.report()["batch_note"]
    for batch in (1, 5):
        x = pictures(batch, 3, 6, 8)
        for got, want in zip(model(x=x), pool_with_indices(x)):
            np.testing.assert_array_equal(got, want)


def test_unpool_by_indices_from_elsewhere_counts_over_the_batch(tmp_path):
    node = helper.make_node("MaxUnpool", ["x", "i"], ["y"], "unpool", **UNPOOL)
    model = Model(tmp_path, [node], [("x", "f4", ["N", 1, 2, 2]), ("i", "i8", ["N", 1, 2, 2])],
                  [("y", "f4")])
    assert "'unpool' (MaxUnpool): indices count over the batch axis" in model.report()["batch_note"]
    x, i = pictures(3, 1, 2, 2), np.random.default_rng(1).permutation(48)[:12].reshape(3, 1, 2, 2)
    want = np.zeros(48, "f4")
    want[i.ravel()] = x.ravel()
    np.testing.assert_array_equal(model(x=x, i=i)[0].ravel(), want)
    assert "'unpool' (MaxUnpool): index 2 is 48 of 48" in model(
        status=1, x=x, i=np.where(np.arange(12).reshape(i.shape) == 2, 48, i))


# --- regions ---------------------------------------------------------------------------------


def max_roi_pool(x, rois, side):
    y = np.zeros((len(rois), x.shape[1], side, side), "f4")
    for r, (n, *box) in enumerate(rois):
        x1, y1, x2, y2 = np.round(box).astype(int)
        h, w = max(y2 - y1 + 1, 1) / side, max(x2 - x1 + 1, 1) / side
        for i in range(side):
            for k in range(side):
                part = x[int(n), :, y1 + int(i * h):y1 + int(np.ceil((i + 1) * h)),
                         x1 + int(k * w):x1 + int(np.ceil((k + 1) * w))]
                y[r, :, i, k] = part.max((1, 2))
    return y


def regions(count, batch):
    random = np.random.default_rng(7)
    corner = random.integers(0, 4, (count, 2))
    return random.integers(0, batch, count), np.concatenate([corner, corner + 4], 1).astype("f4")


@pytest.mark.parametrize("declared", [["N", "R"], [5, 9]])
def test_max_roi_pool_takes_regions_of_any_picture(declared, tmp_path):
    node = helper.make_node("MaxRoiPool", ["x", "rois"], ["y"], "regions", pooled_shape=[2, 2])
    model = Model(tmp_path, [node], [("x", "f4", [declared[0], 3, 9, 9]),
                                     ("rois", "f4", [declared[1], 5])], [("y", "f4")])
    if declared[0] == "N":
        assert "'regions' (MaxRoiPool): takes regions" in model.report()["batch_note"]
    x = pictures(5, 3, 9, 9)
    which, boxes = regions(9, 5)
    rois = np.concatenate([which[:, None].astype("f4"), boxes], 1)
    np.testing.assert_array_equal(model(x=x, rois=rois)[0], max_roi_pool(x, rois, 2))
    rois[4, 0] = 5
    assert "'regions' (MaxRoiPool): region 4 is of picture 5" in model(status=1, x=x, rois=rois)


def test_roi_align_takes_regions_of_any_picture(tmp_path):
    node = helper.make_node("RoiAlign", ["x", "rois", "which"], ["y"], "regions", output_height=3,
                            output_width=2, sampling_ratio=2)
    model = Model(tmp_path, [node], [("x", "f4", ["N", 3, 9, 9]), ("rois", "f4", ["R", 4]),
                                     ("which", "i8", ["R"])], [("y", "f4")])
    assert "'regions' (RoiAlign): takes regions" in model.report()["batch_note"]
    x = pictures(5, 3, 9, 9)
    which, boxes = regions(7, 5)
    (y,) = model(x=x, rois=boxes, which=which)
    for r, n in enumerate(which):
        (alone,) = model(x=x[n:n + 1], rois=boxes[r:r + 1], which=np.array([0]))
        np.testing.assert_array_equal(y[r], alone[0])


# --- ranges ----------------------------------------------------------------------------------


def dynamic_quantize(x):
    low, high = min(0, x.min()), max(0, x.max())
    scale = np.float32(high - low) / np.float32(255)
    zero = np.round(np.clip(-low / scale, 0, 255))
    return np.clip(np.round(x / scale) + zero, 0, 255).astype("u1")


@pytest.mark.parametrize("declared", ["N", 5, 1])
def test_dynamic_quantisation_takes_its_range_from_the_batch(declared, tmp_path):
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"], "range")
    model = Model(tmp_path, [node], [("x", "f4", [declared, 8])], [("y", "u1")])
    if declared != 5:
        says = "'range' (DynamicQuantizeLinear): takes its range from the whole batch"
        assert says in model.report()["batch_note"]
    x = pictures(5, 8)
    want = np.concatenate([dynamic_quantize(row[None]) for row in x]) if declared == 1 \
        else dynamic_quantize(x)
    np.testing.assert_array_equal(model(x=x)[0], want)


# --- ranks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_pools_over_four_axes_are_refused(op, tmp_path):
    node = helper.make_node(op, ["x"], ["y"], "deep", kernel_shape=[2] * 4)
    model = Model(tmp_path, [node], [("x", "f4", ["N", 2, 4, 4, 4, 4])], [("y", "f4")])
    assert f"node 'deep' ({op}): pools over 4 spatial axes" in model.refusal()


# --- a batch of 1 ----------------------------------------------------------------------------


def test_literal_shapes_of_one_run_at_any_batch(tmp_path):
    """Reshape to [1, ...] as exporters write it that were shown one picture."""
    w = pictures(6, 3, 3, 3)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["r"]),
             helper.make_node("Reshape", ["r", "flat"], ["f"]),
             helper.make_node("MatMul", ["f", "m"], ["y"])]
    model = Model(tmp_path, nodes, [("x", "f4", [1, 3, 6, 6])], [("y", "f4")],
                  [("w", w), ("flat", np.array([1, 96])), ("m", pictures(96, 4))])
    report = model.report()
    assert report["max_batch"] > 1 and "Reshape" in report["batch_note"]
    x = pictures(5, 3, 6, 6)
    (y,) = model(x=x)
    assert y.shape == (5, 4)
    for i in range(5):
        np.testing.assert_array_equal(y[i], model(x=x[i:i + 1])[0][0])
    parts = np.lib.stride_tricks.sliding_window_view(x.astype("f8"), (3, 3), (2, 3))
    want = np.maximum(np.einsum("nchwij,mcij->nmhw", parts, w), 0).reshape(5, -1) @ pictures(96, 4)
    np.testing.assert_allclose(y, want, atol=1e-4)


@pytest.mark.parametrize("back", [False, True])
def test_squeeze_of_all_ones_drops_a_batch_that_is_fixed(back, tmp_path):
    """Without axes the standard drops the first one too; what follows may count on it."""
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["p"]),
             helper.make_node("Squeeze", ["p"], ["s" if back else "y"], "all")]
    if back:
        nodes += [helper.make_node("Unsqueeze", ["s", "front"], ["y"])]
    weights = [("front", np.array([0]))] if back else []
    model = Model(tmp_path, nodes, [("x", "f4", [1, 3, 4, 4])], [("y", "f4")], weights)
    x = pictures(4, 3, 4, 4)
    assert "node 'all' (Squeeze)" in model.report()["batch_note"]
    means = x.mean((2, 3))
    np.testing.assert_allclose(model(x=x[:1])[0], means[:1] if back else means[0], atol=1e-6)
    if back:
        np.testing.assert_allclose(model(x=x)[0], means, atol=1e-6)
    else:
        model(status=1, x=x)


def test_squeeze_leaves_a_batch_that_is_free(tmp_path):
    model = Model(tmp_path, [helper.make_node("Squeeze", ["x"], ["y"])],
                  [("x", "f4", ["N", 3, 1])], [("y", "f4")])
    for n in 1, 4:
        x = pictures(n, 3, 1)
        np.testing.assert_array_equal(model(x=x)[0], x[..., 0])
