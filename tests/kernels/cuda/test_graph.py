"""The first and last kernel of a captured step; what is captured is in tests/train/test_graph.py."""

import contextlib
import types

import numpy as np
import pytest

from gpunn.device import to_host
from gpunn.kernels.cuda import graph


@pytest.mark.parametrize(("batch", "width"), [(3, 16), (0, 8), (700, 8)])
def test_a_table_brings_up_the_numbers_of_one_step_after_another(gpu, monkeypatch, batch, width):
    if gpu.name == "emulated":
        monkeypatch.setattr(graph, "empty", lambda shape, dtype: _with_address(gpu.empty(shape, dtype)))
    tables = graph.Tables(4, batch, width, np.dtype(np.float32))
    for first, steps in ((7, 4), (2**40, 2)):  # the second time in the same memory
        constants = np.random.default_rng(first).random((steps, width))
        order = gpu.asarray(np.arange(first, first + steps * batch))
        losses = tables.send(first, constants, order if batch else None)
        for i in range(steps):
            tables.begin()
            assert np.array_equal(to_host(tables.constants), constants[i])
            assert np.array_equal(to_host(tables.rows), first + i * batch + np.arange(batch))
            assert int(tables.step) == first + i
            tables.end(gpu.asarray(np.array(0.5 + i, "float32")))
        assert to_host(losses).tolist() == [0.5 + i for i in range(steps)]


def test_what_was_enqueued_before_an_error_is_over_when_it_is_raised(monkeypatch):
    done = []

    class Stream(contextlib.nullcontext):
        def synchronize(self):
            done.append("stream")

    cuda = types.SimpleNamespace(
        MemoryPool=lambda: types.SimpleNamespace(malloc=None),
        Stream=lambda non_blocking: Stream(),
        Device=lambda: types.SimpleNamespace(synchronize=lambda: done.append("device")),
        using_allocator=contextlib.nullcontext,
    )
    monkeypatch.setattr(graph.module, "cupy", lambda: types.SimpleNamespace(cuda=cuda))
    with pytest.raises(ZeroDivisionError):
        graph.Graph(lambda: done.append("step") or 1 / 0)
    assert done == ["device", "step", "stream"]


def _with_address(array):
    class Addressed(np.ndarray):
        data = property(lambda self: type("data", (), {"ptr": self.ctypes.data}))

    return array.view(Addressed)
