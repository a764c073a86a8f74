"""CUDA graphs: what a function enqueues on the GPU, captured once, and replayed by one call.

A replay repeats the captured kernels with the very arguments they were captured with, at the very addresses. So every
number that changes from step to step lies in the device's memory: `Tables` holds those of the next steps, and a step
begins and ends with a kernel of its own that brings up the next ones.

Checked: kernels compiled for sm_80 and sm_90, arithmetic run on a CPU; captured and replayed by a stand-in for CuPy in
the tests. Not yet run on a GPU.
"""

import contextlib
import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.kernels.cuda import module
from gpunn.kernels.cuda.module import blocks, empty, launch

__all__ = ["Graph", "Tables"]

Array = Any


class Graph:
    """What `enqueue()` enqueues, to be repeated by `replay()` in the current stream.

    `enqueue` is called twice: once for real, so that all that happens only the first time (compiling, loading, choosing
    algorithms) is over, and once to be captured, when nothing is computed. It must not look at a number on the GPU,
    move any from or to the host, nor call cuBLAS or cuRAND through CuPy. Arrays that it makes are taken from a pool of
    its own, which lives as long as the graph: nobody else is ever given the memory that replays write to. Arrays that
    it uses must be kept by the caller.
    """

    def __init__(self, enqueue: Callable[[], Any]) -> None:
        cuda = module.cupy().cuda
        self._pool = cuda.MemoryPool()
        # A pool of CuPy 14 that goes keeps for ever what lies free in it, which is all that a graph has.
        weakref.finalize(self, self._pool.free_all_blocks).atexit = False
        stream = cuda.Stream(non_blocking=True)  # while another captures, the default stream may be used
        cuda.Device().synchronize()  # what was enqueued elsewhere
        with cuda.using_allocator(self._pool.malloc), stream:
            try:
                enqueue()
            finally:
                stream.synchronize()  # after an error, too: the caller will put back what is still being changed
            with _no_garbage():
                stream.begin_capture()
                try:
                    enqueue()
                except BaseException:
                    with contextlib.suppress(Exception):  # the first error is the one that tells
                        stream.end_capture()
                    raise
                self._graph = stream.end_capture()
            self._graph.upload()
            stream.synchronize()

    def replay(self) -> None:
        """Enqueue it once more, in the current stream."""
        self._graph.launch()


@contextlib.contextmanager
def _no_garbage() -> Any:
    """No destructor of a handle or a module runs in between: it would spoil a capture."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class Tables:
    """The numbers of the next steps on the device, and the batch of a step.

    In a step, between `begin` and `end`: `constants` (width,) are those of the optimiser, `step` is the number of the
    step, a 0-d array of int64, `x` and `y` are its batch: `batch` rows of data like `x` and `y`, the inputs as numbers
    of type `enters`. The losses are of `dtype`. `rounds` are an array of bfloat16 and one of float32, the weights, of
    which `begin` makes a copy in the first.
    """

    def __init__(
        self,
        *,
        steps: int,
        batch: int,
        width: int,
        dtype: np.dtype,
        x: Array,
        y: Array,
        enters: Any,
        rounds: tuple[Array, Array] | None = None,
    ) -> None:
        zeros = module.cupy().zeros
        self.batch, self.width, self.dtype, self.rounds = batch, width, dtype, rounds
        self._clock = zeros(3, np.int64)
        self._table, self._order = zeros(steps * width, np.float64), zeros(steps * batch, np.int64)
        self.constants, self.step = zeros(width, np.float64), self._clock[1:2].reshape(())
        self.x, self.y = empty((batch, *x.shape[1:]), enters), empty((batch, *y.shape[1:]), y.dtype)

    def send(self, first: int, constants: np.ndarray, order: Array | None) -> Array:
        """Say what the next steps are: the number of the first, the constants (k, width), the rows (k batch,).

        Returns the array (k,) that will take their losses, each at the end of its step.
        """
        asarray = module.cupy().asarray
        losses = empty(len(constants), self.dtype)
        self._clock[...] = asarray(np.array([0, first, losses.data.ptr]))
        if constants.size:
            self._table[: constants.size] = asarray(constants.reshape(-1))
        if order is not None:
            self._order[: order.shape[0]] = order
        return losses

    def begin(self, x: Array, y: Array, *, ordered: bool) -> None:
        """Bring up what the step needs; its batch are rows of x and y as `send` has said, or else all of them.

        x is of bytes, which become numbers from 0 to 1, or of the type that sums over numbers of type `enters` have.
        """
        x, y = (a if a.flags.c_contiguous else module.cupy().ascontiguousarray(a) for a in (x, y))
        in_bytes = x.dtype == np.uint8
        copy, weights, size = (*self.rounds, self.rounds[0].size) if self.rounds else (0, 0, 0)
        launch(
            *("begin_step", self.x.dtype, blocks(max(self.x.size, size))),
            *(self.constants, self._clock, self._table, self.width, self._order if ordered else 0, self.batch),
            *(self.x, 0 if in_bytes else x, x if in_bytes else 0, self.x.size // self.batch),
            *(self.y, y, self.y.size // self.batch * (y.itemsize // 4), copy, weights, size),
        )

    def end(self, loss: Array) -> None:
        """Put the loss, a 0-d array, in its place, and go on to the next step."""
        launch("end_step", self.dtype, 1, self._clock, loss.astype(self.dtype, copy=False), threads=(1,))
