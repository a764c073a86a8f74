"""Softmax, and the softmax cross-entropy of class numbers, row by row. The forward passes are for float32."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.kernels.cpu import loss
from gpunn.kernels.cpu.fast._jit import jit, plain
from gpunn.kernels.cpu.fast.exp import exp
from gpunn.kernels.cpu.loss import OUT_OF_RANGE
from gpunn.kernels.cpu.threads import split
from gpunn.ops._op import reference

__all__ = [
    "TWINS",
    "labels_fit",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_both",
]

LEAST = 1 << 17  # numbers for each thread
F = np.float32


@jit(sums=True)
def _softmax(z, y):
    for n in range(z.shape[0]):
        top, total = z[n].max(), F(0.0)
        for c in range(z.shape[1]):
            y[n, c] = exp(z[n, c] - top)
            total += y[n, c]
        for c in range(z.shape[1]):
            y[n, c] /= total


@jit(sums=True)
def _cross_entropy(z, y, p):
    loss = 0.0
    for n in range(z.shape[0]):
        top, total = z[n].max(), F(0.0)
        for c in range(z.shape[1]):
            p[n, c] = exp(z[n, c] - top)
            total += p[n, c]
        for c in range(z.shape[1]):
            p[n, c] /= total
        if y[n] < 0 or y[n] >= z.shape[1]:
            raise IndexError(OUT_OF_RANGE)
        loss += math.log(total) - (z[n, y[n]] - top)
    return loss / z.shape[0]


@jit
def _backward(p, y, dz):
    n_rows, one = p.dtype.type(p.shape[0]), p.dtype.type(1.0)
    for n in range(p.shape[0]):
        for c in range(p.shape[1]):
            dz[n, c] = p[n, c] / n_rows
        if y[n] < 0 or y[n] >= p.shape[1]:
            raise IndexError(OUT_OF_RANGE)
        dz[n, y[n]] = (p[n, y[n]] - one) / n_rows


@jit(sums=True)
def _both(z, y, dz):
    loss = _cross_entropy(z, y, dz)
    for n in range(z.shape[0]):
        dz[n, y[n]] -= F(1.0)
        for c in range(z.shape[1]):
            dz[n, c] /= F(z.shape[0])
    return loss


@jit
def _fit(labels, classes):
    for label in labels:  # noqa: SIM110  a loop is what compiles
        if label < 0 or label >= classes:
            return False
    return True


def softmax(z: np.ndarray) -> np.ndarray:
    """`gpunn.ops.softmax` for NumPy arrays."""
    if z.dtype != F or not plain(z) or not z.size:
        return reference(ops.softmax)(z)
    y = np.empty(z.shape, F)
    rows, out = z.reshape(-1, z.shape[-1]), y.reshape(-1, z.shape[-1])
    if z.size < 2 * LEAST:
        _softmax(rows, out)
    else:
        split(lambda part: _softmax(rows[part], out[part]), rows.shape[0], max(1, LEAST // z.shape[-1]))
    return y


def softmax_cross_entropy(z: np.ndarray, y: np.ndarray) -> tuple[Any, np.ndarray]:
    """`gpunn.ops.softmax_cross_entropy` for NumPy arrays."""
    if not _suits(z, y):
        return loss.softmax_cross_entropy(z, y)
    p = np.empty(z.shape, F)
    return F(_cross_entropy(z, y, p)), p


def softmax_cross_entropy_both(z: np.ndarray, y: np.ndarray) -> tuple[Any, np.ndarray]:
    """`gpunn.ops.softmax_cross_entropy_both` for NumPy arrays."""
    if not _suits(z, y):
        return loss.softmax_cross_entropy_both(z, y)
    dz = np.empty(z.shape, F)
    return F(_both(z, y, dz)), dz


def softmax_cross_entropy_backward(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`gpunn.ops.softmax_cross_entropy_backward` for NumPy arrays."""
    if not plain(p) or not _fit_rows(y, p):
        return loss.softmax_cross_entropy_backward(p, y)
    dz = np.empty(p.shape, p.dtype)
    _backward(p, y, dz)
    return dz


def labels_fit(labels: np.ndarray, *, classes: int) -> bool:
    """`gpunn.ops.labels_fit` for NumPy arrays."""
    return _fit(labels, classes) if labels.dtype.isnative else loss.labels_fit(labels, classes=classes)


def _suits(z: np.ndarray, y: np.ndarray) -> bool:
    return z.dtype == F and plain(z) and z.size > 0 and _fit_rows(y, z)


def _fit_rows(y: np.ndarray, rows: np.ndarray) -> bool:
    """Whether y is a class number for each of the rows, of a type that Numba knows: not in another order of bytes.

    Compiled code does not look where an array ends.
    """
    return rows.ndim == 2 and y.shape == rows.shape[:1] and y.dtype.kind in "iu" and y.dtype.isnative


TWINS: dict[str, Callable[..., Any]] = {
    "softmax": softmax,
    "softmax_cross_entropy": softmax_cross_entropy,
    "softmax_cross_entropy_backward": softmax_cross_entropy_backward,
    "softmax_cross_entropy_both": softmax_cross_entropy_both,
    "labels_fit": labels_fit,
}
