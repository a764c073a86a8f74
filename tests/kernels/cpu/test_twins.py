"""Twins beside their references: on short and long arrays, both data types, and arrays that lie in memory otherwise."""

import importlib.util
import inspect

import numpy as np
import pytest

from gpunn import ops
from gpunn.kernels import cpu
from gpunn.kernels.cpu import activation, dropout, linear, loss, threads

rng = np.random.default_rng(0)
Y = {"sigmoid_backward": (0, 1), "tanh_backward": (-1, 1), "elu_backward": (-1.5, 3)}  # where an output can lie
CONSTANTS = {"leaky_relu_backward": {"alpha": 0.2}, "elu_backward": {"alpha": 1.5}}
TOLERANCE = {"float32": 3e-6, "float64": 1e-12}
fast = None
if importlib.util.find_spec("numba"):
    from gpunn.kernels.cpu import fast


def twins(name):
    """The twins of an op: with NumPy, with Numba."""
    found = [modules[name] for modules in (linear.TWINS, loss.TWINS, dropout.TWINS) if name in modules]
    return found + ([fast.TWINS[name]] if fast and name in fast.TWINS else [])


def layouts(a):
    """The same numbers in one piece, in the order of columns, and as every second of more."""
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    read_only = a.copy()
    read_only.flags.writeable = False
    return [a, np.asfortranarray(a), wide[..., ::2], read_only]


def close(got, wanted, dtype):
    assert type(got) is type(wanted)
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(threads, "threads", lambda: 2)


needs_numba = pytest.mark.skipif(fast is None, reason="Numba is not installed")
ELEMENTWISE = [
    "relu", "sigmoid", "silu", "gelu", "sigmoid_backward", "silu_backward", "gelu_backward", "tanh_backward",
    "relu_backward", "leaky_relu_backward", "elu_backward",
]  # fmt: skip


@needs_numba
@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (7, 5), (2, 3, 4, 5), (0, 3)])
@pytest.mark.parametrize("few", [0, 1000])
def test_activations(name, dtype, shape, few, monkeypatch):
    monkeypatch.setattr("gpunn.kernels.cpu.fast.activation.FEW", few)
    low, high = Y.get(name, (-8, 8))
    x = rng.uniform(low, high, shape).astype(dtype)
    x.reshape(-1)[:1] = 0.0
    takes_two = name.endswith("_backward")
    dy = rng.standard_normal(shape).astype(dtype)
    for array in layouts(x):
        arrays = (dy, array) if takes_two else (array,)
        wanted = getattr(ops, name).reference(*arrays, **CONSTANTS.get(name, {}))
        close(fast.TWINS[name](*arrays, **CONSTANTS.get(name, {})), wanted, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(100,), (3, 5), (3, 64), (9, 4, 40), (0, 70), (2, 0)])
@pytest.mark.parametrize("long", [False, True])
def test_relu(shape, dtype, long, monkeypatch, two_threads):
    monkeypatch.setattr(activation, "WORTH_IT", 1)
    if long:
        monkeypatch.setattr(activation, "LEAST", 32)
    x = rng.standard_normal(shape).astype(dtype)
    x.reshape(-1)[:3] = (np.nan, np.inf, -np.inf)[: x.size]
    for array in layouts(x):
        close(activation.relu(array), ops.relu.reference(array), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("shape", [(), (100,), (3, 5), (0, 70)])
def test_sigmoid_is_the_same_to_the_bit(shape, dtype):
    x = np.asarray(50 * rng.standard_normal(shape)).astype(dtype)
    if dtype != "int64":
        x.reshape(-1)[:5] = (np.nan, np.inf, -np.inf, 88.0, -88.0)[: x.size]
    y, wanted = activation.sigmoid(x), ops.sigmoid.reference(x)
    assert y.dtype == wanted.dtype
    np.testing.assert_array_equal(y, wanted)


@needs_numba
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_long_activations_are_divided_among_threads(name, monkeypatch, two_threads):
    monkeypatch.setattr("gpunn.kernels.cpu.fast.activation.LEAST", 16)
    monkeypatch.setattr("gpunn.kernels.cpu.fast.activation.FEW", 0)
    x = rng.uniform(0.1, 0.9, (9, 13)).astype("float32")
    arrays = (x, x[::-1].copy()) if name.endswith("_backward") else (x,)
    wanted = getattr(ops, name).reference(*arrays, **CONSTANTS.get(name, {}))
    close(fast.TWINS[name](*arrays, **CONSTANTS.get(name, {})), wanted, "float32")


@needs_numba
def test_exponentials_at_the_ends():
    x = np.array([np.nan, np.inf, -np.inf, 1e4, -1e4, 88.0, -88.0, 0.0], dtype="float32")
    y = fast.TWINS["sigmoid"](x)
    assert np.isnan(y[0])
    np.testing.assert_allclose(y[1:], [1, 0, 1, 0, 1, 0, 0.5], atol=1e-37)


@needs_numba
def test_the_exponential_is_as_good_as_it_says():
    import numba

    from gpunn.kernels.cpu.fast.exp import exp

    def fill(x, y):
        for i in range(x.size):
            y[i] = exp(x[i])

    x = np.linspace(-86.9, 87.9, 100_001).astype("float32")
    y = np.empty_like(x)
    numba.njit(fill)(x, y)
    exact = np.exp(x.astype(float))
    assert np.max(np.abs(y - exact) / np.spacing(exact.astype("float32"))) < 1.6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 3), (5, 10), (4, 3, 7), (6,)])
