"""Pooling window by window, in one pass over memory."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.kernels.cpu import pool
from gpunn.kernels.cpu.fast._jit import jit, plain
from gpunn.kernels.cpu.memory import empty
from gpunn.ops.conv import Pair, output_size

__all__ = ["TWINS", "max_pool2d", "max_pool2d_backward"]


@jit
def _forward(x, y, window, stride):
    N, P, Q, C = y.shape
    for n in range(N):
        for p in range(P):
            for q in range(Q):
                best = y[n, p, q]
                for c in range(C):
                    best[c] = x[n, p * stride[0], q * stride[1], c]
                for u in range(window[0]):
                    for v in range(window[1]):
                        seen = x[n, p * stride[0] + u, q * stride[1] + v]
                        for c in range(C):  # as np.maximum: NaN is the largest
                            best[c] = seen[c] if (seen[c] > best[c]) | (seen[c] != seen[c]) else best[c]


@jit
def _backward(dy, x, y, dx, window, stride):
    N, P, Q, C = y.shape
    zero, left = x.dtype.type(0.0), np.empty(C, x.dtype)
    for n in range(N):
        dx[n] = zero
        for p in range(P):
            for q in range(Q):
                for c in range(C):
                    left[c] = dy[n, p, q, c]
                for u in range(window[0]):
                    for v in range(window[1]):
                        for c in range(C):
                            largest = x[n, p * stride[0] + u, q * stride[1] + v, c] == y[n, p, q, c]
                            dx[n, p * stride[0] + u, q * stride[1] + v, c] += left[c] if largest else zero
                            left[c] = zero if largest else left[c]


def max_pool2d(x: np.ndarray, *, window: Pair, stride: Pair) -> np.ndarray:
    """`gpunn.ops.max_pool2d` for NumPy arrays."""
    if x.shape[3] == 1 or not plain(x):
        return pool.TWINS["max_pool2d"](x, window=window, stride=stride)
    P, Q = (output_size(*axis) for axis in zip(x.shape[1:3], window, stride, strict=True))
    y = empty((x.shape[0], P, Q, x.shape[3]), x.dtype)
    pool.of_images(lambda part: _forward(x[part], y[part], window, stride), x)
    return y


def max_pool2d_backward(dy: np.ndarray, x: np.ndarray, y: np.ndarray, *, window: Pair, stride: Pair) -> np.ndarray:
    """`gpunn.ops.max_pool2d_backward` for NumPy arrays."""
    if x.shape[3] == 1 or not plain(dy, x, y):
        return pool.TWINS["max_pool2d_backward"](dy, x, y, window=window, stride=stride)
    dx = empty(x.shape, x.dtype)
    pool.of_images(lambda part: _backward(dy[part], x[part], y[part], dx[part], window, stride), x)
    return dx


TWINS: dict[str, Callable[..., Any]] = {"max_pool2d": max_pool2d, "max_pool2d_backward": max_pool2d_backward}
