"""Both twins of the pooling ops, with NumPy and with Numba, beside the reference."""

import importlib.util
import inspect

import numpy as np
import pytest

from gpunn import ops
from gpunn.kernels.cpu import pool, threads

MODULES = {"numpy": pool}
if importlib.util.find_spec("numba"):
    from gpunn.kernels.cpu.fast import pool as fast_pool

    MODULES["numba"] = fast_pool

rng = np.random.default_rng(6)
TWINS = [(module, name) for module in MODULES for name in MODULES[module].TWINS if not name.endswith("_backward")]
GRID = [
    (image, channels, window, stride)
    for image, channels in (((4, 6), 3), ((5, 7), 1), ((5, 7), 17))
    for window in ((1, 1), (2, 2), (3, 2), (4, 5))
    for stride in ((2, 2), (1, 1), (3, 2))
]


@pytest.fixture(params=["at once", "in pieces"])
def pieces(request, monkeypatch):
    if request.param == "in pieces":
        monkeypatch.setattr(threads, "threads", lambda: 2)
        monkeypatch.setattr(pool, "threads", lambda: 2)
        monkeypatch.setattr(pool, "LEAST", 1)
        monkeypatch.setattr(pool, "PIECE", 150)
        if "numba" in MODULES:
            monkeypatch.setattr(fast_pool, "LEAST", 1)


def layouts(a):
    yield a
    yield np.asfortranarray(a)
    yield np.repeat(a, 2, axis=2)[:, :, ::2]
    read_only = a.copy()
    read_only.flags.writeable = False
    yield read_only


@pytest.mark.parametrize(("module", "name"), TWINS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("image", "channels", "window", "stride"), GRID)
def test_a_twin_gives_what_the_reference_gives_to_the_bit(module, name, image, channels, window, stride, dtype, pieces):
    twins, where = MODULES[module].TWINS, {"window": window, "stride": stride}
    x = rng.integers(-2, 2, (7, *image, channels)).astype(dtype)  # many windows with several maxima
    x[rng.random(x.shape) < 0.1] = np.nan
    wanted = getattr(ops, name).reference(x, **where)
    dy = rng.integers(-9, 9, wanted.shape).astype(dtype)  # so that sums are exact in any order
    arrays = (dy, x, wanted) if name == "max_pool2d" else (dy, x)
    wanted_back = getattr(ops, f"{name}_backward").reference(*arrays, **where)
    for moved in zip(*(layouts(a) for a in arrays), strict=True):
        y, dx = twins[name](moved[1], **where), twins[f"{name}_backward"](*moved, **where)
        assert y.dtype == dx.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(y, wanted)
        np.testing.assert_array_equal(dx, wanted_back)


@pytest.mark.parametrize("pieces", ["in pieces"], indirect=True)
def test_what_is_tested_in_pieces_is_divided(pieces, monkeypatch):
    pytest.importorskip("numba")
    divided, run = [], fast_pool.run
    monkeypatch.setattr(fast_pool, "run", lambda *given: divided.append(given[2] >= 2 * given[3]) or run(*given))
    x, where = np.ones((7, 4, 6, 3), "float32"), {"window": (2, 2), "stride": (2, 2)}
    y = fast_pool.max_pool2d(x, **where)
    fast_pool.max_pool2d_backward(y, x, y, **where)
    assert divided == [True, True]


@pytest.mark.parametrize("module", MODULES)
def test_what_does_not_go_together_is_left_to_numpy(module):
    x, where = rng.standard_normal((3, 4, 6, 5)).astype("float32"), {"window": (2, 2), "stride": (2, 2)}
    y, backward = ops.max_pool2d.reference(x, **where), MODULES[module].TWINS["max_pool2d_backward"]
    dy = np.ones_like(y)
    dy[1:] = 7.0
    wanted = ops.max_pool2d_backward.reference(dy[:1], x, y, **where)
    np.testing.assert_array_equal(backward(dy[:1], x, y, **where), wanted)  # one for all, and not what lies behind it
    with pytest.raises(ValueError, match="broadcast"):
        backward(dy, x, y.repeat(3, axis=1), **where)


@pytest.mark.parametrize(("module", "name"), TWINS)
def test_a_batch_of_no_images_passes(module, name):
    twins, where, x = MODULES[module].TWINS, {"window": (2, 2), "stride": (2, 2)}, np.ones((0, 4, 6, 3), "float32")
    y = twins[name](x, **where)
    assert y.shape == (0, 2, 3, 3)
    arrays = (y, x, y) if name == "max_pool2d" else (y, x)
    assert twins[f"{name}_backward"](*arrays, **where).shape == x.shape


@pytest.mark.parametrize("module", MODULES)
def test_a_twin_has_the_parameters_of_its_op(module):
    for name, twin in MODULES[module].TWINS.items():
        wanted, found = (inspect.signature(f).parameters.values() for f in (getattr(ops, name).reference, twin))
        assert [(p.name, p.kind) for p in found] == [(p.name, p.kind) for p in wanted]
