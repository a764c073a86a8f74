"""The linear map by one product, beside its reference."""

import numpy as np
import pytest

from gpunn import ops
from gpunn.device import to_host
from gpunn.kernels.cuda.linear import TWINS
from tests.kernels.cuda.arrays import TOLERANCE, dtypes, normal


@dtypes
def test_linear(gpu, lt, compare, layouts, dtype):
    near = TOLERANCE[dtype]
    x, W, b, dy = (normal(s, dtype) for s in ((5, 7), (7, 3), (3,), (5, 3)))
    for X in layouts(gpu, x):
        V, DY = gpu.asarray(W), gpu.asarray(dy)
        compare(TWINS["linear"](X, V, gpu.asarray(b)), ops.linear.reference(x, W, b), near)
        compare(TWINS["linear"](X, V), ops.linear.reference(x, W), near)
        for need_dx in (True, False):
            got = TWINS["linear_backward"](DY, X, V, need_dx=need_dx)
            compare(got, ops.linear_backward.reference(dy, x, W, need_dx=need_dx), near)
        out = gpu.empty((5, 7), x.dtype), gpu.empty((7, 3), x.dtype), gpu.empty((3,), x.dtype)
        got = TWINS["linear_backward"](DY, X, V, out=out)
        assert all(g is o for g, o in zip(got, out, strict=True))
        compare(out, ops.linear_backward.reference(dy, x, W), near)
    compare(TWINS["linear_relu"](gpu.asarray(x), V, gpu.asarray(b)), ops.linear_relu.reference(x, W, b), near)
    deep = normal((2, 4, 7), dtype)
    compare(TWINS["linear_relu"](gpu.asarray(deep), V, gpu.asarray(b)), ops.linear_relu.reference(deep, W, b), near)
    if gpu.name == "emulated":  # by the twins of the two, which here are NumPy's
        compare(TWINS["linear_relu"](gpu.asarray(x), V), ops.linear_relu.reference(x, W), near)
    out = gpu.empty((2, 4, 3), x.dtype)
    assert TWINS["linear"](gpu.asarray(deep), gpu.asarray(W), gpu.asarray(b), out=out) is out
    compare(out, ops.linear.reference(deep, W, b), near)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (5, 7, 3, 2), (6, 4, 130, 5), (33, 8, 128, 10)])
def test_a_relu_between_two_linear_maps(gpu, lt, compare, layouts, dtype, sizes):
    """Through the mask it is what it is by y, and whatever is put in `out`."""
    n, d, m, c = sizes
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    wide = np.float32 if dtype.itemsize == 2 else dtype
    near = 2e-2 if dtype.itemsize == 2 else TOLERANCE[dtype.name]
    x, W, b, V, dy = (normal(s, wide).astype(dtype) for s in ((n, d), (d, m), m, (m, c), (n, c)))
    y, kept = TWINS["linear_relu_kept"](gpu.asarray(x), gpu.asarray(W), gpu.asarray(b))
    assert kept.dtype == np.uint8
    compare(y, ops.linear_relu.reference(*(a.astype(wide) for a in (x, W, b))).astype(dtype), near)
    single = [np.asarray(a).astype(wide) for a in (dy, y, V)]
    wanted = ops.linear_backward.reference(*single)
    dz = (wanted[0] * (single[1] > 0)).astype(dtype)
    for DY in layouts(gpu, dy) if dtype.itemsize > 2 else [gpu.asarray(dy)]:
        got = TWINS["relu_linear_backward"](DY, y, gpu.asarray(V), kept)
        compare(got, (dz, *wanted[1:]), near)
    out = tuple(gpu.empty(a.shape, a.dtype) for a in (dz, *wanted[1:]))
    got = TWINS["relu_linear_backward"](gpu.asarray(dy), y, gpu.asarray(V), kept, out=out)
    assert all(g is o for g, o in zip(got, out, strict=True))
    compare(out, (dz, *wanted[1:]), near)
    plain = TWINS["linear_relu_kept"](gpu.asarray(x), gpu.asarray(W))  # without b y itself is kept
    assert plain[0] is plain[1]
    if gpu.name == "cuda" or dtype.itemsize > 2:  # the twins it is made of are those of NumPy here
        got = TWINS["relu_linear_backward"](gpu.asarray(dy), y, gpu.asarray(V), y)
        compare(got, (dz, *wanted[1:]), near)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_relu_of_what_is_not_finite(gpu, lt, dtype):
    x, W, b = normal((4, 3), dtype), normal((3, 9), dtype), normal(9, dtype)
    b[:3] = np.nan, np.inf, -np.inf
    y, kept = TWINS["linear_relu_kept"](gpu.asarray(x), gpu.asarray(W), gpu.asarray(b))
    V, dy = np.ones((9, 2), dtype), np.ones((4, 2), dtype)
    with np.errstate(invalid="ignore"):
        dz, *_ = TWINS["relu_linear_backward"](gpu.asarray(dy), y, gpu.asarray(V), kept)
        above = np.maximum(x @ W + b, 0)
    assert np.array_equal(np.isnan(to_host(y)), np.isnan(above))
    assert np.array_equal(to_host(dz)[:, 1:], 2.0 * (above > 0)[:, 1:])
