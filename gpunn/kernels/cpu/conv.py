"""Convolution as one matrix product: the window's pixels at all places laid out as the rows of a matrix.

The reference makes a small product for each place of the kernel. Here all of them are one: `_columns` lays the U V C
numbers that a window lies on side by side, through a strided view that is copied, so that y = columns W. The batch is
cut into pieces whose columns fit in a core's cache, and each core takes its share of them. Most kernels of 3 x 3 go
another way, that of `winograd`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.kernels.cpu import winograd
from gpunn.kernels.cpu.activation import relu_into
from gpunn.kernels.cpu.memory import empty
from gpunn.kernels.cpu.threads import enough, split, summed
from gpunn.ops._op import reference
from gpunn.ops.conv import Pair, output_size, pad2d, seen_from

__all__ = ["TWINS", "conv2d", "conv2d_backward", "conv2d_relu", "match"]

PIECE = 1 << 18  # numbers: 1 MiB of float32


def conv2d(
    x: np.ndarray, W: np.ndarray, b: np.ndarray | None = None, *, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> np.ndarray:
    """`gpunn.ops.conv2d` for NumPy arrays."""
    if not match(x, W):
        return reference(ops.conv2d)(x, W, b, stride=stride, padding=padding)
    N, (U, V, _, M) = len(x), W.shape
    P, Q = output_size(x.shape[1:3], (U, V), stride, padding)
    y = empty((N, P, Q, M), x.dtype)
    if winograd.suits(x, W, (P, Q), stride):
        winograd.forward(x, W, b, y, padding)
        return y

    def work(part: slice) -> None:
        for piece in _pieces(part, W, (P, Q)):
            rows = y[piece].reshape(-1, M)
            np.matmul(_columns(pad2d(x[piece], padding), W, (P, Q), stride), W.reshape(-1, M), out=rows)
            if b is not None:
                rows += b

    split(work, N, enough(N, N * P * Q * W.size), align=1, products=True)
    return y


def conv2d_relu(
    x: np.ndarray, W: np.ndarray, b: np.ndarray | None = None, *, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> np.ndarray:
    """`gpunn.ops.conv2d_relu` for NumPy arrays."""
    y = conv2d(x, W, b, stride=stride, padding=padding)
    return relu_into(y, y)


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
    if not match(x, W, dy, stride, padding):
        return reference(ops.conv2d_backward)(dy, x, W, stride=stride, padding=padding, need_dx=need_dx)
    (N, P, Q, M), (_, h, w, _), (U, V, C, _) = dy.shape, x.shape, W.shape
    above, left = padding
    dx = empty(x.shape, x.dtype) if need_dx else None
    if winograd.suits(x, W, (P, Q), stride):
        return dx, *winograd.backward(dy, x, W, dx, padding)

    def work(dW: np.ndarray, db: np.ndarray, part: slice) -> None:
        for piece in _pieces(part, W, (P, Q)):
            framed, rows = pad2d(x[piece], padding), dy[piece].reshape(-1, M)
            dW += _columns(framed, W, (P, Q), stride).T @ rows
            db += rows.sum(axis=0)
            if dx is not None:
                dcolumns = (rows @ W.reshape(-1, M).T).reshape(-1, P, Q, U, V, C)
                frame = np.zeros(framed.shape, dtype=x.dtype)
                for u, v in np.ndindex(U, V):
                    frame[seen_from(u, v, (P, Q), stride)] += dcolumns[:, :, :, u, v, :]
                dx[piece] = frame[:, above : above + h, left : left + w]

    least = enough(N, 2 * N * P * Q * W.size)
    dW, db = summed(work, ((U * V * C, M), (M,)), W.dtype, N, least, products=True)
    return dx, dW.reshape(W.shape), db


def match(
    x: np.ndarray, W: np.ndarray, dy: np.ndarray | None = None, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> bool:
    """Whether the shapes go together, as strided views and compiled code take for granted."""
    if dy is None:
        return x.shape[3:] == W.shape[2:3]
    size = output_size(x.shape[1:3], W.shape[:2], stride, padding)
    return x.shape[3:] == W.shape[2:3] and dy.shape == (len(x), *size, *W.shape[3:])


def _pieces(part: slice, W: np.ndarray, size: Pair) -> Iterator[slice]:
    """Part of the batch in pieces of as many images as have `PIECE` numbers in their columns."""
    images = max(1, PIECE // (size[0] * size[1] * W[..., 0].size))
    return (slice(first, min(first + images, part.stop)) for first in range(part.start, part.stop, images))


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


TWINS: dict[str, Callable[..., Any]] = {
    "conv2d": conv2d,
    "conv2d_backward": conv2d_backward,
    "conv2d_relu": conv2d_relu,
}
