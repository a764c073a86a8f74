"""Convolution by products, beside its reference; in one piece, and image by image."""

import numpy as np
import pytest

from gpunn import ops
from gpunn.kernels.cuda import conv
from gpunn.kernels.cuda.conv import TWINS
from tests.kernels.cuda.arrays import CONVOLUTIONS, TOLERANCE, dtypes, normal


@dtypes
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), CONVOLUTIONS)
@pytest.mark.parametrize("piece", [1 << 28, 1])
def test_convolution(gpu, lt, compare, monkeypatch, dtype, shape, kernel, stride, padding, piece):
    monkeypatch.setattr(conv, "PIECE", piece)
    x, W, b, near = normal(shape, dtype), normal(kernel, dtype), normal(kernel[-1], dtype), 3 * TOLERANCE[dtype]
    X, V = gpu.asarray(x), gpu.asarray(W)
    named = {"stride": stride, "padding": padding}
    y = ops.conv2d.reference(x, W, b, **named)
    dy = normal(y.shape, dtype)
    compare(TWINS["conv2d"](X, V, gpu.asarray(b), **named), y, near)
    compare(TWINS["conv2d"](X, V, **named), ops.conv2d.reference(x, W, **named), near)
    compare(TWINS["conv2d_relu"](X, V, gpu.asarray(b), **named), np.maximum(y, 0), near)
    for need_dx in (True, False):
        got = TWINS["conv2d_backward"](gpu.asarray(dy), X, V, need_dx=need_dx, **named)
        compare(got, ops.conv2d_backward.reference(dy, x, W, need_dx=need_dx, **named), near)


@pytest.mark.parametrize("lt", ["whole"], indirect=True)
def test_a_relu_by_columns_is_an_epilogue_of_the_product(gpu, lt):
    if gpu.launches is None:
        pytest.skip("kernels are counted on the stand-in")
    arrays = [gpu.asarray(normal(shape, "float32")) for shape in ((2, 5, 5, 3), (2, 2, 3, 4), (4,))]
    for _ in range(2):  # the first looks whether it makes 0 of NaN
        gpu.launches.clear()
        TWINS["conv2d_relu"](*arrays)
    assert gpu.launches == ["gn_im2col"]
