"""Random numbers in blocks that fit in a core's cache: Philox goes over its numbers some hundred times."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.kernels.cpu.threads import split
from gpunn.ops._op import reference

__all__ = ["TWINS", "philox"]

BLOCK = 1 << 13  # counters: eight arrays of int64 take 512 KiB


def philox(
    c0: np.ndarray, *, counter: tuple[int, int, int], key: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`gpunn.ops.philox` for NumPy arrays."""
    if c0.ndim != 1 or c0.size <= BLOCK:
        return reference(ops.philox)(c0, counter=counter, key=key)
    words = np.empty((4, c0.size), np.int64)

    def work(part: slice) -> None:
        for start in range(part.start, part.stop, BLOCK):
            block = slice(start, min(start + BLOCK, part.stop))
            words[:, block] = reference(ops.philox)(c0[block], counter=counter, key=key)

    split(work, c0.size, BLOCK)
    return words[0], words[1], words[2], words[3]


TWINS: dict[str, Callable[..., Any]] = {"philox": philox}
