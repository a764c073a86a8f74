"""Pooling window by window, in one pass over memory."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.kernels.cpu import pool
from gpunn.kernels.cpu.fast._jit import plain
from gpunn.kernels.cpu.fast.team import run, shared
from gpunn.kernels.cpu.memory import empty
from gpunn.kernels.cpu.threads import enough
from gpunn.ops.conv import Pair, output_size

__all__ = ["TWINS", "max_pool2d", "max_pool2d_backward"]

LEAST = 1 << 14  # numbers of x for each thread


@shared
def _forward(x, y, window, stride, start, stop):
    _, P, Q, C = y.shape
    for row in range(np.intp(start), np.intp(stop)):
        n, p = row // P, row % P
        for q in range(Q):
            best = y[n, p, q]
            for c in range(C):
                best[c] = x[n, p * stride[0], q * stride[1], c]
            for u in range(window[0]):
                for v in range(window[1]):
                    seen = x[n, p * stride[0] + u, q * stride[1] + v]
                    for c in range(C):  # as np.maximum: NaN is the largest
                        best[c] = seen[c] if (seen[c] > best[c]) | (seen[c] != seen[c]) else best[c]


@shared
def _backward(dy, x, y, dx, window, stride, start, stop):
    P, Q, C = y.shape[1:]
    zero, left = x.dtype.type(0.0), np.empty(C, x.dtype)
    for n in range(np.intp(start), np.intp(stop)):
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
    N, H, W, C = x.shape
    P, Q = output_size((H, W), window, stride)
    y = empty((N, P, Q, C), x.dtype)
    run(_forward, (x, y, window, stride), N * P, enough(N * P, x.size, LEAST))
    return y


def max_pool2d_backward(dy: np.ndarray, x: np.ndarray, y: np.ndarray, *, window: Pair, stride: Pair) -> np.ndarray:
    """`gpunn.ops.max_pool2d_backward` for NumPy arrays."""
    size = output_size(x.shape[1:3], window, stride)
    fit = dy.shape == y.shape == (len(x), *size, x.shape[3])  # compiled code does not look where an array ends
    if x.shape[3] == 1 or not fit or not plain(dy, x, y):
        return pool.TWINS["max_pool2d_backward"](dy, x, y, window=window, stride=stride)
    dx = empty(x.shape, x.dtype)
    run(_backward, (dy, x, y, dx, window, stride), len(x), enough(len(x), x.size, LEAST))
    return dx


TWINS: dict[str, Callable[..., Any]] = {"max_pool2d": max_pool2d, "max_pool2d_backward": max_pool2d_backward}
