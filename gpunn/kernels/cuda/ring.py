"""Rows on their way from the host to the GPU: pinned memory, and a second stream to copy from it.

A copy from ordinary memory makes the host wait. One from pinned memory, which stays where it is, runs by itself while
the GPU computes, if it is in another stream; events say what must come before what.

Checked: by a stand-in for CuPy in the tests, in which a copy is made as late as the events allow. Not yet run on a GPU.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.errors import OutOfMemory
from gpunn.kernels.cuda import module

__all__ = ["Ring"]


class Ring:
    """`rows`, an array (2 chunk, *shape) on the GPU of two halves, each with pinned memory of its own on the host.

    One half is read, in the current stream, while the other is filled. Raises OutOfMemory.
    """

    def __init__(self, chunk: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        cuda, size = module.cupy().cuda, dtype.itemsize * chunk * math.prod(shape)
        self._copied: list[Any] = []  # until all of the memory is there
        self.chunk, self._stream = chunk, cuda.Stream(non_blocking=True)
        self._read = cuda.Event(disable_timing=True)
        try:
            self.rows = module.empty((2 * chunk, *shape), dtype)
            self._pinned = [np.ndarray((chunk, *shape), dtype, cuda.alloc_pinned_memory(size)) for _ in range(2)]
        except (MemoryError, RuntimeError) as error:  # the second for pinned memory
            if isinstance(error, RuntimeError) and "cudaErrorMemoryAllocation" not in str(error):
                raise
            raise OutOfMemory(
                f"data that stay on the host pass through {2 * size / 2**20:,.1f} MiB on the GPU, and as much pinned "
                f"memory on the host, which are not to be had ({error}): a smaller batch_size takes less"
            ) from None
        self._copied = [cuda.Event(disable_timing=True) for _ in range(2)]

    def send(self, half: int, count: int, gather: Callable[[np.ndarray], None]) -> None:
        """Have gather(room) put `count` rows on the host, and copy them to the beginning of a half.

        All that reads what was there before must have been enqueued.
        """
        self._copied[half].synchronize()  # the last copy from this pinned memory may not be over
        room = self._pinned[half][:count]
        gather(room)
        self._read.record(module.cupy().cuda.get_current_stream())
        self._stream.wait_event(self._read)
        self.rows[half * self.chunk : half * self.chunk + count].set(room, self._stream)
        self._copied[half].record(self._stream)

    def receive(self, half: int) -> None:
        """Let what is enqueued from now on wait until the half is there."""
        module.cupy().cuda.get_current_stream().wait_event(self._copied[half])

    def __del__(self) -> None:
        for event in self._copied:
            event.synchronize()  # its memory, here and there, will be somebody else's
