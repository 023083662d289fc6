"""Models that are refused at load: all that is missing in one sentence, and bombs before they go off."""

import os
import re
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from small_net import CONVD, ENVIRONMENT, convd

MOST_MEMORY = 300 << 20


def save(path, nodes, weights=(), shape=("N", 3, 8, 8), dtype=TensorProto.FLOAT, opset=13):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)],
        [numpy_helper.from_array(w, name) for name, w in weights])
    graph.output[0].ClearField("type")
    model = helper.make_model(graph, opset_imports=[
        helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)])
    model.ir_version = 7
    onnx.save(model, str(path))
    return path


def refusal(*args):
    """The one line that a refused model leaves."""
    error = convd(*args, status=1).stderr
    assert error.count("\n") == 1, error
    return error


def test_all_unknown_operators_and_attributes_in_one_go(tmp_path):
    path = save(tmp_path / "model.onnx", [
        helper.make_node("Frobnicate", ["x"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "second", slope=1),
        helper.make_node("Relu", ["b"], ["c"], "third", domain="com.example"),
        helper.make_node("Mish", ["c"], ["d"], "fourth"),
        helper.make_node("Loop", ["", "", "d"], ["y"], "fifth"),
    ])
    error = refusal("inspect", path)
    for part in ("5 nodes are not supported", "Frobnicate 'first'",
                 "Relu 'second' (attribute 'slope' is not known)", "com.example.Relu 'third'",
                 "Mish 'fourth' (new in opset 18, the model has 13)", "Loop 'fifth'"):
        assert part in error


@pytest.mark.parametrize("shape", [("N", 3, 8, 8), (1, 3, 8, 8), (4, 3, 8, 8), ("N", 3, "H", "W")])
def test_all_unsupported_types_in_one_go(shape, tmp_path):
    w = np.ones((4, 3, 1, 1), "i4")
    path = save(tmp_path / "model.onnx", [
        helper.make_node("Conv", ["x", "w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "second"),  # hangs on the first
        helper.make_node("Sigmoid", ["x"], ["c"], "third"),
        helper.make_node("Add", ["b", "c"], ["y"], "fourth"),
    ], [("w", w)], shape, TensorProto.INT32)
    error = refusal("inspect", path)
    assert "2 nodes are not supported" in error
    assert "node 'first' (Conv): input 0 has type int32" in error
    assert "node 'third' (Sigmoid): input 0 has type int32" in error


def test_unknown_opset(tmp_path):
    path = save(tmp_path / "model.onnx", [helper.make_node("Relu", ["x"], ["y"])], opset=99)
    assert "opset 99 of ai.onnx" in refusal("inspect", path)


def big(*dims):
    return ("big", np.array(dims, "i8"))


BOMBS = {
    "expand": ([helper.make_node("Expand", ["x", "big"], ["y"], "bomb")], [big(1 << 38, 1, 1, 1)],
               (1, 1, 1, 1)),
    "constant of shape": ([helper.make_node("ConstantOfShape", ["big"], ["c"], "bomb"),
                           helper.make_node("Add", ["x", "c"], ["y"])], [big(1 << 20, 1 << 18)], (1,)),
    "doublings": ([helper.make_node("Concat", [f"v{i}" if i else "x"] * 2,
                                    [f"v{i + 1}" if i < 40 else "y"], f"bomb{i}", axis=1)
                   for i in range(41)], [], ("N", 8)),
    "tile": ([helper.make_node("Tile", ["x", "big"], ["y"], "bomb")], [big(1 << 15, 1 << 15)],
             (64, 64)),
    "pad": ([helper.make_node("Pad", ["x", "big"], ["y"], "bomb")],
            [big(0, 0, 0, 0, 0, 0, 1 << 18, 1 << 18)], ("N", 3, 8, 8)),
    "resize": ([helper.make_node("Resize", ["x", "", "", "big"], ["y"], "bomb")],
               [big(1, 3, 1 << 18, 1 << 17)], (1, 3, 8, 8)),
}


def peak(*args):
    """Exit status, standard error and peak memory of a command."""
    process = subprocess.Popen([CONVD, *map(str, args)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    return process.returncode, error, usage.ru_maxrss * 1024


@pytest.mark.parametrize("command", [["inspect"], ["serve", "--port", 0]], ids=lambda c: c[0])
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_do_not_go_off(bomb, command, tmp_path):
    nodes, weights, shape = BOMBS[bomb]
    path = save(tmp_path / "model.onnx", nodes, weights, shape)
    status, error, memory = peak(command[0], path, *command[1:])
    assert status == 1 and error.count("\n") >= 1
    assert "memory" in error or "too large" in error or "limit" in error, error
    sanitized = re.search(rb"__[am]san_init", open(CONVD, "rb").read())
    assert sanitized or memory < MOST_MEMORY, f"{memory >> 20} MB"


def test_max_model_memory(tmp_path):
    """A network of 4 MB of weights."""
    path = save(tmp_path / "model.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"], "big")],
                [("w", np.ones((1000, 1000), "f4"))], ("N", 1000))
    np.save(tmp_path / "x.npy", np.ones((2, 1000), "f4"))
    run = ["run", path, "--input", tmp_path / "x.npy", "--output", tmp_path / "out"]
    for command in (["inspect", path], run, ["serve", path, "--port", 0]):
        error = convd(*command, "--max-model-memory", "3M", status=1).stderr
        assert "more memory than" in error
    convd("inspect", path, "--max-model-memory", "64M")
    convd(*run, "--max-model-memory", "64M")
