"""CUDA graphs: what a function enqueues on the GPU, captured once, and replayed by one call.

A replay repeats the captured kernels with the very arguments they were captured with, at the very addresses. So every
number that changes from step to step lies in the device's memory: `Tables` holds those of the next steps, and a step
begins and ends with a kernel of its own that brings up the next ones.

Checked: kernels compiled for sm_80 and sm_90, arithmetic run on a CPU; captured and replayed by a stand-in for CuPy in
the tests. Not yet run on a GPU.
"""

import contextlib
import gc
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
    """The numbers of the next steps on the device, for steps of `batch` rows with `width` constants.

    In a step, between `begin` and `end`: `rows` (batch,) are the numbers of the rows to take, `constants` (width,)
    those of the optimiser, `step` is the number of the step, a 0-d array of int64.
    """

    def __init__(self, steps: int, batch: int, width: int, dtype: np.dtype) -> None:
        zeros = module.cupy().zeros
        self.batch, self.width, self.dtype = batch, width, dtype
        self._clock = zeros(3, np.int64)
        self._table, self._order = zeros(steps * width, np.float64), zeros(steps * batch, np.int64)
        self.constants, self.rows = zeros(width, np.float64), zeros(batch, np.int64)
        self.step = self._clock[1:2].reshape(())

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

    def begin(self) -> None:
        """Bring up the numbers of the step."""
        now, rows, clock, table, order = self.constants, self.rows, self._clock, self._table, self._order
        grid = blocks(4 * max(self.width, self.batch))
        launch("begin_step", self.dtype, grid, now, rows, clock, table, order, self.width, self.batch)

    def end(self, loss: Array) -> None:
        """Put the loss, a 0-d array, in its place, and go on to the next step."""
        launch("end_step", self.dtype, 1, self._clock, loss.astype(self.dtype, copy=False), threads=(1,))
