"""Convolution as one matrix product: the window's pixels at all places laid out as the rows of a matrix.

The reference makes a small product for each place of the kernel. Here all of them are one: `_columns` lays the U V C
numbers that a window lies on side by side, through a strided view that is copied, so that y = columns W. The batch is
cut into pieces whose columns fit in the cache.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpunn.ops.conv import Pair, output_size, pad2d, seen_from

__all__ = ["TWINS", "conv2d", "conv2d_backward"]

PIECE = 1 << 20  # numbers: 4 MiB of float32


def conv2d(
    x: np.ndarray, W: np.ndarray, b: np.ndarray | None = None, *, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> np.ndarray:
    """`gpunn.ops.conv2d` for NumPy arrays."""
    x, (U, V, _, M) = pad2d(x, padding), W.shape
    size = output_size(x.shape[1], U, stride[0]), output_size(x.shape[2], V, stride[1])
    y = np.empty((x.shape[0], *size, M), dtype=x.dtype)
    for piece in _pieces(x, W, size):
        np.matmul(_columns(x[piece], W, size, stride), W.reshape(-1, M), out=y[piece].reshape(-1, M))
    if b is not None:
        y += b
    return y


def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    W: np.ndarray,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    need_dx: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """`gpunn.ops.conv2d_backward` for NumPy arrays: dW = columns^T dy, and dx collects dy W^T, column by column."""
    (U, V, C, M), (_, h, w, _) = W.shape, x.shape
    size, x = (dy.shape[1], dy.shape[2]), pad2d(x, padding)
    dW = np.zeros((U * V * C, M), dtype=W.dtype)
    dx = np.zeros(x.shape, dtype=x.dtype) if need_dx else None
    for piece in _pieces(x, W, size):
        rows = dy[piece].reshape(-1, M)
        dW += _columns(x[piece], W, size, stride).T @ rows
        if dx is not None:
            dcolumns = (rows @ W.reshape(-1, M).T).reshape(-1, *size, U, V, C)
            part = dx[piece]
            for u in range(U):
                for v in range(V):
                    part[seen_from(u, v, size, stride)] += dcolumns[:, :, :, u, v, :]
    if dx is not None:
        dx = dx[:, padding[0] : padding[0] + h, padding[1] : padding[1] + w, :]
    return dx, dW.reshape(W.shape), dy.sum(axis=(0, 1, 2))


def _pieces(x: np.ndarray, W: np.ndarray, size: Pair) -> Iterator[slice]:
    """The batch in pieces of as many images as have `PIECE` numbers in their columns."""
    images = max(1, PIECE // (size[0] * size[1] * W[..., 0].size))
    return (slice(first, first + images) for first in range(0, x.shape[0], images))


def _columns(x: np.ndarray, W: np.ndarray, size: Pair, stride: Pair) -> np.ndarray:
    """(NPQ, UVC): in row npq the numbers of x (N, H, W, C), padded, that the window lies on to make pixel npq."""
    (U, V, C, _), (P, Q), n = W.shape, size, x.shape[0]
    along = x.strides[0], x.strides[1] * stride[0], x.strides[2] * stride[1]  # from one output pixel to the next
    within = x.strides[1:]  # from one place of the window to the next
    if C > 1:
        view = np.lib.stride_tricks.as_strided(x, (n, P, Q, U, V, C), along + within, writeable=False)
        return view.reshape(n * P * Q, U * V * C)
    # With one channel the longest runs in memory are along an output row: copy these, and transpose the matrix.
    view = np.lib.stride_tricks.as_strided(x, (U, V, C, n, P, Q), within + along, writeable=False)
    return view.reshape(U * V * C, n * P * Q).T


TWINS: dict[str, Callable[..., Any]] = {"conv2d": conv2d, "conv2d_backward": conv2d_backward}
