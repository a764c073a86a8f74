"""The linear map and convolution for CuPy arrays, each a matrix product with the bias or its gradient in it.

A convolution lays what the window sees at each place out as a row of a matrix (im2col), for a piece of the batch at a
time. Checked as the product is. Not yet run on a GPU.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from gpunn import ops
from gpunn.kernels.cuda.module import blocks, empty, launch, plain
from gpunn.kernels.cuda.product import product
from gpunn.kernels.cuda.twins import sum_rows, windows
from gpunn.ops._op import reference
from gpunn.ops.conv import Pair

__all__ = ["TWINS", "conv2d", "conv2d_backward", "linear", "linear_backward"]

Array = Any
PIECE = 1 << 28  # bytes of a matrix of windows


def linear(x: Array, W: Array, b: Array | None = None, *, out: Array | None = None) -> Array:
    """`gpunn.ops.linear` for CuPy arrays."""
    shape = (*x.shape[:-1], W.shape[1])
    if not plain(W, *(() if b is None else (b,))) or x.dtype != W.dtype or not x.size or not _takes(out, shape, x):
        return reference(ops.linear)(x, W, b, out=out)
    y = empty(shape, x.dtype) if out is None else out
    rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    product(rows, W, out=y.reshape(-1, W.shape[1]), epilogue="none" if b is None else "bias", bias=b)
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
    if not (
        plain(dy, W)
        and (x.ndim, x.dtype) == (2, W.dtype)
        and x.size
        and _takes(out_dx, x.shape, x)
        and _takes(out_dW, W.shape, x)
        and _takes(out_db, W.shape[1:], x)
    ):
        return reference(ops.linear_backward)(dy, x, W, need_dx=need_dx, out=out)
    dx = product(dy, W.T, out=out_dx) if need_dx else None
    db = empty(W.shape[1:], W.dtype) if out_db is None else out_db
    return dx, product(x.T, dy, out=out_dW, epilogue="bias_gradient", bias=db), db


def _takes(out: Array | None, shape: tuple[int, ...], like: Array) -> bool:
    return out is None or (out.shape == shape and out.dtype == like.dtype and out.flags.c_contiguous)


def conv2d(x: Array, W: Array, b: Array | None = None, *, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Array:
    """`gpunn.ops.conv2d` for CuPy arrays."""
    if not plain(x, W, *(() if b is None else (b,))):
        return reference(ops.conv2d)(x, W, b, stride=stride, padding=padding)
    M, size = W.shape[3], windows(x, W.shape[:2], stride, padding)[1]
    y = empty((x.shape[0], *size, M), x.dtype)
    for piece in _pieces(x, W, size):
        columns = _columns(x[piece], W, stride, padding)
        epilogue = "none" if b is None else "bias"
        product(columns, W.reshape(-1, M), out=y[piece].reshape(-1, M), epilogue=epilogue, bias=b)
    return y


def conv2d_backward(
    dy: Array, x: Array, W: Array, *, stride: Pair = (1, 1), padding: Pair = (0, 0), need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """`gpunn.ops.conv2d_backward` for CuPy arrays: dW = columns^T dy, and dx collects dcolumns = dy W^T."""
    if not plain(dy, x, W):
        return reference(ops.conv2d_backward)(dy, x, W, stride=stride, padding=padding, need_dx=need_dx)
    M = W.shape[3]
    flat, dW = W.reshape(-1, M), empty((W.size // M, M), W.dtype)
    dx = empty(x.shape, x.dtype) if need_dx else None
    for piece in _pieces(x, W, dy.shape[1:3]):
        rows = dy[piece].reshape(-1, M)
        product(_columns(x[piece], W, stride, padding).T, rows, out=dW, beta=1.0 if piece.start else 0.0)
        if dx is not None:
            part, dcolumns = dx[piece], product(rows, flat.T)
            geometry = windows(part, W.shape[:2], stride, padding)[0]
            launch("col2im", x.dtype, blocks(part.size), part, dcolumns, *geometry)
    return dx, dW.reshape(W.shape), sum_rows(dy.reshape(-1, M))


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
    "linear": linear,
    "linear_backward": linear_backward,
    "conv2d": conv2d,
    "conv2d_backward": conv2d_backward,
}
