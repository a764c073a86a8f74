"""The linear map by one product, beside its reference."""

from gpunn import ops
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
