"""Weights that lie turned: what exporters make of linear layers, as products on the last axis and as
stretches between two transposes, which become pointwise convolutions. They are packed from where the
file has them, so what is in front of them and behind them is multiplied in then."""

import json

import numpy as np
import pytest

from small_net import Net, compare, convd

C, M = 21, 37


def linear(n, x, c, m, transposed, bias=True):
    """x @ w + b with w in the file as it is, or turned in front of a Transpose."""
    w = n.normal(c, m) / np.float32(np.sqrt(c))
    right = n("Transpose", np.ascontiguousarray(w.T), perm=[1, 0]) if transposed else w
    y = n("MatMul", x, right)
    return n("Add", y, n.normal(m)) if bias else y


def operators(folder):
    """Those that are left, without conversions of layout."""
    layers = json.loads(convd("inspect", folder / "model.onnx", "--json").stdout)["layers"]
    return [layer["op"] for layer in layers if layer["op"] not in ("ToBlocked", "ToPlain")]


@pytest.mark.parametrize("transposed", [False, True])
def test_product_on_the_last_axis(tmp_path, transposed):
    n = Net(9, C)
    y = linear(n, linear(n, "x", C, M, transposed), M, 5, transposed, bias=False)
    compare(tmp_path, n, [y], 1e-5)
    assert "Transpose" not in operators(tmp_path)


def test_one_matrix_for_two_products(tmp_path):
    n = Net(4, C)
    turned = n("Transpose", n.normal(C, C), perm=[1, 0])
    compare(tmp_path, n, [n("MatMul", n("Relu", n("MatMul", "x", turned)), turned)], 1e-5)
    assert operators(tmp_path) == ["MatMul", "MatMul"]


def test_a_matrix_that_is_read_otherwise_too(tmp_path):
    n = Net(C, C)
    turned = n("Transpose", n.normal(C, C), perm=[1, 0])
    compare(tmp_path, n, [n("Add", n("MatMul", "x", turned), turned)], 1e-5)


def test_a_matrix_on_the_left(tmp_path):
    n = Net(C, 6)
    turned = n("Transpose", n.normal(C, M), perm=[1, 0])
    compare(tmp_path, n, [n("MatMul", turned, "x")], 1e-5)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_stretch_between_transposes(tmp_path, transposed, scaled):
    """With a scale and shift in front, and another one behind, both of which go into the weights."""
    n = Net(C, 5, 6)
    x = n.conv("x", C, C, 3, 3, pads=[1, 1, 1, 1])
    y = n("Transpose", x, perm=[0, 2, 3, 1])
    if scaled:
        y = n("Add", n("Mul", y, n.normal(C)), n.normal(C))
    y = n("Relu", linear(n, y, C, M, transposed))
    y = linear(n, y, M, C, transposed)
    if scaled:
        y = n("Mul", y, n.normal(C))
    y = n("Transpose", y, perm=[0, 3, 1, 2])
    compare(tmp_path, n, [n("Add", y, x)], 1e-5)
    assert set(operators(tmp_path)) == {"Conv"}
