"""Optimiser updates in blocks that fit in a core's cache, and side by side on all cores.

An update reads and writes each of its arrays several times. Over arrays too long for the cache every pass goes to main
memory; block by block all but the first find the numbers in the cache. The arithmetic is that of `gpunn.ops.update`, to
the bit.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.kernels.cpu.threads import split
from gpunn.ops import update

__all__ = ["TWINS"]

BLOCK = 1 << 17  # elements: five arrays of float32 take 2.5 MiB
LEAST = 1 << 18  # elements for each thread


def _in_blocks(op: Any) -> Callable[..., None]:
    reference = op.reference

    @functools.wraps(reference)
    def blocked(w: np.ndarray, *arrays: np.ndarray, **scalars: Any) -> None:
        if w.size <= BLOCK or w.ndim != 1:
            return reference(w, *arrays, **scalars)

        def work(part: slice) -> None:
            for start in range(part.start, part.stop, BLOCK):
                block = slice(start, min(start + BLOCK, part.stop))
                reference(w[block], *(a[block] for a in arrays), **scalars)

        return split(work, w.shape[0], LEAST)

    return blocked


TWINS = {
    name: _in_blocks(getattr(update, name))
    for name in update.__all__
    if name not in ("clip_by_norm", "max_norm", "shrink", "soft_threshold")
}
