"""The linear map for CuPy arrays: a matrix product with the bias in it, or the gradient of the bias beside it.

Checked as the product is. Not yet run on a GPU.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.kernels.cuda.module import empty, plain, reference, summed
from gpunn.kernels.cuda.product import mask_for, product
from gpunn.kernels.cuda.twins import relu_mask_backward
from gpunn.ops import _op

__all__ = ["TWINS", "linear", "linear_backward", "linear_relu", "linear_relu_kept", "relu_linear_backward"]

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


def linear_relu_kept(x: Array, W: Array, b: Array | None = None) -> tuple[Array, Array]:
    """`gpunn.ops.linear_relu_kept` for CuPy arrays: `kept` is a mask of bits, see `mask_for`."""
    if b is None or x.ndim != 2 or not _suits(x, W, b):
        return _op.reference(ops.linear_relu_kept)(x, W, b)
    mask = mask_for(x.shape[0], W.shape[1])
    return _product(x, W, b, "relu", mask=mask), mask


def _suits(x: Array, W: Array, b: Array | None) -> bool:
    return plain(W, *(() if b is None else (b,))) and x.dtype == W.dtype and bool(x.size)


def _product(
    x: Array, W: Array, b: Array | None, epilogue: str, out: Array | None = None, mask: Array | None = None
) -> Array:
    y = empty((*x.shape[:-1], W.shape[1]), x.dtype) if out is None else out
    rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    product(rows, W, out=y.reshape(-1, W.shape[1]), epilogue=epilogue, bias=b, aux=mask)
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
    if not _suits_backward(dy, x, W, out):
        return reference(ops.linear_backward)(dy, x, W, need_dx=need_dx, out=out)
    dx = product(dy, W.T, out=out[0]) if need_dx else None
    return dx, *_gradients(dy, x, W, out)


def relu_linear_backward(
    dy: Array,
    x: Array,
    W: Array,
    kept: Array,
    *,
    out: tuple[Array | None, Array | None, Array | None] = (None, None, None),
) -> tuple[Array, Array, Array]:
    """`gpunn.ops.relu_linear_backward` for CuPy arrays."""
    if kept.dtype != np.uint8:
        return _op.reference(ops.relu_linear_backward)(dy, x, W, kept, out=out)
    if not _suits_backward(dy, x, W, out):
        dz, dW, db = reference(ops.linear_backward)(dy, x, W, out=out)
        relu_mask_backward(dz, kept)
        return dz, dW, db
    dz = product(dy, W.T, out=out[0], epilogue="relu_backward", aux=kept)
    return dz, *_gradients(dy, x, W, out)


def _suits_backward(dy: Array, x: Array, W: Array, out: tuple[Array | None, Array | None, Array | None]) -> bool:
    of_sums = summed(W.dtype)
    return (
        plain(dy, W)
        and (x.ndim, x.dtype) == (2, W.dtype)
        and bool(x.size)
        and _takes(out[0], x.shape, x.dtype)
        and _takes(out[1], W.shape, of_sums)
        and _takes(out[2], W.shape[1:], of_sums)
    )


def _gradients(dy: Array, x: Array, W: Array, out: tuple[Array | None, ...]) -> tuple[Array, Array]:
    """(dW, db)."""
    dW, db = (
        empty(shape, summed(W.dtype)) if a is None else a
        for a, shape in zip(out[1:], (W.shape, W.shape[1:]), strict=True)
    )
    return product(x.T, dy, out=dW, epilogue="bias_gradient", bias=db), db


def _takes(out: Array | None, shape: tuple[int, ...], dtype: Any) -> bool:
    return out is None or (out.shape == shape and out.dtype == dtype and out.flags.c_contiguous)


TWINS: dict[str, Callable[..., Any]] = {
    "linear": linear,
    "linear_backward": linear_backward,
    "linear_relu": linear_relu,
    "linear_relu_kept": linear_relu_kept,
    "relu_linear_backward": relu_linear_backward,
}