def test_softmax(dtype, shape, monkeypatch, two_threads):
    if fast:
        monkeypatch.setattr("gpunn.kernels.cpu.fast.loss.LEAST", 8)
    z = (10 * rng.standard_normal(shape)).astype(dtype)
    for array in layouts(z):
        for twin in twins("softmax"):
            close(twin(array), ops.softmax.reference(array), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 2), (5, 10), (300, 3)])
@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", ">i4", "rows"])
def test_softmax_cross_entropy(dtype, shape, kind):
    z = (20 * rng.standard_normal(shape)).astype(dtype)
    labels = rng.integers(0, shape[1], shape[0])
    y = np.eye(shape[1], dtype=dtype)[labels] if kind == "rows" else labels.astype(kind)
    loss_wanted, p_wanted = ops.softmax_cross_entropy.reference(z, y)
    names = "softmax_cross_entropy", "softmax_cross_entropy_backward", "softmax_cross_entropy_both"
    for twin, twin_backward, twin_both in zip(*map(twins, names), strict=True):
        for array in layouts(z):
            value, p = twin(array, y)
            np.testing.assert_allclose(value, loss_wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
            assert value.dtype == loss_wanted.dtype
            close(p, p_wanted, dtype)
            close(twin_backward(np.asfortranarray(p), y), ops.softmax_cross_entropy_backward.reference(p, y), dtype)
            wanted = ops.softmax_cross_entropy_backward.reference(p_wanted, y)
            close(twin_backward(p, y), wanted, dtype)
            both, dz = twin_both(array, y)
            assert both == value
            assert both.dtype == value.dtype
            close(dz, wanted, dtype)
        extreme = np.array([[1e4, -1e4, 0.0]], dtype)
        assert twin(extreme, np.array([0]))[0] == 0.0
        assert twin(extreme, np.array([1]))[0] == 2e4


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2, 1, 0], [0, 3, 2, 1], [0, 1, 2, 10**9], [0, -1, 2, 1]])
def test_no_row_or_class_is_read_or_written_that_is_not_there(labels):
    z = rng.standard_normal((4, 3)).astype("float32")
    for name in ("softmax_cross_entropy", "softmax_cross_entropy_backward", "softmax_cross_entropy_both"):
        for twin in twins(name):
            with pytest.raises(ValueError if len(labels) != 4 else IndexError):
                twin(z, np.array(labels))


@pytest.mark.parametrize("shape", [(4,), (4, 3, 2)])
def test_numbers_that_are_no_rows_are_not_taken_for_a_class_that_is_not_there(shape):
    for name in ("softmax_cross_entropy", "softmax_cross_entropy_backward", "softmax_cross_entropy_both"):
        for twin in twins(name):
            with pytest.raises(ValueError, match="multi_index"):
                twin(np.zeros(shape, "float32"), np.zeros(4, int))


def test_one_class_number_stands_for_all_rows():
    z, y = rng.standard_normal((4, 3)).astype("float32"), np.array([2])
    for name in ("softmax_cross_entropy", "softmax_cross_entropy_backward", "softmax_cross_entropy_both"):
        wanted = getattr(ops, name).reference(z, y)
        for twin in twins(name):
            np.testing.assert_allclose(twin(z, y)[0], wanted[0], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", ">i4"])
@pytest.mark.parametrize("values", [[0, 4], [], [5, 1], [1, 200]])
@pytest.mark.parametrize("few", [0, 64])
def test_labels_fit(values, dtype, few, monkeypatch):
    monkeypatch.setattr(loss, "FEW", few)
    labels = np.array(values, dtype)
    for twin in twins("labels_fit"):
        assert twin(labels, classes=5) is ops.labels_fit.reference(labels, classes=5)
        if dtype != "uint8":
            assert twin(np.array([3, -1], dtype), classes=5) is False


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(1, 3, 2), (5, 784, 10), (0, 3, 2), (3, 200, 100), (65, 200, 100)])
def test_linear(sizes, dtype):
    n, d, m = sizes
    x, W, b, dy = (rng.standard_normal(s).astype(dtype) for s in ((n, d), (d, m), (m,), (n, m)))
    for array in layouts(x):
        close(linear.linear(array, W, b), ops.linear.reference(array, W, b), dtype)
        close(linear.linear(array, W), ops.linear.reference(array, W), dtype)
        close(linear.linear_relu(array, W, b), ops.linear_relu.reference(array, W, b), dtype)
        for need_dx in (True, False):
            got = linear.linear_backward(dy, array, W, need_dx=need_dx)
            wanted = ops.linear_backward.reference(dy, array, W, need_dx=need_dx)
            assert (got[0] is None) is not need_dx
            for a, w in zip(got, wanted, strict=True):
                if a is not None:
                    close(a, w, dtype)


