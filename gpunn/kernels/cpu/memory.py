"""Memory for large arrays that is used again.

For an array beyond 32 MiB the C library of Linux has the system provide new memory each time, page by page and filled
with zeros, and gives it back when the array is gone. A step on 512 images by two convolutions passes through half a
gigabyte of such arrays, and would spend a third of its time on that.

So the memory of large arrays is kept here once they are gone. Each is a view of a buffer and holds a reference to it,
as do all views of its own: a buffer that nobody but this file refers to is free.
"""

import math
import os
import sys
import threading
from typing import Any

import numpy as np

__all__ = ["empty"]

LARGE = 31 << 20  # bytes: see gpunn._start for smaller arrays
MOST = 1 << 30  # bytes in buffers, free or not; arrays beyond are NumPy's own
WIDEST = 16  # bytes in a number of any type
LINE = 64  # bytes: arrays begin with a cache line

_buffers: list[np.ndarray] = []  # the one that was used last at the end
_lock = threading.Lock()


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of this shape and type with any numbers in it, as `np.empty` makes."""
    if math.prod(shape) < LARGE // WIDEST:  # small steps make many
        return np.empty(shape, dtype)
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE or _lock.locked():  # perhaps by this very thread, where a signal has interrupted it
        return np.empty(shape, dtype)
    with _lock:
        free = [number for number in range(len(_buffers)) if _references(number) == UNUSED]
        fitting = [number for number in free if _buffers[number].size >= size + LINE]
        if fitting:
            buffer = _buffers.pop(min(fitting, key=lambda number: _buffers[number].size))
        elif _keep(MOST - size - LINE, free):
            buffer = np.empty(size + LINE, np.uint8)
        else:
            return np.empty(shape, dtype)
        _buffers.append(buffer)
        start = -buffer.ctypes.data % LINE
        return buffer[start : start + size].view(dtype).reshape(shape)


def _keep(most: int, free: list[int]) -> bool:
    """Give free buffers back, the oldest first, until at most `most` bytes are kept; returns whether that was done."""
    kept = sum(buffer.size for buffer in _buffers)
    for number in free:
        if kept > most:
            kept -= _buffers[number].size
            _buffers[number] = GONE
    _buffers[:] = [buffer for buffer in _buffers if buffer is not GONE]
    return kept <= most


def _forget() -> None:
    """In a child process: the thread that held the lock does not live on there."""
    global _lock
    _lock = threading.Lock()


def _references(number: int) -> int:
    return sys.getrefcount(_buffers[number])


GONE = np.empty(0, np.uint8)
_buffers.append(np.empty(0, np.uint8))
UNUSED = _references(0)
_buffers.clear()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
