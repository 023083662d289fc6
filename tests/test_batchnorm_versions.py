"""BatchNormalization in each of its versions, in training mode, and what inspect says of its health."""

import json
import re

import numpy as np
import pytest

from small_net import Net, compare, convd

VERSIONS = {
    "1": (1, {"consumed_inputs": [0, 0, 0, 1, 1], "is_test": 1, "spatial": 1}),
    "1-elements": (1, {"consumed_inputs": [0, 0, 0, 1, 1], "is_test": 1, "spatial": 0}),
    "6": (6, {"is_test": 1, "momentum": 0.8}),
    "6-elements": (6, {"is_test": 1, "spatial": 0}),
    "7": (7, {"epsilon": 1e-3}),
    "7-elements": (7, {"spatial": 0}),
    "9": (9, {"momentum": 0.5}),
    "14": (14, {"training_mode": 0}),
    "15": (15, {}),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_version(version, tmp_path):
    opset, attributes = VERSIONS[version]
    net = Net(6, 5, 4, opset=opset)
    if attributes.get("spatial", 1):
        y = net.norm("x", 6, **attributes)
    else:
        y = net("BatchNormalization", "x", *(net.normal(6, 5, 4) for _ in range(3)),
                1 + abs(net.normal(6, 5, 4)), **attributes)
    (norm,) = compare(tmp_path, net, [y], 2e-6)
    assert norm["fate"] == "standalone"
    assert ("single elements" in norm["why"]) == (attributes.get("spatial") == 0)


def save_training(path, opset=15, **attributes):
    net = Net(6, 5, 4, opset=opset)
    y = net.norm("x", 6, **attributes)
    return net, y, net.save(path, y)


TRAINING = {"14": (15, {"training_mode": 1}), "6": (6, {"is_test": 0})}


@pytest.mark.parametrize("version", TRAINING)
def test_training_mode_normalises_by_the_batch(version, tmp_path):
    opset, attributes = TRAINING[version]
    net, y, path = save_training(tmp_path / "model.onnx", opset, **attributes)
    for batch in (2, 5):
        x = 3 * net.feed(batch) + 1
        np.save(tmp_path / "x.npy", x)
        convd("run", path, "--input", tmp_path / "x.npy", "--output", tmp_path / "out")
        scale, bias = (w.astype("f8").reshape(-1, 1, 1) for w in list(net.weights.values())[:2])
        mean, var = (f(x.astype("f8"), axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.var))
        want = (x - mean) / np.sqrt(var + float(np.float32(1e-5))) * scale + bias
        np.testing.assert_allclose(np.load(tmp_path / "out" / f"{y}.npy"), want, atol=2e-6 * 10)
    (norm,) = json.loads(convd("inspect", path, "--json").stdout)["batchnorms"]
    assert norm["fate"] == "training" and norm["into"] is None


@pytest.mark.parametrize("version", TRAINING)
def test_training_mode_is_not_served(version, tmp_path):
    """With config.json's allow_batch_statistics it is: tests/e2e/test_batch_statistics.py."""
    opset, attributes = TRAINING[version]
    _, y, path = save_training(tmp_path / "model.onnx", opset, **attributes)
    error = convd("serve", path, "--port", 0, status=1).stderr
    assert y in error and "statistics of whatever shares the batch" in error
    assert "allow_batch_statistics" in error


def test_training_mode_behind_shapes_that_depend_on_data_is_not_served(tmp_path):
    net = Net(6)
    y = net.norm("x", 6, training_mode=1)
    path = net.save(tmp_path / "model.onnx", net("NonZero", y))
    assert "batch" in convd("serve", path, "--port", 0, status=1).stderr


def test_statistics_are_outputs_in_training_mode_only(tmp_path):
    net = Net(6, 5, 4, opset=9)
    y = net.norm("x", 6)
    net.nodes[-1].output.extend(["mean", "var"])
    path = net.save(tmp_path / "model.onnx", y, "mean", "var")
    x = net.feed(4)
    np.save(tmp_path / "x.npy", x)
    convd("run", path, "--input", tmp_path / "x.npy", "--output", tmp_path / "out")
    old = list(net.weights.values())[2]
    np.testing.assert_allclose(np.load(tmp_path / "out" / "mean.npy"),
                               0.9 * old + 0.1 * x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)

    net = Net(6, 5, 4)
    y = net.norm("x", 6)
    net.nodes[-1].output.append("mean")
    path = net.save(tmp_path / "test.onnx", y, "mean")
    assert "only there in training mode" in convd("inspect", path, status=1).stderr


def test_health(tmp_path):
    net = Net(8, 5, 4)
    net.norm("x", 8, scale=[1, 0, 1e-9, 5000, np.nan, 1, 1, 1],
             var=[1, 1, 1, 1, 1, -2, 1e-7, np.inf])
    path = net.save(tmp_path / "model.onnx", net.nodes[-1].output[0])
    (norm,) = json.loads(convd("inspect", path, "--json").stdout)["batchnorms"]
    assert norm["name"] == "BatchNormalization0" and norm["channels"] == 8
    assert norm["placement"] == "input -> BatchNormalization -> output"
    assert norm["non_finite"] == 2 and norm["negative_variance"] == 1 and norm["tiny_variance"] == 1
    assert norm["dead"] == 3 and norm["exploding"] == 1  # 1/sqrt(inf) is dead, too
    assert norm["fate"] == "standalone" and "not finite" in norm["why"]
    text = convd("inspect", path).stdout
    line = next(line for line in text.splitlines() if "BatchNormalization0" in line
                and "non-finite" in line)
    assert re.search(r"2 non-finite, 1 negative variance, 1 variance < epsilon, 3 dead, 1 exploding",
                     line), line


def test_every_one_is_accounted_for(tmp_path):
    net = Net(6, 5, 4)
    y = net("Relu", "x")
    net.norm(y, 6)  # nobody reads it
    constant = net.norm(net.normal(1, 6, 5, 4), 6)
    path = net.save(tmp_path / "model.onnx", net("Add", y, constant))
    report = json.loads(convd("inspect", path, "--json").stdout)["batchnorms"]
    assert [b["fate"] for b in report] == ["unused", "constant"]
    assert "2: 1 constant, 1 unused" in convd("inspect", path).stdout
    separate = json.loads(convd("inspect", path, "--json", "--batchnorm", "separate").stdout)
    assert [b["fate"] for b in separate["batchnorms"]] == ["unused", "constant"]
