"""Convolution of float32 images without columns: Winograd's way for kernels of 3 x 3, the direct sum for others.

A convolution of 64 images of 26 x 26 x 32 with 64 kernels of 3 x 3 on one core of an AMD EPYC (Zen 4, AVX-512), in one
process by turns; milliseconds, forward and backward:

    sum of shifted products (the reference)            21.8   59.5
    columns and one product, pieces of 4 MiB           21.6   48.4
    columns, pieces of 1 MiB                           17.8   46.8
    shifted products of the flat image, uncut rows     21.3
    columns of one kernel row, a product for each      16.9   40.9
    Winograd, NumPy (kernels.cpu.winograd)             12.6   27.0
    PyTorch 2.13, contiguous                           22.9   40.9
    PyTorch 2.13, channels last                        17.3   30.5
    direct sum (direct.py)                             13.3   26.2
    Winograd (winograd.py)                              5.5   12.0

The sum is 1.36 GFLOP, so the direct way does 102 GFLOP/s, where OpenBLAS does 97 in a product of 2048 x 2048.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.kernels.cpu import conv
from gpunn.kernels.cpu.fast import direct, winograd
from gpunn.kernels.cpu.memory import empty
from gpunn.ops.conv import Pair, output_size

__all__ = ["TWINS", "conv2d", "conv2d_backward", "conv2d_relu"]

F = np.float32
LARGEST = 1 << 20  # numbers: weights that stay in a cache while an image is gone through


def conv2d(
    x: np.ndarray, W: np.ndarray, b: np.ndarray | None = None, *, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> np.ndarray:
    """`gpunn.ops.conv2d` for NumPy arrays."""
    return _conv2d(x, W, b, stride, padding, False)


def conv2d_relu(
    x: np.ndarray, W: np.ndarray, b: np.ndarray | None = None, *, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> np.ndarray:
    """`gpunn.ops.conv2d_relu` for NumPy arrays."""
    return _conv2d(x, W, b, stride, padding, True)


def _conv2d(x: np.ndarray, W: np.ndarray, b: np.ndarray | None, stride: Pair, padding: Pair, relu: bool) -> np.ndarray:
    given = (x, W) if b is None else (x, b, W)
    if not _single(*given) or not conv.match(x, W) or not (b is None or b.shape == W.shape[3:]):
        return (conv.conv2d_relu if relu else conv.conv2d)(x, W, b, stride=stride, padding=padding)
    x, W, b = _plain(x), _plain(W), np.zeros(W.shape[3], F) if b is None else _plain(b)
    P, Q = output_size(x.shape[1:3], W.shape[:2], stride, padding)
    y = empty((x.shape[0], P, Q, W.shape[3]), F)
    if winograd.suits(x, W, (P, Q), stride):
        winograd.forward(x, W, b, y, padding, relu)
    else:
        direct.forward(x, W, b, y, stride, padding, relu)
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
    """`gpunn.ops.conv2d_backward` for NumPy arrays."""
    if not _single(dy, x, W) or not conv.match(x, W, dy, stride, padding):
        return conv.conv2d_backward(dy, x, W, stride=stride, padding=padding, need_dx=need_dx)
    dy, x, W = _plain(dy), _plain(x), _plain(W)
    dx = empty(x.shape if need_dx else (0,) * 4, F)
    if winograd.suits(x, W, dy.shape[1:3], stride):
        dW, db = winograd.backward(dy, x, W, dx, padding)
    else:
        dW, db = direct.backward(dy, x, W, dx, stride, padding)
    return dx if need_dx else None, dW, db


def _single(*arrays: np.ndarray) -> bool:
    """Whether these are float32, and the weights, which come last, small enough."""
    return all(a.dtype == F for a in arrays) and arrays[-1].size <= LARGEST


def _plain(a: np.ndarray) -> np.ndarray:
    """The array itself where it lies in one piece and may be written to, as the functions expect; else a copy."""
    return a if a.flags.c_contiguous and a.flags.writeable else a.copy()


TWINS: dict[str, Callable[..., Any]] = {
    "conv2d": conv2d,
    "conv2d_backward": conv2d_backward,
    "conv2d_relu": conv2d_relu,
}
