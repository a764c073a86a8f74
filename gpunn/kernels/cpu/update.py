"""Optimiser updates in blocks that fit in a core's cache.

An update reads and writes each of its arrays several times. Over one long array every pass goes to main memory; block
by block all but the first find the numbers in the cache. The arithmetic is that of `gpunn.ops.update`, to the bit.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.ops import update

__all__ = ["TWINS"]

BLOCK = 1 << 15  # elements: five arrays of float32 take 640 KiB, within the second-level cache of today's cores


def _in_blocks(op: Any) -> Callable[..., None]:
    reference = op.reference

    @functools.wraps(reference)
    def blocked(w: np.ndarray, *arrays: np.ndarray, **scalars: Any) -> None:
        if w.size <= BLOCK:
            return reference(w, *arrays, **scalars)
        for start in range(0, w.size, BLOCK):
            block = slice(start, start + BLOCK)
            reference(w[block], *(a[block] for a in arrays), **scalars)
        return None

    return blocked


TWINS = {name: _in_blocks(getattr(update, name)) for name in update.__all__ if name != "clip_by_norm"}
