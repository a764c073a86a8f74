"""The softmax cross-entropy of class numbers, for NumPy arrays: without rows of 0 and 1, and few calls.

With the right class k of row n: L_n = log sum_c e^(z_nc - max) - (z_nk - max), and dz_n = p_n, less 1 at k, all over N.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.kernels.cpu.linear import ones
from gpunn.ops._op import reference

__all__ = ["TWINS", "labels_fit", "softmax_cross_entropy", "softmax_cross_entropy_backward"]


def softmax_cross_entropy(z: np.ndarray, y: np.ndarray) -> tuple[Any, np.ndarray]:
    """`gpunn.ops.softmax_cross_entropy` for NumPy arrays."""
    if y.ndim != 1:
        return reference(ops.softmax_cross_entropy)(z, y)
    n, m = z.shape
    p = z - np.maximum.reduce(z, axis=1, keepdims=True)
    right = p[_places(n), y]
    np.exp(p, out=p)
    sums = np.dot(p, ones(m, p.dtype))
    p /= sums[:, None]
    return np.dot(ones(n, p.dtype), np.log(sums) - right) / p.dtype.type(n), p


def softmax_cross_entropy_backward(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`gpunn.ops.softmax_cross_entropy_backward` for NumPy arrays."""
    if y.ndim != 1:
        return reference(ops.softmax_cross_entropy_backward)(p, y)
    n = y.size
    dz = p / n
    dz[_places(n), y] -= 1.0 / n
    return dz


@functools.lru_cache(maxsize=16)
def _places(n: int) -> np.ndarray:
    return np.arange(n)


def labels_fit(labels: np.ndarray, *, classes: int) -> bool:
    """`gpunn.ops.labels_fit` for NumPy arrays: without a sign, what is below 0 is very large."""
    return labels.size == 0 or bool(np.maximum.reduce(labels.astype(np.uint64)) < classes)


TWINS: dict[str, Callable[..., Any]] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "softmax_cross_entropy_backward": softmax_cross_entropy_backward,
    "labels_fit": labels_fit,
}
