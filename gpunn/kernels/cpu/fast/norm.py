"""Normalisation in few passes: over the last axes row by row, over the first ones column by column.

The sums are taken in float64, so that they are no worse than NumPy's, which adds in pairs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.kernels.common import rows_or_columns
from gpunn.kernels.cpu.fast._jit import jit, plain
from gpunn.kernels.cpu.memory import empty
from gpunn.kernels.cpu.threads import split
from gpunn.ops._op import reference

__all__ = ["TWINS", "normalize", "normalize_backward"]

LEAST = 1 << 17  # numbers for each thread
Axes = tuple[int, ...]

# x, y, dy, dx (n, m); what is taken together is a row, or a column. mu, v, r have one number for each of these.


@jit(sums=True)
def _rows(x, y, r, mu, v, epsilon):
    n, m = x.shape
    for i in range(n):
        total = 0.0
        for j in range(m):
            total += x[i, j]
        mean = total / m
        total = 0.0
        for j in range(m):
            total += (x[i, j] - mean) ** 2
        mu[i], v[i] = mean, total / m
        r[i] = 1.0 / np.sqrt(total / m + epsilon)
        mean_, r_ = mu[i], r[i]
        for j in range(m):
            y[i, j] = (x[i, j] - mean_) * r_


@jit(sums=True)
def _rows_backward(dy, y, r, dx):
    n, m = y.shape
    for i in range(n):
        plain_, with_y = 0.0, 0.0
        for j in range(m):
            plain_ += dy[i, j]
            with_y += dy[i, j] * y[i, j]
        a, b, r_ = y.dtype.type(plain_ / m), y.dtype.type(with_y / m), r[i]
        for j in range(m):
            dx[i, j] = (dy[i, j] - a - y[i, j] * b) * r_


@jit(sums=True)
def _columns(x, y, r, mu, v, epsilon):
    n, m = x.shape
    total = np.zeros(m)
    for i in range(n):
        for j in range(m):
            total[j] += x[i, j]
    for j in range(m):
        mu[j] = total[j] / n
        total[j] = 0.0
    for i in range(n):
        for j in range(m):
            total[j] += (x[i, j] - mu[j]) ** 2
    for j in range(m):
        v[j] = total[j] / n
        r[j] = 1.0 / np.sqrt(total[j] / n + epsilon)
    for i in range(n):
        for j in range(m):
            y[i, j] = (x[i, j] - mu[j]) * r[j]


@jit(sums=True)
def _columns_backward(dy, y, r, dx):
    n, m = y.shape
    plain_, with_y = np.zeros(m), np.zeros(m)
    for i in range(n):
        for j in range(m):
            plain_[j] += dy[i, j]
            with_y[j] += dy[i, j] * y[i, j]
    a, b = np.empty(m, y.dtype), np.empty(m, y.dtype)
    for j in range(m):
        a[j], b[j] = plain_[j] / n, with_y[j] / n
    for i in range(n):
        for j in range(m):
            dx[i, j] = (dy[i, j] - a[j] - y[i, j] * b[j]) * r[j]


def normalize(x: np.ndarray, *, axes: Axes, epsilon: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`gpunn.ops.normalize` for NumPy arrays."""
    kind, n = rows_or_columns(x.shape, axes)
    if kind == "other" or not plain(x) or not x.size:
        return reference(ops.normalize)(x, axes=axes, epsilon=epsilon)
    y = empty(x.shape, x.dtype)
    shape = tuple(1 if axis in [a % x.ndim for a in axes] else size for axis, size in enumerate(x.shape))
    r, mu, v = (np.empty(shape, x.dtype) for _ in range(3))
    flat = [a.reshape(-1) for a in (r, mu, v)]
    if kind == "rows":
        x2, y2 = x.reshape(n, -1), y.reshape(n, -1)
        least = max(1, LEAST // x2.shape[1])
        split(lambda part: _rows(x2[part], y2[part], *(a[part] for a in flat), epsilon), n, least)
    else:
        _columns(x.reshape(-1, n), y.reshape(-1, n), *flat, epsilon)
    return y, r, mu, v


def normalize_backward(dy: np.ndarray, y: np.ndarray, r: np.ndarray, *, axes: Axes) -> np.ndarray:
    """`gpunn.ops.normalize_backward` for NumPy arrays."""
    kind, n = rows_or_columns(y.shape, axes)
    fit = dy.shape == y.shape and r.size == n  # compiled code does not look where an array ends
    if kind == "other" or not fit or not plain(dy, y, r) or not y.size:
        return reference(ops.normalize_backward)(dy, y, r, axes=axes)
    dx = empty(y.shape, y.dtype)
    flat = r.reshape(-1)
    if kind == "rows":
        dy2, y2, dx2 = (a.reshape(n, -1) for a in (dy, y, dx))
        least = max(1, LEAST // y2.shape[1])
        split(lambda part: _rows_backward(dy2[part], y2[part], flat[part], dx2[part]), n, least)
    else:
        _columns_backward(dy.reshape(-1, n), y.reshape(-1, n), flat, dx.reshape(-1, n))
    return dx


TWINS: dict[str, Callable[..., Any]] = {"normalize": normalize, "normalize_backward": normalize_backward}
