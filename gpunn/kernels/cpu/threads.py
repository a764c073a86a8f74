"""Work divided among the processors: each thread of Python takes one piece.

NumPy and the functions compiled by Numba let go of Python's lock while they compute, so threads do run side by side.
Those that have nothing to do sleep, so that to hand a piece to one takes as long as the system takes to wake it.
"""

import contextvars
import functools
import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np

from gpunn.processors import usable_processors

__all__ = ["LINE", "enough", "split", "summed", "threads", "waiting", "wake"]

LINE = 16  # numbers of float32 in a cache line: pieces begin whole ones after the start
ENOUGH_TO_WAKE = 1 << 22  # multiplications in matrix products that are worth waking a thread: about 40 us

_announced: set["_Piece"] = set()  # those that wait for a thread; a plain count would be wrong after Ctrl-C
waiting = np.zeros(1, np.int64)  # how many these are, for compiled code to see
_limiting: set[object] = set()  # the calls of `split` that divide matrix products
_before: list[tuple[Any, int]] = []  # the matrix libraries while they are limited, and how many threads they had
_lock = threading.RLock()  # re-entrant: what a signal calls may have work divided, too


@functools.cache
def threads() -> int:
    """How many to use: as many as this process may run at once, or fewer where those of the matrix library are."""
    usable = usable_processors()
    given = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    return max(1, min(usable, int(given))) if given.isdecimal() else usable


def split(work: Callable[[slice], None], size: int, least: int, *, align: int = LINE, products: bool = False) -> None:
    """Call `work` with slices that together are 0 to `size`, side by side, each at least `least` long.

    They begin at multiples of `align`. `products`: the work is matrix products of NumPy; while it is divided, the
    matrix library does each of them in the thread that asks for it.
    """
    pieces = min(threads(), size // least)
    if pieces <= 1:
        work(slice(0, size))
        return
    length = -(-size // (pieces * align)) * align
    others = [_Piece(work, slice(start, min(start + length, size))) for start in range(length, size, length)]
    who = object()
    try:
        if products:
            _limit_products(who)
        with _lock:
            _announced.update(others)
            waiting[0] = len(_announced)
        for other in others:
            wake(other)
        work(slice(0, length))
    finally:
        try:
            for other in others:
                other.run()  # here, if no thread has begun it: all may be at work elsewhere
                other.done.acquire()
        finally:
            _limiting.discard(who)  # not in a function: after Ctrl-C before its first line it would never be done
            if products:
                _free_products()
    for other in others:
        if other.error is not None:
            raise other.error


def summed(
    work: Callable[..., None], shapes: Sequence[tuple[int, ...]], dtype: Any, size: int, least: int, **options: Any
) -> list[np.ndarray]:
    """Arrays of these shapes, to which `work(*arrays, slice)` adds, for the slices that `split` makes.

    Each slice has arrays of its own, which are then added up, in the same order every time.
    """
    parts: dict[int, list[np.ndarray]] = {}

    def one(part: slice) -> None:
        parts[part.start] = [np.zeros(shape, dtype) for shape in shapes]
        work(*parts[part.start], part)

    split(one, size, least, align=1, **options)
    return [functools.reduce(np.add, arrays) for arrays in zip(*(parts[start] for start in sorted(parts)), strict=True)]


def wake(work: Any) -> None:
    """Have `work.run()` called by the next thread that sleeps."""
    _queue().put(work)


def enough(size: int, work: int, least: int | None = None) -> int:
    """How many of `size` equal parts of some work are enough for a thread: those that make up `least` of it.

    Work is counted in numbers or, as the default of `least` is, in multiplications of matrix products.
    """
    return max(1, (ENOUGH_TO_WAKE if least is None else least) * size // max(1, work))


class _Piece:
    """A slice that one thread works on, whichever begins it first."""

    __slots__ = ("begun", "context", "done", "error", "part", "work")

    def __init__(self, work: Callable[[slice], None], part: slice) -> None:
        self.work, self.part = work, part
        self.context = contextvars.copy_context()  # NumPy's errstate is part of it
        self.begun, self.done = threading.Lock(), threading.Lock()
        self.done.acquire()  # until it is done
        self.error: BaseException | None = None

    def run(self) -> None:
        """Work on it, unless a thread has begun that already. What is raised is kept."""
        with _lock:
            _announced.discard(self)
            waiting[0] = len(_announced)
        if not self.begun.acquire(blocking=False):
            return
        try:
            self.context.run(self.work, self.part)
        except BaseException as error:
            self.error = error
        finally:
            self.done.release()


@functools.cache
def _queue() -> "SimpleQueue[Any]":
    """The pieces that wait for a thread, and behind it the threads that take them; None ends one."""
    pieces: SimpleQueue[Any] = SimpleQueue()
    for number in range(threads() - 1):
        threading.Thread(target=_take, args=(pieces,), name=f"gpunn_{number}", daemon=True).start()
    return pieces


def _take(pieces: "SimpleQueue[Any]") -> None:
    while (piece := pieces.get()) is not None:
        piece.run()
        del piece  # or its arrays would be held until the next one comes


def _limit_products(who: object) -> None:
    """Have the matrix library do each product in the thread that asks for it, as long as `who` is in `_limiting`."""
    with _lock:
        _limiting.add(who)
        now = [(library, library.get_num_threads()) for library in _libraries()]
        _before[:] = _before or now  # looked at last: what a signal calls may have limited them meanwhile
        for library, _ in _before:
            library.set_num_threads(1)


def _free_products() -> None:
    """Give the matrix library its threads back, unless there is still one in `_limiting`."""
    with _lock:
        if not _limiting:
            for library, number in _before:
                library.set_num_threads(number)
            _before.clear()


@functools.cache
def _libraries() -> list[Any]:
    from threadpoolctl import ThreadpoolController  # only here: looking for libraries takes milliseconds

    return ThreadpoolController().select(user_api="blas").lib_controllers


def _forget() -> None:
    """In a child process: threads do not live on there, nor do they give back what they held."""
    global _lock
    _queue.cache_clear()
    _lock = threading.RLock()
    _announced.clear()
    waiting[0] = 0
    _limiting.clear()  # the next one gives the matrix library its threads back


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
