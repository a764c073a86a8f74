"""Philox and dropout, number by number: the random words never go to memory."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.kernels.cpu.fast._jit import inner, jit, plain
from gpunn.kernels.cpu.memory import empty
from gpunn.kernels.cpu.threads import split
from gpunn.ops._op import reference
from gpunn.ops.dropout import M0, M1, W0, W1, WORD

__all__ = ["TWINS", "dropout", "philox"]

LEAST = 1 << 14  # counters for each thread
HALF = np.uint64(32)
LOW = np.uint64(WORD)
MULTIPLIERS = np.uint64(M0), np.uint64(M1)
ADDENDS = np.uint64(W0), np.uint64(W1)


@inner
def _words(c0, c1, c2, c3, k0, k1):
    """The ten rounds of `gpunn.ops.philox`, on words of 32 bits held in uint64."""
    for _ in range(10):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + ADDENDS[0]) & LOW, (k1 + ADDENDS[1]) & LOW
    return c0, c1, c2, c3


@jit
def _philox(first, words, c1, c2, c3, k0, k1):
    c1, c2, c3, k0, k1 = np.uint64(c1), np.uint64(c2), np.uint64(c3), np.uint64(k0), np.uint64(k1)
    for i in range(first.size):
        a, b, c, d = _words(np.uint64(first[i]), c1, c2, c3, k0, k1)
        words[0, i], words[1, i], words[2, i], words[3, i] = a, b, c, d


@jit
def _dropout(x, y, mask, start, limit, scale, c2, c3, k0, k1):
    """Counters `start` on, four numbers each; x, y and mask are flat and begin with the first number of `start`."""
    limit, c2, c3, k0, k1 = np.uint64(limit), np.uint64(c2), np.uint64(c3), np.uint64(k0), np.uint64(k1)
    kept, dropped = x.dtype.type(scale), x.dtype.type(0.0)
    for i in range(x.size // 4):
        a, b, c, d = _words(np.uint64(start + i), np.uint64(0), c2, c3, k0, k1)
        mask[4 * i] = kept if a >= limit else dropped
        mask[4 * i + 1] = kept if b >= limit else dropped
        mask[4 * i + 2] = kept if c >= limit else dropped
        mask[4 * i + 3] = kept if d >= limit else dropped
    left = x.size % 4
    if left:
        words = _words(np.uint64(start + x.size // 4), np.uint64(0), c2, c3, k0, k1)
        for j in range(left):
            mask[x.size - left + j] = kept if words[j] >= limit else dropped
    for i in range(x.size):
        y[i] = x[i] * mask[i]


def philox(
    c0: np.ndarray, *, counter: tuple[int, int, int], key: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`gpunn.ops.philox` for NumPy arrays."""
    words = np.empty((4, c0.size), np.int64)
    flat = c0.reshape(-1)
    split(lambda part: _philox(flat[part], words[:, part], *counter, *key), c0.size, LEAST)
    a, b, c, d = words.reshape(4, *c0.shape)
    return a, b, c, d


def dropout(x: np.ndarray, *, rate: float, key: tuple[int, int], step: int) -> tuple[np.ndarray, np.ndarray]:
    """`gpunn.ops.dropout` for NumPy arrays."""
    if not plain(x):
        return reference(ops.dropout)(x, rate=rate, key=key, step=step)
    y, mask = empty(x.shape, x.dtype), empty(x.shape, x.dtype)
    flat = x.reshape(-1), y.reshape(-1), mask.reshape(-1)
    constants = round(rate * 2**32), 1.0 / (1.0 - rate), step & WORD, step >> 32, *key

    def work(part: slice) -> None:  # of the counters
        numbers = slice(4 * part.start, min(4 * part.stop, x.size))
        _dropout(*(a[numbers] for a in flat), part.start, *constants)

    split(work, -(-x.size // 4), LEAST)
    return y, mask


TWINS: dict[str, Callable[..., Any]] = {"philox": philox, "dropout": dropout}
