"""Both twins of a convolution, with NumPy and with Numba, beside the reference: all ways that they can go."""

import importlib.util
import inspect

import numpy as np
import pytest

from gpunn import ops
from gpunn.kernels import cpu
from gpunn.kernels.cpu import conv, threads, winograd

MODULES = {"numpy": conv}
if importlib.util.find_spec("numba"):
    from gpunn.kernels.cpu.fast import conv as fast_conv
    from gpunn.kernels.cpu.fast import direct
    from gpunn.kernels.cpu.fast import winograd as fast_winograd

    MODULES["numba"] = fast_conv

rng = np.random.default_rng(4)
# image, channels in and out, kernel, stride, padding
SHAPES = [
    ((1, 1), 1, 1, (1, 1), (1, 1), (0, 0)),
    ((7, 5), 1, 3, (3, 3), (1, 1), (0, 0)),
    ((7, 5), 3, 2, (3, 3), (1, 1), (1, 1)),
    ((8, 9), 2, 4, (2, 5), (2, 3), (1, 2)),
    ((6, 6), 4, 3, (6, 6), (1, 1), (0, 0)),
    ((5, 8), 1, 2, (2, 3), (3, 2), (2, 0)),
    ((9, 8), 5, 20, (3, 2), (1, 2), (3, 3)),
    ((3, 19), 3, 150, (2, 2), (1, 1), (0, 1)),
    ((4, 3), 33, 40, (1, 1), (1, 1), (0, 0)),
]
TILED = [  # for Winograd's way
    ((6, 6), 32, 32, (3, 3), (1, 1), (0, 0)),
    ((13, 9), 32, 48, (3, 3), (1, 1), (0, 0)),
    ((10, 13), 64, 32, (3, 3), (1, 1), (1, 1)),
    ((7, 10), 32, 112, (3, 3), (1, 1), (2, 0)),
]


@pytest.fixture(params=MODULES)
def twin(request):
    return MODULES[request.param]


@pytest.fixture(params=["at once", "in pieces"])
def pieces(request, monkeypatch):
    """In pieces: each of one image, or of one row of tiles, and divided between two threads."""
    if request.param == "in pieces":
        monkeypatch.setattr(threads, "threads", lambda: 2)
        monkeypatch.setattr(threads, "ENOUGH_TO_WAKE", 1)
        monkeypatch.setattr(conv, "PIECE", 1)
        monkeypatch.setattr(winograd, "PIECE", 1)
        if "numba" in MODULES:
            monkeypatch.setattr(direct, "threads", lambda: 7)
            monkeypatch.setattr(direct, "ENOUGH_AWAKE", 1)
            monkeypatch.setattr(fast_winograd, "ENOUGH_AWAKE", 1)
            monkeypatch.setattr(fast_winograd, "CACHE", 1)


def arrays(shape, dtype="float32", n=5):
    image, n_in, n_out, kernel, stride, padding = shape
    x, W = rng.standard_normal((n, *image, n_in)), rng.standard_normal((*kernel, n_in, n_out))
    x, W, b = (a.astype(dtype) for a in (x, W / np.sqrt(W[..., 0].size), rng.standard_normal(n_out)))
    where = {"stride": stride, "padding": padding}
    return x, W, b, rng.standard_normal(ops.conv2d.reference(x, W, **where).shape).astype(dtype), where


def expected(x, W, b, dy, where):
    """y, dx, dW, db, computed in float64."""
    x, W, b, dy = (a.astype("float64") for a in (x, W, b, dy))
    return ops.conv2d.reference(x, W, b, **where), *ops.conv2d_backward.reference(dy, x, W, **where)


def check(results, wanted, dtype):
    for result, exact in zip(results, wanted, strict=True):
        assert result.dtype == np.dtype(dtype)
        tolerance = (1e-5 if dtype == "float32" else 1e-13) * max(1.0, np.abs(exact).max(initial=0.0))
        np.testing.assert_allclose(result, exact, rtol=0.0, atol=tolerance)


def layouts(a):
    """The same numbers in other orders of memory, and where they must not be written to."""
    yield a
    yield np.asfortranarray(a)
    yield np.repeat(a, 2, axis=0)[::2]
    flipped = np.ascontiguousarray(a[::-1])[::-1]
    flipped.flags.writeable = False
    yield flipped
    read_only = a.copy()
    read_only.flags.writeable = False
    yield read_only


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES + TILED)
def test_a_twin_gives_what_the_reference_gives(twin, shape, dtype, pieces):
    x, W, b, dy, where = arrays(shape, dtype)
    wanted = expected(x, W, b, dy, where)
    for x_, W_, b_, dy_ in zip(*(layouts(a) for a in (x, W, b, dy)), strict=True):
        check([twin.conv2d(x_, W_, b_, **where), *twin.conv2d_backward(dy_, x_, W_, **where)], wanted, dtype)
    without = twin.conv2d_backward(dy, x, W, **where, need_dx=False)
    assert without[0] is None
    check([twin.conv2d(x, W, **where) + b, *without[1:]], [wanted[0], *wanted[2:]], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES + TILED)
