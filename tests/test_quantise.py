"""models/quantise.py: the 8-bit forms of a small network run in integers and are near its floats."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / os.environ.get("CONVD_BINARY", "build/convd")


def network():
    """Stem, depthwise block with a residual, pool, head: each with a batch norm."""
    rng = np.random.default_rng(3)
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def conv(x, name, inputs, maps, kernel, groups=1, stride=1):
        w = rng.standard_normal((maps, inputs // groups, kernel, kernel)) / np.sqrt(inputs // groups * kernel ** 2)
        nodes.append(helper.make_node("Conv", [x, constant(f"{name}.w", w)], [f"{name}.y"], group=groups,
                                      strides=[stride] * 2, pads=[kernel // 2] * 4))
        norm = [constant(f"{name}.{k}", v) for k, v in (
            ("scale", 1 + 0.2 * rng.standard_normal(maps)), ("shift", 0.3 * rng.standard_normal(maps)),
            ("mean", 0.1 * rng.standard_normal(maps)), ("var", 0.5 + rng.random(maps)))]
        nodes.append(helper.make_node("BatchNormalization", [f"{name}.y", *norm], [f"{name}.n"]))
        return f"{name}.n"

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    x = node("Relu", [conv("x", "stem", 3, 16, 3, stride=2)], "stem.r")
    y = node("Relu", [conv(x, "wide", 16, 48, 1)], "wide.r")
    y = node("Relu", [conv(y, "deep", 48, 48, 3, groups=48)], "deep.r")
    y = node("Add", [conv(y, "thin", 48, 16, 1), x], "sum")
    y = node("MaxPool", [y], "pool", kernel_shape=[2, 2], strides=[2, 2])
    y = node("Flatten", [node("GlobalAveragePool", [y], "mean")], "flat")
    head = [constant("head.w", rng.standard_normal((10, 16))), constant("head.b", rng.standard_normal(10))]
    node("Gemm", [y, *head], "logits", transB=1)
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return model


def run(folder, model, x):
    np.save(folder / "x.npy", x)
    subprocess.run([BINARY, "run", model, "--input", folder / "x.npy", "--output", folder / "out"],
                   check=True, capture_output=True)
    return np.load(folder / "out" / "logits.npy")


@pytest.mark.parametrize("style", ["qdq", "qlinear"])
def test_a_quantised_network(tmp_path, style):
    onnx.save(network(), tmp_path / "float.onnx")
    x = np.random.default_rng(4).standard_normal((8, 3, 32, 32)).astype(np.float32)
    np.save(tmp_path / "pictures.npy", x)
    subprocess.run([sys.executable, ROOT / "models" / "quantise.py", tmp_path / "float.onnx",
                    tmp_path / "int8.onnx", "--style", style, "--pictures", tmp_path / "pictures.npy",
                    "--convd", BINARY], check=True, capture_output=True)
    want, got = (run(tmp_path, tmp_path / f"{name}.onnx", x) for name in ("float", "int8"))
    assert np.abs(got - want).max() < 0.05 * (want.max() - want.min())
    report = json.loads(subprocess.run([BINARY, "inspect", tmp_path / "int8.onnx", "--json"], check=True,
                                       capture_output=True).stdout)
    ops = [layer["op"] for layer in report["layers"]]
    assert "Conv" not in ops and "Add" not in ops
    assert ops.count("QLinearConv") == (4 if style == "qdq" else 5)
    assert ops.count("DequantizeLinear") == 1


def test_what_it_refuses(tmp_path):
    model = network()
    model.opset_import[0].version = 11
    onnx.save(model, tmp_path / "old.onnx")
    done = subprocess.run([sys.executable, ROOT / "models" / "quantise.py", tmp_path / "old.onnx",
                           tmp_path / "int8.onnx", "--convd", BINARY], capture_output=True, text=True)
    assert done.returncode == 1
    assert "is of opset 11, not 13" in done.stderr
    assert not (tmp_path / "int8.onnx").exists()
