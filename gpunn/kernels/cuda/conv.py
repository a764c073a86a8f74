"""Convolution for CuPy arrays: by cuDNN where that is to be had, otherwise as one matrix product.

For the product the window at all places is laid out as the rows of a matrix (im2col), for as much of the batch at a
time as fits in PIECE bytes. Checked as the product is. Not yet run on a GPU.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

from gpunn import ops
from gpunn.kernels.cuda.cudnn import convolve
from gpunn.kernels.cuda.module import blocks, empty, launch, plain, reference, summed
from gpunn.kernels.cuda.product import product
from gpunn.kernels.cuda.twins import sum_rows, windows
from gpunn.ops import _op
from gpunn.ops.conv import Pair

__all__ = ["TWINS", "conv2d", "conv2d_backward", "conv2d_relu"]

Array = Any
PIECE = 1 << 28


def conv2d(x: Array, W: Array, b: Array | None = None, *, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Array:
    """`gpunn.ops.conv2d` for CuPy arrays."""
    if not plain(x, W, *(() if b is None else (b,))):
        return reference(ops.conv2d)(x, W, b, stride=stride, padding=padding)
    y = _y(x, W, stride, padding)
    by_columns = functools.partial(_by_columns, x, W, y, b, stride, padding, "none" if b is None else "bias")
    if not convolve("y", x, W, y, b, stride, padding, by_columns):
        by_columns()
    return y


def conv2d_relu(x: Array, W: Array, b: Array | None = None, *, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Array:
    """`gpunn.ops.conv2d_relu` for CuPy arrays: one kernel by cuDNN, or two; or the product with an epilogue."""
    if b is None or not plain(x, W, b):
        return _op.reference(ops.conv2d_relu)(x, W, b, stride=stride, padding=padding)
    y = _y(x, W, stride, padding)
    given = x, W, y, b, stride, padding
    by_columns = functools.partial(_by_columns, *given)
    if convolve("y", *given, functools.partial(by_columns, "relu"), relu=True):
        return y
    if convolve("y", *given, functools.partial(by_columns, "bias")):
        launch("relu", y.dtype, blocks(y.size), y, y, y.size, 0.0)
    else:
        by_columns("relu")
    return y


def _y(x: Array, W: Array, stride: Pair, padding: Pair) -> Array:
    return empty((x.shape[0], *windows(x, W.shape[:2], stride, padding)[1], W.shape[3]), x.dtype)


def _by_columns(x: Array, W: Array, y: Array, b: Array | None, stride: Pair, padding: Pair, epilogue: str) -> None:
    """Fill y."""
    M = W.shape[3]
    for piece in _pieces(x, W, y.shape[1:3]):
        columns = _columns(x[piece], W, stride, padding)
        product(columns, W.reshape(-1, M), out=y[piece].reshape(-1, M), epilogue=epilogue, bias=b)


def conv2d_backward(
    dy: Array, x: Array, W: Array, *, stride: Pair = (1, 1), padding: Pair = (0, 0), need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """`gpunn.ops.conv2d_backward` for CuPy arrays: dW = columns^T dy, and dx collects dcolumns = dy W^T."""
    if not plain(dy, x, W):
        return reference(ops.conv2d_backward)(dy, x, W, stride=stride, padding=padding, need_dx=need_dx)
    M = W.shape[3]
    dW: Array = empty(W.shape, summed(W.dtype))
    dx: Array = empty(x.shape, x.dtype) if need_dx else None

    def dW_by_columns() -> None:
        out = dW.reshape(-1, M)
        for piece in _pieces(x, W, dy.shape[1:3]):
            columns = _columns(x[piece], W, stride, padding)
            product(columns.T, dy[piece].reshape(-1, M), out=out, beta=1.0 if piece.start else 0.0)

    def dx_by_columns() -> None:
        for piece in _pieces(x, W, dy.shape[1:3]):
            part, dcolumns = dx[piece], product(dy[piece].reshape(-1, M), W.reshape(-1, M).T)
            geometry = windows(part, W.shape[:2], stride, padding)[0]
            launch("col2im", x.dtype, blocks(part.size), part, dcolumns, *geometry)

    if not convolve("W", x, dW, dy, None, stride, padding, dW_by_columns):
        dW_by_columns()
    if need_dx and not convolve("x", dx, W, dy, None, stride, padding, dx_by_columns):
        dx_by_columns()
    return dx, dW, sum_rows(dy.reshape(-1, M))


def _pieces(x: Array, W: Array, size: tuple[int, ...]) -> Iterator[slice]:
    """The batch in pieces of as many images as have PIECE bytes in their columns."""
    images = max(1, PIECE // (math.prod(size) * W[..., 0].size * x.dtype.itemsize))
    return (slice(first, min(first + images, x.shape[0])) for first in range(0, x.shape[0], images))


def _columns(x: Array, W: Array, stride: Pair, padding: Pair) -> Array:
    """(NPQ, UVC): in row npq the numbers that the window lies on to make pixel npq."""
    U, V, C, _ = W.shape
    if (U, V, stride, padding) == (1, 1, (1, 1), (0, 0)):
        return x.reshape(-1, C)
    geometry, (P, Q) = windows(x, (U, V), stride, padding)
    columns = empty((x.shape[0] * P * Q, U * V * C), x.dtype)
    launch("im2col", x.dtype, blocks(columns.size), columns, x, *geometry)
    return columns


TWINS: dict[str, Callable[..., Any]] = {
    "conv2d": conv2d,
    "conv2d_backward": conv2d_backward,
    "conv2d_relu": conv2d_relu,
}