def test_a_relu_is_taken_of_it(twin, shape, dtype, pieces):
    x, W, b, _, where = arrays(shape, dtype)
    for given in ((x, W, b), (x, W)):
        y = twin.conv2d(*given, **where)
        assert np.array_equal(twin.conv2d_relu(*given, **where), np.maximum(y, 0.0))
    x[2] = np.nan
    assert np.isnan(twin.conv2d_relu(x, W, b, **where)).any()


@pytest.mark.parametrize("shape", [SHAPES[2], TILED[0]])
@pytest.mark.parametrize("pieces", ["in pieces"], indirect=True)
def test_what_is_tested_in_pieces_is_divided(twin, shape, pieces, monkeypatch):
    divided = []

    def run(function, arguments, size, least):
        divided.append(size >= 2 * least)
        return direct_run(function, arguments, size, least)

    class Piece(threads._Piece):
        def __init__(self, *given):
            divided.append(True)
            super().__init__(*given)

    monkeypatch.setattr(threads, "_Piece", Piece)
    if "numba" in MODULES:
        direct_run = direct.run
        monkeypatch.setattr(direct, "run", run)
        monkeypatch.setattr(fast_winograd, "run", run)
    x, W, b, dy, where = arrays(shape)
    for function, given in ((twin.conv2d, (x, W, b)), (twin.conv2d_backward, (dy, x, W))):
        function(*given, **where)
        assert any(divided)
        divided.clear()


@pytest.mark.parametrize("shape", TILED)
def test_these_shapes_are_for_winograd(shape):
    x, W, _, dy, where = arrays(shape)
    assert winograd.suits(x, W, dy.shape[1:3], where["stride"])
    if "numba" in MODULES:
        assert fast_winograd.suits(x, W, dy.shape[1:3], where["stride"])
        assert not fast_winograd.suits(x, W[..., :-1], dy.shape[1:3], where["stride"])


@pytest.mark.parametrize(
    ("kernel", "channels", "size", "stride", "dtypes"),
    [
        ((3, 3), (32, 32), (5, 8), (1, 1), "ff"),  # more than a third of the tiles' pixels would be left over
        ((3, 3), (31, 64), (8, 8), (1, 1), "ff"),
        ((3, 3), (256, 256), (8, 8), (1, 1), "ff"),
        ((3, 3), (32, 32), (8, 8), (2, 1), "ff"),
        ((3, 5), (32, 32), (8, 8), (1, 1), "ff"),
        ((3, 3), (32, 32), (8, 8), (1, 1), "fd"),
        ((3, 3), (32, 32), (8, 8), (1, 1), "ll"),
    ],
)
def test_these_are_not(kernel, channels, size, stride, dtypes):
    x, W = np.empty((1, 9, 9, channels[0]), dtypes[0]), np.empty((*kernel, *channels), dtypes[1])
    assert not winograd.suits(x, W, size, stride)
    assert winograd.suits(np.empty(0, "f"), np.empty((3, 3, 32, 32), "f"), (8, 8), (1, 1))


def test_winograds_matrices_convolve():
    d, g = rng.standard_normal(6), rng.standard_normal(3)
    A, G, B = winograd.A, winograd.G, winograd.B
    np.testing.assert_allclose(A.T @ ((G @ g) * (B @ d)), np.correlate(d, g, "valid"), rtol=1e-12)


def test_winograds_errors_are_as_small_as_said(twin):
    x, W, b, dy, where = arrays(((26, 26), 128, 128, (3, 3), (1, 1), (0, 0)), n=4)
    y, dx, dW, _ = expected(x, W, b, dy, where)
    for got, exact in zip((twin.conv2d(x, W, b), *twin.conv2d_backward(dy, x, W)), (y, dx, dW), strict=False):
        assert np.sqrt(np.mean((got - exact) ** 2) / np.mean(exact**2)) < 1.3e-6


