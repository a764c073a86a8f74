"""Long arrays divided among the processors: each thread of Python takes one piece.

NumPy and the functions compiled by Numba let go of Python's lock while they compute, so threads do run side by side.
To hand a piece to another one and wait for it takes about 50 us.
"""

import contextvars
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

from gpunn.processors import usable_processors

__all__ = ["split", "threads"]

LINE = 16  # elements: pieces begin whole cache lines after the start


@functools.cache
def threads() -> int:
    """How many to use: as many as this process may run at once, or fewer where those of the matrix library are."""
    usable = usable_processors()
    given = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    return max(1, min(usable, int(given))) if given.isdecimal() else usable


def split(work: Callable[[slice], None], size: int, least: int) -> None:
    """Call `work` with slices that together are 0 to `size`, side by side, each at least `least` long."""
    pieces = min(threads(), size // least)
    if pieces <= 1:
        work(slice(0, size))
        return
    length = -(-size // (pieces * LINE)) * LINE
    # A copy of the context each: NumPy's errstate is part of it.
    others = [
        _pool().submit(contextvars.copy_context().run, work, slice(start, min(start + length, size)))
        for start in range(length, size, length)
    ]
    try:
        work(slice(0, length))
    finally:
        wait(others)
    for other in others:
        other.result()  # raises what was raised there


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, threads() - 1), thread_name_prefix="gpunn")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not live on in a child process