def test_linear_puts_its_results_where_it_is_told():
    x, W, dy = rng.standard_normal((5, 3)), rng.standard_normal((3, 2)), rng.standard_normal((5, 2))
    y = np.empty((5, 2))
    assert linear.linear(x, W, out=y) is y
    for places in (
        (np.empty((5, 3)), np.empty((3, 2)), np.empty(2)),
        (np.empty((3, 5)).T, np.empty((3, 4))[:, ::2], np.empty(4)[::2]),
    ):
        got = linear.linear_backward(dy, x, W, out=places)
        for a, place, wanted in zip(got, places, ops.linear_backward.reference(dy, x, W), strict=True):
            assert a is place
            np.testing.assert_allclose(a, wanted)


def test_linear_takes_more_axes():
    x, W, b = (rng.standard_normal(s) for s in ((2, 4, 3), (3, 5), (5,)))
    np.testing.assert_allclose(linear.linear(x, W, b), ops.linear.reference(x, W, b))


@pytest.mark.parametrize("size", [1, 5, 100, 1000])
def test_philox(size, monkeypatch, two_threads):
    monkeypatch.setattr(dropout, "BLOCK", 64)
    if fast:
        monkeypatch.setattr("gpunn.kernels.cpu.fast.dropout.LEAST", 64)
    places = np.arange(size, dtype=np.int64) + 2**31
    wanted = ops.philox.reference(places, counter=(1, 2**32 - 1, 3), key=(2**32 - 1, 5))
    for twin in twins("philox"):
        for a, w in zip(twin(places, counter=(1, 2**32 - 1, 3), key=(2**32 - 1, 5)), wanted, strict=True):
            assert a.dtype == w.dtype
            assert np.array_equal(a, w)


@needs_numba
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (9, 31), (2, 3, 4, 5), (0,)])
def test_dropout(dtype, shape, monkeypatch, two_threads):
    monkeypatch.setattr("gpunn.kernels.cpu.fast.dropout.LEAST", 16)
    x = rng.standard_normal(shape).astype(dtype)
    for array in layouts(x):
        got = fast.TWINS["dropout"](array, rate=0.3, key=(7, 2**32 - 1), step=2**40 + 3)
        wanted = ops.dropout.reference(array, rate=0.3, key=(7, 2**32 - 1), step=2**40 + 3)
        for a, w in zip(got, wanted, strict=True):
            assert a.dtype == w.dtype
            assert np.array_equal(a, w)


@needs_numba
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((5, 7), (0,)), ((5, 7), (1,)), ((5, 7), (-1,)), ((2, 3, 4, 6), (0, 1, 2)), ((2, 3, 4, 6), (1, 2, 3)),
     ((2, 3, 4, 6), (1, 3)), ((40, 9), (1,)), ((5, 7), (0, 1))],
)  # fmt: skip
def test_normalize(dtype, shape, axes, monkeypatch, two_threads):
    monkeypatch.setattr("gpunn.kernels.cpu.fast.norm.LEAST", 64)
    x = (3 + 2 * rng.standard_normal(shape)).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    for array in layouts(x):
        got = fast.TWINS["normalize"](array, axes=axes, epsilon=1e-5)
        wanted = ops.normalize.reference(array, axes=axes, epsilon=1e-5)
        for a, w in zip(got, wanted, strict=True):
            close(a, w, dtype)
        y, r, *_ = wanted
        close(
            fast.TWINS["normalize_backward"](dy, y, r, axes=axes),
            ops.normalize_backward.reference(dy, y, r, axes=axes),
            dtype,
        )


@needs_numba
@pytest.mark.parametrize("axes", [(0,), (1,)])
def test_a_gradient_of_another_shape_is_not_normalised_beyond_its_end(axes):
    y, r, *_ = ops.normalize(rng.standard_normal((4, 6)).astype("float32"), axes=axes, epsilon=1e-5)
    twin, reference = fast.TWINS["normalize_backward"], ops.normalize_backward.reference
    with pytest.raises(ValueError, match="broadcast"):
        twin(np.ones((1, 6), "float32"), y, r, axes=axes)
    dy, one = rng.standard_normal((4, 6)).astype("float32"), r[:1, :1]
    close(twin(dy, y, one, axes=axes), reference(dy, y, one, axes=axes), "float32")


def test_every_twin_has_the_signature_of_its_op():
    for modules in (activation.TWINS, linear.TWINS, loss.TWINS, dropout.TWINS, fast.TWINS if fast else {}):
        for name, twin in modules.items():
            names = list(inspect.signature(getattr(ops, name)).parameters)
            assert list(inspect.signature(twin).parameters) == names, name


def test_numba_can_be_left_out(monkeypatch):
    """GPUNN_FAST=0 is read when the twins are first looked up, so in a process of its own."""
    import subprocess
    import sys

    code = "import sys, gpunn.kernels.cpu as cpu; print('numba' in sys.modules, 'fast' in str(cpu.TWINS))"
    monkeypatch.setenv("GPUNN_FAST", "0")
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.split() == ["False", "False"]
    assert cpu.TWINS
