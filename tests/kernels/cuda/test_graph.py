"""The first and last kernel of a captured step; what is captured is in tests/train/test_graph.py."""

import contextlib
import types

import numpy as np
import pytest

from gpunn.device import to_host
from gpunn.kernels.cuda import graph


def tables(gpu, monkeypatch, x, y, enters="float32", dtype="float32", **named):
    if gpu.name == "emulated":
        monkeypatch.setattr(graph, "empty", lambda shape, dtype: _with_address(gpu.empty(shape, dtype)))
    named = {"steps": 4, "batch": 3, "width": 8} | named
    return graph.Tables(**named, dtype=np.dtype(dtype), x=x, y=y, enters=np.dtype(enters))


@pytest.mark.parametrize(("batch", "width"), [(3, 16), (1, 0), (700, 8)])
def test_a_table_brings_up_the_numbers_of_one_step_after_another(gpu, monkeypatch, batch, width):
    rng = np.random.default_rng(batch)
    x, y = rng.random((900, 2), "float32"), rng.integers(0, 9, 900)
    data = gpu.asarray(x), gpu.asarray(y)
    t = tables(gpu, monkeypatch, *data, batch=batch, width=width)
    for first, steps in ((7, 4), (2**40, 2)):  # the second time in the same memory
        constants, order = rng.random((steps, width)), rng.integers(0, 900, steps * batch)
        losses = t.send(first, constants, gpu.asarray(order))
        for i in range(steps):
            t.begin(*data, ordered=True)
            rows = order[i * batch : (i + 1) * batch]
            assert np.array_equal(to_host(t.constants), constants[i])
            assert np.array_equal(to_host(t.x), x[rows])
            assert np.array_equal(to_host(t.y), y[rows])
            assert int(t.step) == first + i
            t.end(gpu.asarray(np.array(0.5 + i, "float32")))
        assert to_host(losses).tolist() == [0.5 + i for i in range(steps)]


KINDS = [("float32", "float32"), ("bfloat16", "float32"), ("float64", "float64"), ("float32", "uint8"),
         ("bfloat16", "uint8"), ("float64", "uint8")]  # fmt: skip


@pytest.mark.parametrize(("enters", "kind"), KINDS)
@pytest.mark.parametrize("shape", [(1,), (7,), (784,), (4, 4, 3), (4, 4, 2)])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_batch_is_taken_and_rounded(gpu, monkeypatch, enters, kind, shape, ordered):
    pytest.importorskip("ml_dtypes")
    rng, batch, wide = np.random.default_rng(1), 9, "float64" if enters == "float64" else "float32"
    n = 20 if ordered else batch
    x = rng.integers(0, 256, (n, *shape)) if kind == "uint8" else rng.standard_normal((n, *shape))
    x = x.astype(kind)
    rows = rng.integers(0, n, batch) if ordered else np.arange(n)
    if kind != "uint8":
        x.reshape(-1)[:3] = np.nan, np.inf, -np.inf
        rows[0] = 0
    wanted = x[rows].astype(wide) / np.dtype(wide).type(255) if kind == "uint8" else x[rows]
    for y in (rng.integers(-(2**63), 2**63 - 1, n), rng.random((n, 3)).astype(wide), rng.integers(0, 2**62, (n, 2))):
        flat = gpu.empty((x.size + 1,), x.dtype)[1:]  # where no 16 bytes begin
        flat[...] = gpu.asarray(x.reshape(-1))
        for place in (gpu.asarray(x), flat.reshape(x.shape), gpu.asarray(np.repeat(x, 2, 1))[:, ::2]):
            t = tables(gpu, monkeypatch, place, y, enters, wide, batch=batch)
            t.send(0, np.ones((1, 8)), gpu.asarray(rows) if ordered else None)
            t.begin(place, gpu.asarray(y), ordered=ordered)
            assert t.x.dtype == np.dtype(enters)
            got, exact = to_host(t.x.astype(wide)), wanted.astype(enters).astype(wide)
            np.testing.assert_allclose(got, exact, rtol=0.0 if gpu.name == "emulated" else 1e-6)
            assert np.array_equal(to_host(t.y), y[rows])


@pytest.mark.parametrize("size", [1, 6, 20_003])
def test_the_weights_are_rounded_in_the_same_kernel(gpu, monkeypatch, size):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    w = np.random.default_rng(size).standard_normal(size).astype("float32")
    w[:1] = np.inf
    x, y = gpu.asarray(np.ones((3, 5), "float32")), gpu.asarray(np.arange(3))
    for enters in (bfloat16, "float32"):  # the second where inputs are standardised first
        copy = gpu.empty((size,), bfloat16)
        t = tables(gpu, monkeypatch, x, y, enters, rounds=(copy, gpu.asarray(w)))
        t.send(0, np.ones((1, 8)), None)
        t.begin(x, y, ordered=False)
        assert to_host(copy.view(np.uint16)).tobytes() == w.astype(bfloat16).tobytes()
        assert np.array_equal(to_host(t.y), np.arange(3))


def test_what_was_enqueued_before_an_error_is_over_when_it_is_raised(monkeypatch):
    done = []

    class Stream(contextlib.nullcontext):
        def synchronize(self):
            done.append("stream")

    cuda = types.SimpleNamespace(
        MemoryPool=lambda: types.SimpleNamespace(malloc=None, free_all_blocks=list),
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
