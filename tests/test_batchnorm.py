"""Batch norm wherever it can stand: what `convd run` answers against the definition, and the fate
that `convd inspect` reports."""

import numpy as np
import pytest

from small_net import Net, compare

BACK, FORWARD, FUSED, ALONE = "folded back", "folded forward", "fused", "standalone"
CASES = []


def case(*fates, shape=(8, 9, 7), tolerance=2e-6, **options):
    """Adds a function that builds on a Net and returns its output or outputs, and what becomes of
    each of its batch norms."""
    def add(build):
        CASES.append(pytest.param(build, fates, tolerance, shape, options, id=build.__name__))
        return build
    return add


@case(BACK)
def after_conv(n):
    return n.norm(n.conv("x", 16, 8, pads=[1, 1, 1, 1]), 16)


@case(BACK)
def after_conv_without_bias(n):
    return n.norm(n.conv("x", 6, 8, bias=False, strides=[2, 2]), 6)


@case(BACK)
def after_grouped_conv(n):
    return n("Relu", n.norm(n.conv("x", 12, 8, group=4, pads=[1, 1, 1, 1]), 12))


@case(BACK)
def after_depthwise_conv(n):
    return n("Relu", n.norm(n.conv("x", 8, 8, group=8, pads=[1, 1, 1, 1]), 8))


@case(BACK)
def after_pointwise_conv(n):
    return n.norm(n.conv("x", 32, 8, 1, 1), 32)


@case(BACK, shape=(6, 20))
def after_conv_1d(n):
    return n.norm(n.conv("x", 10, 6, 3), 10)


@case(BACK, shape=(4, 5, 6, 7))
def after_conv_3d(n):
    return n.norm(n.conv("x", 6, 4, 3, 3, 3, pads=[1] * 6), 6)


@case(BACK)
def after_conv_transpose(n):
    return n.norm(n("ConvTranspose", "x", n.normal(8, 5, 3, 3), strides=[2, 2]), 5)


@case(BACK)
def after_grouped_conv_transpose(n):
    y = n("ConvTranspose", "x", n.normal(8, 3, 2, 2), n.normal(6), strides=[2, 2], group=2)
    return n.norm(y, 6)


@case(BACK, shape=(40,))
def after_gemm(n):
    return n("Relu", n.norm(n("Gemm", "x", n.normal(40, 12), n.normal(12)), 12))


@case(BACK, shape=(40,))
def after_gemm_with_factors(n):
    y = n("Gemm", "x", n.normal(12, 40), n.normal(1), alpha=0.5, beta=3.0, transB=1)
    return n.norm(y, 12)


@case(BACK, shape=(40,))
def after_matmul(n):
    return n.norm(n("MatMul", "x", n.normal(40, 12)), 12)


@case(FUSED, shape=(6, 40))
def after_matmul_whose_columns_are_no_channels(n):
    return n.norm(n("MatMul", "x", n.normal(40, 12)), 6)


