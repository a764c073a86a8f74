"""The linear map for CuPy arrays: a matrix product with the bias in it, or the gradient of the bias beside it.

Checked as the product is. Not yet run on a GPU.
"""

from collections.abc import Callable
from typing import Any

from gpunn import ops
from gpunn.kernels.cuda.module import empty, plain, reference, summed
from gpunn.kernels.cuda.product import product
from gpunn.ops import _op

__all__ = ["TWINS", "linear", "linear_backward", "linear_relu"]

Array = Any


def linear(x: Array, W: Array, b: Array | None = None, *, out: Array | None = None) -> Array:
    """`gpunn.ops.linear` for CuPy arrays."""
    if not _suits(x, W, b) or not _takes(out, (*x.shape[:-1], W.shape[1]), x.dtype):
        return reference(ops.linear)(x, W, b, out=out)
    return _product(x, W, b, "none" if b is None else "bias", out)


def linear_relu(x: Array, W: Array, b: Array | None = None) -> Array:
    """`gpunn.ops.linear_relu` for CuPy arrays; where one kernel cannot do it, by the twins of the two."""
    if b is None or not _suits(x, W, b):
        return _op.reference(ops.linear_relu)(x, W, b)
    return _product(x, W, b, "relu")


def _suits(x: Array, W: Array, b: Array | None) -> bool:
    return plain(W, *(() if b is None else (b,))) and x.dtype == W.dtype and bool(x.size)


def _product(x: Array, W: Array, b: Array | None, epilogue: str, out: Array | None = None) -> Array:
    y = empty((*x.shape[:-1], W.shape[1]), x.dtype) if out is None else out
    rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    product(rows, W, out=y.reshape(-1, W.shape[1]), epilogue=epilogue, bias=b)
    return y


def linear_backward(
    dy: Array,
    x: Array,
    W: Array,
    *,
    need_dx: bool = True,
    out: tuple[Array | None, Array | None, Array | None] = (None, None, None),
) -> tuple[Array | None, Array, Array]:
    """`gpunn.ops.linear_backward` for CuPy arrays."""
    out_dx, out_dW, out_db = out
    of_sums = summed(W.dtype)
    if not (
        plain(dy, W)
        and (x.ndim, x.dtype) == (2, W.dtype)
        and x.size
        and _takes(out_dx, x.shape, x.dtype)
        and _takes(out_dW, W.shape, of_sums)
        and _takes(out_db, W.shape[1:], of_sums)
    ):
        return reference(ops.linear_backward)(dy, x, W, need_dx=need_dx, out=out)
    dx = product(dy, W.T, out=out_dx) if need_dx else None
    dW = empty(W.shape, of_sums) if out_dW is None else out_dW
    db = empty(W.shape[1:], of_sums) if out_db is None else out_db
    return dx, product(x.T, dy, out=dW, epilogue="bias_gradient", bias=db), db


def _takes(out: Array | None, shape: tuple[int, ...], dtype: Any) -> bool:
    return out is None or (out.shape == shape and out.dtype == dtype and out.flags.c_contiguous)


TWINS: dict[str, Callable[..., Any]] = {
    "linear": linear,
    "linear_backward": linear_backward,
    "linear_relu": linear_relu,
}
