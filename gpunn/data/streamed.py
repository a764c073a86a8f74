"""Rows that stay on the host and go to the device when they are asked for: for data larger than its memory.

A CUDA GPU gets them in chunks of several batches, in the two halves of a ring, one after the other:

    first stream     steps on 0    steps on 1    steps on 2
    host             gather 2      gather 3      gather 4      into pinned memory
    second stream                  copy 2        copy 3        from there to the half that held 0, that held 1, ...

Any other device gets the rows of each batch by themselves.
"""

import functools
import math
from typing import Any

import numpy as np

from gpunn.device import Array, Device
from gpunn.processors import usable_processors

__all__ = ["Streamed"]

CHUNK = 1 << 25  # bytes of a chunk, about


class Streamed:
    """The rows of `host`, an array in memory or in a file (numpy.memmap), as `device` shall have them: of type `dtype`.

    `chosen` are the numbers of the rows that there are, all by default. Whatever reads rows on a GPU must be enqueued
    there before the next ones are asked for. `host` is never copied as a whole.
    """

    def __init__(self, host: np.ndarray, device: Device, dtype: str, chosen: np.ndarray | None = None) -> None:
        self.host, self.device, self.chosen = host, device, chosen
        self.dtype, self._type = device.dtype(dtype), np.dtype(dtype)
        self.shape = (host.shape[0] if chosen is None else chosen.shape[0], *host.shape[1:])
        self._ring: Any = None

    def select(self, chosen: np.ndarray) -> "Streamed":
        """Of these rows, those with these numbers alone."""
        chosen = chosen if self.chosen is None else self.chosen[chosen]
        return Streamed(self.host, self.device, self._type.name, chosen)

    def rows(self, first: int, size: int, order: np.ndarray | None = None) -> Array:
        """The `size` rows from `first`, or as many as there are, on the device; `order` is the order of all rows."""
        last = min(first + size, self.shape[0])
        if self.device.backend != "cupy":
            return self.device.asarray(self._taken(first, last, order), self._type.name)
        place = self.reach(first, size, order)
        # a copy, because the ring goes on
        return self.device.xp.asarray(self._ring.rows[place : place + last - first], copy=True)

    # --- on a CUDA GPU

    @property
    def ring(self) -> Array:
        """The array (2 chunk, ...) on the GPU that the rows pass through, row i of an epoch at i % (2 chunk)."""
        return self._ring.rows

    def chunk(self, size: int) -> int:
        """How many rows to bring at a time, where `size` are asked for at a time."""
        row = self._type.itemsize * math.prod(self.shape[1:])
        most = -(-self.shape[0] // size)  # of such batches, in all
        return size * max(1, min(most, CHUNK // max(1, size * row)))

    def begin(self, chunk: int, first: int = 0) -> None:
        """Have a ring for chunks of so many rows, the first of which begins at row `first`."""
        from gpunn.kernels.cuda.ring import Ring

        self._first, self._chunk = first, chunk
        self._held: list[Any] = [None, None]  # the number of the chunk in each half, and the order it was made in
        self._now: Any = None  # that which has arrived
        self._ring = None  # its memory may be used for the new one
        self._ring = Ring(chunk, self.shape[1:], self._type)

    def reach(self, first: int, size: int, order: np.ndarray | None = None) -> int:
        """Have the rows in the ring, for what is enqueued from now on; returns the place of the first in it."""
        last = min(first + size, self.shape[0])
        if (
            self._ring is None
            or first < self._first
            or (first - self._first) // self._chunk != (last - 1 - self._first) // self._chunk
        ):
            self.begin(self.chunk(size), first)
        number = (first - self._first) // self._chunk
        if not _same(self._now, (number, order)):
            self._send(number, order)
            self._send(number + 1, order)
            self._ring.receive(number % 2)
            self._now = number, order
        return (first - self._first) % (2 * self._chunk)

    def _send(self, number: int, order: np.ndarray | None) -> None:
        first, half = self._first + number * self._chunk, number % 2
        last = min(first + self._chunk, self.shape[0])
        if first < last and not _same(self._held[half], (number, order)):
            self._held[half] = None  # in case it does not come to pass
            self._ring.send(half, last - first, lambda room: self._gather(first, last, order, room))
            self._held[half] = number, order

    def _gather(self, first: int, last: int, order: np.ndarray | None, room: np.ndarray) -> None:
        pool, count = _threads()
        share = -(-(last - first) // count)

        def gather(start: int) -> None:
            end = min(start + share, last)
            part = room[start - first : end - first]
            rows = self._taken(start, end, order, part)
            if rows is not part:
                with np.errstate(over="ignore"):  # what is too large becomes infinite, and that is looked for
                    part[...] = rows

        list(pool.map(gather, range(first, last, share)))

    def _taken(self, first: int, last: int, order: np.ndarray | None, room: np.ndarray | None = None) -> np.ndarray:
        """The rows on the host, in `room` if they can be put there at once."""
        host = self.host
        numbers: Any = slice(first, last) if order is None else order[first:last]
        if self.chosen is not None:
            numbers = self.chosen[numbers]
        if isinstance(numbers, slice) or not (host.flags.c_contiguous and host.flags.aligned):
            return host[numbers]  # which np.take would copy as a whole first
        if room is None or host.dtype != room.dtype:
            return np.take(host, numbers, axis=0)
        return np.take(host, numbers, axis=0, out=room, mode="wrap")  # as CuPy's does; "raise" would gather elsewhere


@functools.cache
def _threads() -> tuple[Any, int]:
    """Threads to gather rows, and how many: one alone reads memory, or a file, slower than the link takes it away."""
    from concurrent.futures import ThreadPoolExecutor  # takes milliseconds, which only who has a GPU shall wait for

    count = min(16, usable_processors())
    return ThreadPoolExecutor(count, "gather"), count


def _same(a: Any, b: tuple[int, Any]) -> bool:
    return a is not None and a[0] == b[0] and a[1] is b[1]