@pytest.mark.parametrize("channels", [4, 32])
@pytest.mark.parametrize("wrong", ["channels", "fewer images", "outputs", "bias", "channels of x", "another size"])
def test_what_does_not_go_together_is_left_to_the_reference(twin, channels, wrong):
    ones = lambda *shape: np.ones(shape, "float32")  # noqa: E731
    x, W, dy = ones(2, 9, 9, channels), ones(3, 3, channels, channels), ones(2, 7, 7, channels)
    backward = {
        "fewer images": (dy[:1], x, W),
        "outputs": (ones(2, 7, 7, channels + 1), x, W),
        "channels of x": (dy, ones(2, 9, 9, channels + 1), W),
        "another size": (ones(2, 7, 6, channels), x, W),
    }
    if wrong in backward:
        name, given = "conv2d_backward", backward[wrong]
    else:
        name = "conv2d"
        given = (x, ones(3, 3, channels + 1, 5)) if wrong == "channels" else (x, W, ones(channels - 1))
    if wrong != "another size":
        with pytest.raises(ValueError, match=r"shape|mismatch"):
            twin.TWINS[name](*given)
        return
    for got, wanted in zip(twin.TWINS[name](*given), ops.conv2d_backward.reference(*given), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_other_types_than_floats(twin):
    x, W = np.arange(2 * 6 * 6 * 2).reshape(2, 6, 6, 2), np.arange(3 * 3 * 2 * 3).reshape(3, 3, 2, 3)
    assert np.array_equal(twin.conv2d(x, W), ops.conv2d.reference(x, W))
    wide = np.arange(8 * 8 * 32).reshape(1, 8, 8, 32) % 5, np.ones((3, 3, 32, 32), int)
    assert np.array_equal(twin.conv2d(*wide), ops.conv2d.reference(*wide))


@pytest.mark.parametrize("shape", [((6, 6), 3, 32, (3, 3), (1, 1), (0, 0)), SHAPES[2], TILED[0]])
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_bias_of_another_type(twin, shape, dtype):
    x, W, b, _, where = arrays(shape)
    b = b.astype(dtype)
    wanted = ops.conv2d.reference(x, W, b, **where)
    check([twin.conv2d(x, W, b, **where)], [wanted], "float32")
    check([twin.conv2d_relu(x, W, b, **where)], [wanted.clip(0.0)], "float32")


def test_weights_that_fill_no_cache(twin, monkeypatch):
    if "numba" in MODULES:
        monkeypatch.setattr(fast_conv, "LARGEST", 100)
    x, W, b, dy, where = arrays(((6, 6), 32, 32, (3, 3), (1, 1), (0, 0)))
    check([twin.conv2d(x, W, b), *twin.conv2d_backward(dy, x, W)], expected(x, W, b, dy, where), "float32")


def test_it_is_a_twin_that_is_called():
    assert cpu.TWINS["conv2d"] in [module.conv2d for module in MODULES.values()]
    assert cpu.TWINS["conv2d_backward"] in [module.conv2d_backward for module in MODULES.values()]


@pytest.mark.parametrize("name", conv.TWINS)
def test_a_twin_has_the_parameters_of_its_op(twin, name):
    def parameters(f):
        return [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]

    assert parameters(twin.TWINS[name]) == parameters(getattr(ops, name).reference)


@pytest.mark.parametrize("channels", [2, 32])
def test_a_batch_of_no_images_passes(twin, channels):
    x, W = np.ones((0, 6, 6, channels), "float32"), np.ones((3, 3, channels, channels), "float32")
    y = twin.conv2d(x, W)
    assert y.shape == (0, 4, 4, channels)
    dx, dW, db = twin.conv2d_backward(y, x, W)
    assert dx.shape == x.shape
    assert dW.shape == W.shape
    assert not dW.any()
    assert not db.any()


def test_weights_are_not_transformed_where_no_dx_is_wanted(twin, monkeypatch):
    x, W, _, dy, where = arrays(TILED[0])
    seen = []

    def of_weights(W):
        seen.append(W.size)
        return way(W)

    def backward(dy, x, WT, *more):
        seen.append(WT.size)
        return way(dy, x, WT, *more)

    if twin is conv:
        way = winograd._of_weights
        monkeypatch.setattr(winograd, "_of_weights", of_weights)
    else:
        way = fast_winograd._backward
        monkeypatch.setattr(fast_winograd, "_backward", backward)
    twin.conv2d_backward(dy, x, W, **where)
    assert seen == [W.size]
    twin.conv2d_backward(dy, x, W, **where, need_dx=False)
    assert sum(seen[1:]) == 0


def test_the_sums_of_threads_are_added_in_one_order(twin, monkeypatch):
    monkeypatch.setattr(threads, "threads", lambda: 3)
    monkeypatch.setattr(threads, "ENOUGH_TO_WAKE", 1)
    for shape in (SHAPES[2], TILED[0]):
        x, W, _, dy, where = arrays(shape, n=7)
        runs = [twin.conv2d_backward(dy, x, W, **where) for _ in range(5)]
        for again in runs[1:]:
            assert all(np.array_equal(a, b) for a, b in zip(again, runs[0], strict=True))
