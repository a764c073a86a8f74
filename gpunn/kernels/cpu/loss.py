"""Softmax, and the softmax cross-entropy of class numbers, for NumPy arrays: without rows of 0 and 1, in few calls.

With the right class k of row n: L_n = log sum_c e^(z_nc - max) - (z_nk - max), and dz_n = p_n, less 1 at k, all over N.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.kernels.cpu.linear import ones
from gpunn.ops._op import reference

__all__ = [
    "TWINS",
    "labels_fit",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_both",
]

FEW = 64  # labels: so few take less time in a loop of Python's
OUT_OF_RANGE = "a class number is below 0, or not below the number of columns"


def softmax(z: np.ndarray) -> np.ndarray:
    """`gpunn.ops.softmax` for NumPy arrays."""
    y = np.exp(z - np.maximum.reduce(z, axis=-1, keepdims=True))
    y /= np.add.reduce(y, axis=-1, keepdims=True)
    return y


def softmax_cross_entropy(z: np.ndarray, y: np.ndarray) -> tuple[Any, np.ndarray]:
    """`gpunn.ops.softmax_cross_entropy` for NumPy arrays."""
    if y.ndim != 1:
        return reference(ops.softmax_cross_entropy)(z, y)
    return _cross_entropy(z, _places(z, y))


def softmax_cross_entropy_backward(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`gpunn.ops.softmax_cross_entropy_backward` for NumPy arrays."""
    if y.ndim != 1:
        return reference(ops.softmax_cross_entropy_backward)(p, y)
    return _gradient(p, _places(p, y), np.empty(p.shape, p.dtype))


def softmax_cross_entropy_both(z: np.ndarray, y: np.ndarray) -> tuple[Any, np.ndarray]:
    """`gpunn.ops.softmax_cross_entropy_both` for NumPy arrays."""
    if y.ndim != 1:
        return reference(ops.softmax_cross_entropy_both)(z, y)
    places = _places(z, y)
    loss, p = _cross_entropy(z, places)
    return loss, _gradient(p, places, p)


def _cross_entropy(z: np.ndarray, places: np.ndarray) -> tuple[Any, np.ndarray]:
    n, m = z.shape
    p = np.subtract(z, np.maximum.reduce(z, axis=1, keepdims=True), order="C")
    right = p.ravel()[places]
    np.exp(p, out=p)
    sums = p.dot(ones(m, p.dtype))
    p /= sums[:, None]
    return ones(n, p.dtype).dot(np.log(sums) - right) / p.dtype.type(n), p


def _gradient(p: np.ndarray, places: np.ndarray, dz: np.ndarray) -> np.ndarray:
    np.divide(p, p.shape[0], out=dz)
    dz.ravel()[places] -= 1.0 / p.shape[0]  # dz lies in one piece: ravel() is a view of it
    return dz


def _places(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where the right classes are in p.ravel(): places in one axis are found three times as fast as in two.

    Raises IndexError for a class number out of range, whose place would be in another row.
    """
    try:
        return np.ravel_multi_index((_rows(p.shape[0]), y.astype(np.int64, copy=False)), p.shape)
    except ValueError:
        if p.ndim != 2 or y.shape != p.shape[:1]:
            raise
        raise IndexError(OUT_OF_RANGE) from None


@functools.lru_cache(maxsize=16)
def _rows(n: int) -> np.ndarray:
    return np.arange(n)


def labels_fit(labels: np.ndarray, *, classes: int) -> bool:
    """`gpunn.ops.labels_fit` for NumPy arrays: without a sign, what is below 0 is very large."""
    if 0 < labels.size <= FEW:
        few = labels.tolist()
        return min(few) >= 0 and max(few) < classes
    return labels.size == 0 or bool(np.maximum.reduce(labels.astype(np.uint64)) < classes)


TWINS: dict[str, Callable[..., Any]] = {
    "softmax": softmax,
    "softmax_cross_entropy": softmax_cross_entropy,
    "softmax_cross_entropy_backward": softmax_cross_entropy_backward,
    "softmax_cross_entropy_both": softmax_cross_entropy_both,
    "labels_fit": labels_fit,
}