@case(FUSED)
def between_activation_and_pool(n):
    y = n.norm(n("Relu", n.conv("x", 16, 8, pads=[1, 1, 1, 1])), 16)
    return n("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])


@case(BACK)
def before_activation(n):
    return n("HardSwish", n.norm(n.conv("x", 16, 8), 16))


@case(FUSED)
def between_two_activations(n):
    return n("Sigmoid", n.norm(n("Relu", n.conv("x", 16, 8)), 16))


@case(FORWARD)
def between_activation_and_unpadded_conv_of_an_input(n):
    return n.conv(n.norm(n("Relu", "x"), 8), 6, 8)


@case(ALONE)
def before_max_pool(n):
    """A channel of negative scale has its maximum where the input has its minimum."""
    return n("MaxPool", n.norm("x", 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])


@case(ALONE)
def before_padded_average_pool(n):
    return n("AveragePool", n.norm("x", 8), kernel_shape=[3, 3], pads=[0] * 4)


@case(ALONE)
def before_global_pool(n):
    return n("GlobalAveragePool", n.norm("x", 8))


@case(FORWARD)
def after_max_pool_before_conv(n):
    y = n("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    return n.conv(n.norm(y, 8), 8, 8, 2, 2)


@case(FORWARD, shape=(64, 5, 5))
def after_global_pool_before_gemm(n):
    y = n("Flatten", n.norm(n("GlobalAveragePool", "x"), 64))
    return n("Gemm", y, n.normal(64, 10), n.normal(10))


@case(FUSED)
def after_concat_before_padded_conv(n):
    y = n("Concat", n.conv("x", 5, 8, 1, 1), "x", axis=1)
    return n.conv(n("Relu", n.norm(y, 13)), 8, 13, pads=[1, 1, 1, 1])


@case(FORWARD)
def after_concat_before_pointwise_conv(n):
    y = n("Concat", n.conv("x", 5, 8, 1, 1), "x", axis=1)
    return n.conv(n.norm(y, 13), 8, 13, 1, 1)


@case(FUSED)
def after_add(n):
    y = n("Add", n.conv("x", 8, 8, pads=[1, 1, 1, 1]), "x")
    return n("Relu", n.norm(y, 8))


@case(BACK, ALONE, BACK)
def after_add_that_the_next_block_adds_to(n):
    """The sum is read as it is, too, so nothing before it can take the batch norm."""
    y = n("Relu", n.norm(n.conv("x", 8, 8, pads=[1, 1, 1, 1]), 8))
    y = n("Add", n.conv(y, 8, 8, pads=[1, 1, 1, 1]), "x")
    z = n.norm(y, 8)
    return n("Add", n.norm(n.conv(n("Relu", z), 8, 8, pads=[1, 1, 1, 1]), 8), y), z


@case(ALONE)
def after_reshape(n):
    y = n("Reshape", n.conv("x", 16, 8, 1, 1), np.array([0, 4, 36, 7]))
    return n.norm(y, 4)


@case(ALONE)
def after_transpose(n):
    return n.norm(n("Transpose", "x", perm=[0, 2, 3, 1]), 9)


@case(ALONE)
def after_pad(n):
    """Where it pads, the output is the shift: it cannot move in front of the Pad."""
    return n.norm(n("Pad", n.conv("x", 6, 8), np.array([0, 0, 1, 1, 0, 0, 2, 1])), 6)


@case(FORWARD)
def on_an_input_before_unpadded_conv(n):
    return n.conv(n.norm("x", 8), 5, 8)


@case(FORWARD)
def on_an_input_before_grouped_conv(n):
    return n.conv(n.norm("x", 8), 12, 8, group=4)


@case(ALONE)
def on_an_input_before_padded_conv(n):
    return n.conv(n.norm("x", 8), 5, 8, pads=[0, 0, 1, 0])


@case(FORWARD, shape=(6, 4, 3))
def on_an_input_before_flatten_and_gemm(n):
    return n("Gemm", n("Flatten", n.norm("x", 6)), n.normal(5, 72), transB=1)


@case(FORWARD, shape=(30,))
def on_an_input_before_gemm(n):
    return n("Gemm", n.norm("x", 30), n.normal(30, 4))


@case(FORWARD, shape=(30,))
def on_an_input_before_matmul(n):
    return n("MatMul", n.norm("x", 30), n.normal(30, 4))


@case(ALONE)
def on_an_input_alone(n):
    return n.norm("x", 8)


@case(BACK, BACK)
def two_in_a_row_after_conv(n):
    return n.norm(n.norm(n.conv("x", 16, 8), 16), 16)


@case(ALONE, BACK)
def two_in_a_row_on_an_input(n):
    return n.norm(n.norm("x", 8), 8)


@case(BACK, FORWARD)
def two_in_a_row_between_convs(n):
    y = n.norm(n.conv("x", 8, 8, pads=[1, 1, 1, 1]), 8)
    return n.conv(n.norm(n("Relu", y), 8), 4, 8)


@case(ALONE)
def producer_is_an_output_too(n):
    y = n.conv("x", 8, 8)
    return n.norm(y, 8), y


@case(ALONE, ALONE)
def producer_has_two_norms(n):
    y = n.conv("x", 8, 8)
    return n.norm(y, 8), n.norm(y, 8)


@case(BACK)
def result_has_other_readers(n):
    y = n.norm(n.conv("x", 8, 8), 8)
    return n("Relu", y), n("Sigmoid", y), y


@case(ALONE)
def result_of_an_input_has_other_readers(n):
    y = n.norm("x", 8)
    return n.conv(y, 4, 8), n.conv(y, 5, 8)


@case(BACK)
def zero_scale(n):
    return n.norm(n.conv("x", 6, 8), 6, scale=[0, 1, -1, 0, 2, -0.5])


@case(BACK)
def zero_variance(n):
    return n.norm(n.conv("x", 6, 8), 6, var=[0] * 6)


@case(BACK)
def huge_epsilon(n):
    return n.norm(n.conv("x", 6, 8), 6, epsilon=1e4)


@case(ALONE, shape=())
def rank_1_is_one_channel(n):
    return n.norm("x", 1)


@case(ALONE, shape=(6,))
def rank_2(n):
    return n.norm("x", 6)


@case(ALONE, shape=(6, 5))
def rank_3(n):
    return n("Relu", n.norm("x", 6))


@case(ALONE, shape=(6, 5, 4, 3))
def rank_5(n):
    return n("Relu", n.norm("x", 6))


@case(ALONE, dtype=np.float16, tolerance=2e-3)
def float16(n):
    return n("Relu", n.norm(n.conv("x", 6, 8), 6))


@case(ALONE, dtype=np.float64, tolerance=1e-12)
def float64(n):
    return n("Relu", n.norm(n.conv("x", 6, 8), 6))


@case()
def mul_and_add_after_conv(n):
    y = n("Mul", n.conv("x", 6, 8), n.normal(6, 1, 1))
    return n("Relu", n("Add", n.normal(1, 6, 1, 1), y))


@case(BACK, opset=6)
def scale_of_caffe2(n):
    y = n.norm(n.conv("x", 6, 8), 6, is_test=1)
    y = n("Mul", y, n.normal(6), axis=1, broadcast=1)
    return n("Relu", n("Add", y, n.normal(6), axis=1, broadcast=1))


@pytest.mark.parametrize("build, fates, tolerance, shape, options", CASES)
def test_placement(build, fates, tolerance, shape, options, tmp_path):
    net = Net(*shape, **options)
    outputs = build(net)
    report = compare(tmp_path, net, [outputs] if isinstance(outputs, str) else outputs, tolerance)
    assert [b["fate"] for b in report] == list(fates), report
    for b in report:
        assert (b["into"] is not None) == (b["fate"] in (BACK, FORWARD, FUSED))
        assert (b["why"] is not None) == (b["fate"] == ALONE)
