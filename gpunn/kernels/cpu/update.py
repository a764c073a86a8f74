"""Optimiser updates in blocks that fit in the processor's cache, and side by side on all cores.

An update reads and writes each of its arrays several times. Over arrays too long for the cache every pass goes to main
memory; block by block all but the first find the numbers in the cache. This is the cache that the cores share: blocks
small enough for a core's own are so many calls that they take longer (Adam within a step of 784-512-512-10 on two cores
of an AMD EPYC, in blocks of 2^14, 2^15 ... 2^19 numbers: 2.5, 1.9, 1.4, 1.1, 1.0, 0.9 ms).

The arithmetic is that of `gpunn.ops.update`, to the bit.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.kernels.cpu.threads import split
from gpunn.ops import update
from gpunn.ops._op import reference

__all__ = ["TWINS"]

BLOCK = 1 << 19  # elements: five arrays of float32 take 10 MiB
LEAST = 1 << 18  # elements for each thread


def _adam(
    w: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    /,
    *,
    eta: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    t: int,
) -> None:
    """`gpunn.ops.adam` with all intermediate numbers in one array, which saves a tenth of the time."""
    a = np.multiply(g, 1.0 - beta1)
    m *= beta1
    m += a
    np.multiply(g, g, out=a)
    a *= 1.0 - beta2
    v *= beta2
    v += a
    c = math.sqrt(1.0 - beta2**t)
    np.sqrt(v, out=a)
    a += epsilon * c
    np.divide(m, a, out=a)
    a *= eta * c / (1.0 - beta1**t)
    w -= a


def _in_blocks(whole: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(whole)
    def blocked(w: np.ndarray, *arrays: np.ndarray, **scalars: Any) -> None:
        if w.size <= BLOCK or w.ndim != 1:
            return whole(w, *arrays, **scalars)

        def work(part: slice) -> None:
            for start in range(part.start, part.stop, BLOCK):
                block = slice(start, min(start + BLOCK, part.stop))
                whole(w[block], *(a[block] for a in arrays), **scalars)

        return split(work, w.shape[0], LEAST)

    return blocked


TWINS = {
    name: _in_blocks(reference(getattr(update, name)))
    for name in update.__all__
    if name not in ("clip_by_norm", "max_norm", "shrink", "soft_threshold")
} | {"adam": _in_blocks(_adam)}
