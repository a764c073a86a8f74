"""CUDA twins beside their references: on a GPU where there is one, and on the CPU by g++."""

import inspect

import numpy as np
import pytest

from gpunn import ops
from gpunn.device import to_host
from gpunn.kernels.common import CONSTANTS
from gpunn.kernels.cuda import TWINS, constants, twins
from tests.kernels.cuda.arrays import TOLERANCE, dtypes, normal, rng

KEY = {"key": (7, 2**32 - 1), "step": 2**40 + 3}


def unaligned(gpu, x):
    """x where no 16 bytes begin."""
    flat = gpu.empty((x.size + 1,), x.dtype)[1:]
    flat[...] = gpu.asarray(np.ascontiguousarray(x).reshape(-1))
    return flat.reshape(x.shape)


def check(gpu, compare, name, *args, tolerance=None, runs=True, place=None, **kwargs):
    """The twin of an op and the op, and that both do the same to their arguments."""
    tolerance = tolerance or TOLERANCE[str(args[0].dtype)]
    copies = [np.array(a) for a in args]
    wanted = getattr(ops, name).reference(*copies, **kwargs)
    for bring in (place,) if place else (gpu.asarray, lambda x: unaligned(gpu, x)):
        arrays = [bring(a) for a in args]
        if gpu.launches is not None:
            gpu.launches.clear()
        got = TWINS[name](*arrays, **kwargs)
        assert gpu.launches is None or bool(gpu.launches) == runs, f"{name} ran {gpu.launches}"
        compare(got, wanted, tolerance, name)
        compare(tuple(arrays), tuple(copies), tolerance, f"the arguments of {name}")


# Where an output can lie, for the derivatives that take one.
RANGE = {
    "sigmoid": (0, 1), "hard_sigmoid": (-0.2, 1.2), "tanh": (-1, 1), "elu": (-1.5, 3), "selu": (-1.7, 3),
    "softplus": (0.01, 8), "exponential": (0, 9),
}  # fmt: skip
ALPHA = {"leaky_relu": {"alpha": 0.2}, "elu": {"alpha": 1.5}}


@pytest.mark.parametrize("name", twins.ACTIVATIONS)
@dtypes
def test_activations(gpu, compare, name, dtype):
    for shape in [(1,), (3, 7), (2, 3, 4, 5), (40, 33)]:
        x = normal(shape, dtype, 3)
        x.reshape(-1)[0] = 0.0
        y = rng.uniform(*RANGE.get(name, (-8, 8)), shape).astype(dtype)
        check(gpu, compare, name, x, **ALPHA.get(name, {}))
        check(gpu, compare, f"{name}_backward", normal(shape, dtype), y, **ALPHA.get(name, {}))


@pytest.mark.parametrize("name", twins.ACTIVATIONS)
def test_activations_at_the_ends(gpu, compare, name):
    x = np.array([np.nan, 1e4, -1e4, 88, -88, 1e-30, -1e-30, 0], "float32")
    with np.errstate(all="ignore"):
        check(gpu, compare, name, x, **ALPHA.get(name, {}))
        if name not in ("softplus", "exponential"):  # whose outputs are never below 0
            check(gpu, compare, f"{name}_backward", np.ones_like(x), x, **ALPHA.get(name, {}))


def rows_of_bfloat16(shape):
    """(name, arrays, arguments) of the twins that arrays (N, M) pass through in a network."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x, dy, y = normal(shape, bfloat16), normal(shape, bfloat16), rng.uniform(0.1, 0.9, shape).astype(bfloat16)
    a, W, b, dz = (normal(s, bfloat16) for s in (shape[1:], (shape[1], 5), (5,), (shape[0], 5)))
    for name in twins.ACTIVATIONS:
        yield name, (x,), ALPHA.get(name, {})
        yield f"{name}_backward", (dy, y), ALPHA.get(name, {})
    yield "prelu", (x, a), {}
    yield "prelu_backward", (dy, x, a), {}
    yield "scale_shift", (x, a, a), {}
    yield "scale_shift_backward", (dy, x, a), {}
    yield "softmax", (x,), {}
    yield "softmax_backward", (dy, y), {}
    for axes in ((-1,), (0,)):
        for name in ("normalize", "rms_normalize"):
            yield name, (x,), {"axes": axes, "epsilon": 1e-5}
            of = np.mean(x.astype("float32") ** 2, axis=axes, keepdims=True)
            yield f"{name}_backward", (dy, y, of), {"axes": axes}
    yield "linear", (x, W, b), {}
    yield "linear_relu", (x, W, b), {}
    yield "linear_backward", (dz, x, W), {}
    yield "linear_backward", (dz, x, W), {"need_dx": False}
    yield "gaussian_noise", (x,), {"std": 0.1, **KEY}
    yield "maxout", (x,), {"pieces": shape[1]}
    yield "maxout_backward", (dy[:, :1], x), {"pieces": shape[1]}


def images_of_bfloat16(channels):
    """As `rows_of_bfloat16`, of images."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = rng.integers(-4, 4, (3, 6, 6, channels)).astype(bfloat16)  # with several maxima in a window
    W, b, named = normal((3, 3, channels, 8), bfloat16), normal(8, bfloat16), {"window": (2, 2), "stride": (2, 2)}
    yield "conv2d", (x, W, b), {"padding": (1, 1)}
    yield "conv2d_relu", (x, W, b), {"padding": (1, 1)}
    yield "conv2d_backward", (normal((3, 6, 6, 8), bfloat16), x, W), {"padding": (1, 1)}
    y, dy = (
        ops.max_pool2d.reference(x.astype("float32"), **named).astype(bfloat16),
        normal((3, 3, 3, channels), bfloat16),
    )
    yield "max_pool2d", (x,), named
    yield "max_pool2d_backward", (dy, x, y), named
    yield "avg_pool2d", (x,), named
    yield "avg_pool2d_backward", (dy, x), named
    yield "global_avg_pool2d", (x,), {}
    yield "global_avg_pool2d_backward", (dy[:, 0, 0, :], x), {}


@pytest.mark.parametrize(
    "cases",
    [lambda: rows_of_bfloat16((3, 7)), lambda: rows_of_bfloat16((64, 40)), lambda: images_of_bfloat16(3),
     lambda: images_of_bfloat16(8)],
)  # fmt: skip
def test_bfloat16(gpu, lt, compare, cases):
    """What is computed in float32 and rounded once; sums over the batch, means and variances are not rounded."""
    for name, arrays, named in cases():
        singles = [np.asarray(a, "float32") for a in arrays]
        wanted = getattr(ops, name).reference(*singles, **named)
        first, *others = wanted if isinstance(wanted, tuple) else (wanted,)
        got = TWINS[name](*(gpu.asarray(a) for a in arrays), **named)
        got = got if isinstance(got, tuple) else (got,)
        near = 0.1 if name == "conv2d_backward" else 1e-2  # dx collects what was rounded for each place of the window
        compare(got[:1], (None if first is None else first.astype(arrays[0].dtype),), near, name)
        compare(got[1:], tuple(np.asarray(w) for w in others), 1e-5, name)


def test_gradients_of_bfloat16_are_put_where_they_are_wanted(gpu, lt, compare):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    dy, x, W = (normal(s, bfloat16) for s in ((9, 3), (9, 5), (5, 3)))
    out = None, gpu.empty((5, 3), np.float32), gpu.empty((3,), np.float32)
    _, dW, db = TWINS["linear_backward"](gpu.asarray(dy), gpu.asarray(x), gpu.asarray(W), out=out)
    assert (dW is out[1], db is out[2]) == (True, True)
    compare((dW, db), (x.astype("float32").T @ dy.astype("float32"), dy.astype("float32").sum(0)), 1e-5)
    narrow = gpu.empty((3,), bfloat16)
    compare(twins.sum_rows(gpu.asarray(dy), narrow), dy.astype("float32").sum(0).astype(bfloat16), 1e-2)


@pytest.mark.parametrize("shape", [(9, 31), (8, 32)])
def test_dropout_of_bfloat16(gpu, compare, shape):
    """Forward and backward scale by the same, 1 / 0.9, which is not rounded to 16 bits."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = normal(shape, bfloat16)
    y, mask = ops.dropout.reference(x.astype("float32"), rate=0.1, **KEY)
    got = TWINS["dropout"](gpu.asarray(x), rate=0.1, **KEY)
    compare(got, (y.astype(bfloat16), mask), 1e-300)
    compare(TWINS["dropout_backward"](gpu.asarray(x), got[1]), y.astype(bfloat16), 1e-300)


@pytest.mark.parametrize("size", [1, 3, 2051])
def test_cast(gpu, compare, size):
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    x = normal(size, "float32", 10.0)
    x[0] = np.nan
    for place in (gpu.asarray(x), unaligned(gpu, x)):
        y = TWINS["cast"](place, bfloat16)
        compare(y, x.astype(bfloat16), 1e-300)
        compare(TWINS["cast"](y, np.float32), x.astype(bfloat16).astype("float32"), 1e-300)
        out = gpu.empty((size,), bfloat16)
        assert TWINS["cast"](place, bfloat16, out=out) is out
        compare(out, x.astype(bfloat16), 1e-300)
        assert TWINS["cast"](place, np.dtype("float32")) is place
        compare(TWINS["cast"](place, np.float64), x.astype("float64"), 1e-300)
        assert TWINS["cast"](y, np.dtype(bfloat16)) is y


def test_rounding_to_bfloat16(gpu):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = rng.integers(0, 2**16, 20_000, dtype=np.uint16).view(bfloat16)
    ones = np.full(x.shape, 1.0234375, "float32")  # products that have to be rounded, some of them ties
    got = to_host(TWINS["dropout_backward"](gpu.asarray(x), gpu.asarray(ones)).view(np.uint16)).view(bfloat16)
    with np.errstate(all="ignore"):
        wanted = (x.astype("float32") * np.float32(1.0234375)).astype(bfloat16)
    np.testing.assert_array_equal(got.astype(float), wanted.astype(float))


@dtypes
def test_channels(gpu, compare, dtype):
    for shape in [(5, 4), (2, 3, 3, 6), (300, 1), (2, 40, 70)]:
        x, dy, a, b = normal(shape, dtype), normal(shape, dtype), normal(shape[-1:], dtype), normal(shape[-1:], dtype)
        check(gpu, compare, "prelu", x, a)
        for need_dx in (True, False):
            check(gpu, compare, "prelu_backward", dy, x, a, need_dx=need_dx)
        check(gpu, compare, "scale_shift", x, a)
        check(gpu, compare, "scale_shift", x, a, b)
        check(gpu, compare, "scale_shift_backward", dy, x, a)
    x = normal((4, 3, 5), dtype)
    check(gpu, compare, "scale_shift", x, normal((3, 5), dtype))
    check(gpu, compare, "scale_shift_backward", x, x, normal((3, 5), dtype))


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_philox(gpu, compare, size):
    places = np.arange(size, dtype=np.int64) + 2**31
    check(gpu, compare, "philox", places, counter=(1, 2**32 - 1, 3), key=(2**32 - 1, 5), tolerance=1e-300)


@dtypes
@pytest.mark.parametrize("shape", [(1,), (3, 5), (9, 31), (2, 3, 4, 5), (1026,)])
def test_dropout_has_the_very_masks_of_the_op(gpu, compare, dtype, shape):
    check(gpu, compare, "dropout", normal(shape, dtype), rate=0.3, **KEY, tolerance=1e-300)
    check(gpu, compare, "dropout_backward", normal(shape, dtype), normal(shape, dtype))


def test_dropout_takes_its_step_from_the_device(gpu, compare):
    x = gpu.asarray(normal((9, 31), "float32"))
    step = gpu.asarray(np.array([5, KEY["step"]]))[1]
    step = step if gpu.name == "cuda" else np.asarray(step)
    got = TWINS["dropout"](x, rate=0.3, key=KEY["key"], step=step)
    compare(got, tuple(map(to_host, TWINS["dropout"](x, rate=0.3, **KEY))), 1e-300)


@pytest.mark.parametrize("size", [1, 4])
def test_a_word_that_equals_the_limit_is_kept(gpu, compare, size):
    places = np.zeros(1, np.int64)
    word = int(
        ops.philox.reference(places, counter=(0, KEY["step"] & 0xFFFFFFFF, KEY["step"] >> 32), key=KEY["key"])[0][0]
    )
    x = np.ones(size, "float32")
    check(gpu, compare, "dropout", x, rate=word / 2**32, **KEY, tolerance=1e-300)
    assert to_host(TWINS["dropout"](gpu.asarray(x), rate=word / 2**32, **KEY)[0])[0] > 1.0


@dtypes
@pytest.mark.parametrize("shape", [(1, 2), (5, 10), (20, 100), (3, 1500), (6,)])
def test_softmax(gpu, compare, dtype, shape):
    z = normal(shape, dtype, 10)
    check(gpu, compare, "softmax", z)
    check(gpu, compare, "softmax_backward", normal(shape, dtype), ops.softmax.reference(z))


@dtypes
@pytest.mark.parametrize("shape", [(1, 2), (5, 10), (2100, 3), (2, 1500)])
@pytest.mark.parametrize("kind", ["int64", "uint8", "out of range"])
def test_softmax_cross_entropy(gpu, compare, dtype, shape, kind):
    if kind == "uint8" and shape[1] > 256:
        pytest.skip("bytes cannot number so many classes")
    z, labels = normal(shape, dtype, 20), rng.integers(0, shape[1], shape[0])
    if kind == "out of range":
        labels[0] = -1
        labels[-1] = shape[1]
    else:
        labels = labels.astype(kind)
    check(gpu, compare, "softmax_cross_entropy", z, labels)
    _, p = ops.softmax_cross_entropy.reference(z, labels)
    check(gpu, compare, "softmax_cross_entropy_backward", p, labels)
    wanted = (
        ops.softmax_cross_entropy.reference(z, labels)[0],
        ops.softmax_cross_entropy_backward.reference(p, labels),
    )
    got = [TWINS["softmax_cross_entropy_both"](gpu.asarray(z), gpu.asarray(labels)) for _ in range(2)]
    compare(got[0], wanted, TOLERANCE[dtype])
    assert to_host(got[0][0]).tobytes() == to_host(got[1][0]).tobytes()
    assert gpu.launches is None or set(gpu.launches[-2:]) == {"gn_softmax_cross_entropy"}


@pytest.mark.parametrize("shape", [(7, 10), (2100, 3)])
def test_softmax_cross_entropy_of_bfloat16(gpu, compare, shape):
    """What float32 gives, of which dz is rounded, and the loss is not."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    z, labels = normal(shape, bfloat16, 3), rng.integers(0, shape[1], shape[0])
    loss, dz = ops.softmax_cross_entropy_both.reference(z.astype("float32"), labels)
    got = TWINS["softmax_cross_entropy_both"](gpu.asarray(z), gpu.asarray(labels))
    assert got[0].dtype == np.float32
    compare(got[0], np.float32(loss), 1e-5)
    compare(got[1], dz.astype(bfloat16), 1e-2)


def test_a_cross_entropy_of_extremes(gpu, compare):
    z = np.array([[1e4, -1e4, 0.0]], "float32")
    for label, loss in ((0, 0.0), (1, 2e4)):
        assert float(TWINS["softmax_cross_entropy"](gpu.asarray(z), gpu.asarray(np.array([label])))[0]) == loss
    z[0, 0] = np.nan
    loss, p = TWINS["softmax_cross_entropy"](gpu.asarray(z), gpu.asarray(np.array([1])))
    assert np.isnan(float(loss))
    assert np.all(np.isnan(to_host(p)))
    z = np.zeros((1000, 3), "float32")
    z[z.shape[0] // 2, 1] = np.inf
    loss, dz = TWINS["softmax_cross_entropy_both"](gpu.asarray(z), gpu.asarray(np.zeros(1000, np.int64)))
    assert np.isnan(float(loss))
    assert np.all(np.isnan(to_host(dz)).any(1) == np.isinf(z).any(1))


def test_targets_in_rows_go_to_the_reference(gpu, compare):
    z, y = normal((5, 3)), np.eye(3)[[0, 1, 2, 1, 0]]
    if gpu.name == "emulated":
        check(gpu, compare, "softmax_cross_entropy", z, y, runs=False)
        check(gpu, compare, "softmax_cross_entropy_backward", z, y, runs=False)


@dtypes
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (300, 10), (5001, 60)])
def test_losses(gpu, compare, dtype, shape):
    z, y, a = normal(shape, dtype, 5), rng.random(shape).astype(dtype), rng.random(shape).astype(dtype)
    check(gpu, compare, "mean_squared_error", z, y)
    for name in ("sigmoid_cross_entropy", "quadratic"):
        check(gpu, compare, name, z, y)
        check(gpu, compare, f"{name}_backward", a, y)


@dtypes
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((5, 7), (0,)), ((5, 7), (1,)), ((5, 7), (-1,)), ((2, 3, 4, 6), (0, 1, 2)), ((2, 3, 4, 6), (1, 2, 3)),
     ((40, 9), (1,)), ((5, 7), (0, 1)), ((900, 3), (0,)), ((300, 70), (0,)), ((3, 1500), (1,)), ((2, 1), (0,))],
)  # fmt: skip
def test_normalize(gpu, compare, dtype, shape, axes):
    x, dy = normal(shape, dtype, 2, 3), normal(shape, dtype)
    check(gpu, compare, "normalize", x, axes=axes, epsilon=1e-5)
    y, r, *_ = ops.normalize.reference(x, axes=axes, epsilon=1e-5)
    check(gpu, compare, "normalize_backward", dy, y, r, axes=axes)
    runs = axes in ((1,), (-1,), (1, 2, 3), (0, 1))
    if runs or gpu.name == "emulated":
        check(gpu, compare, "rms_normalize", x, axes=axes, epsilon=1e-5, runs=runs)
        y, r = ops.rms_normalize.reference(x, axes=axes, epsilon=1e-5)
        check(gpu, compare, "rms_normalize_backward", dy, y, r, axes=axes, runs=runs)


def test_a_small_variance_beside_a_large_mean(gpu, compare):
    """Sums of squares would lose it."""
    x = normal((500, 8), "float32", 0.01, 1000)
    got = to_host(TWINS["normalize"](gpu.asarray(x), axes=(0,), epsilon=0.0)[3])
    np.testing.assert_allclose(got[0], x.astype(float).var(0), rtol=1e-5)


@dtypes
def test_sums_over_rows(gpu, compare, dtype):
    for shape in [(1, 1), (5, 10), (1000, 3), (700, 40), (3, 300)]:
        x = normal(shape, dtype)
        out = gpu.empty(shape[1:], x.dtype)
        compare(twins.sum_rows(gpu.asarray(x), out), x.sum(0), 1e-4 if dtype == "float32" else 1e-12)
        assert np.array_equal(to_host(out), to_host(twins.sum_rows(gpu.asarray(x))))


@dtypes
@pytest.mark.parametrize(
    ("shape", "window", "stride"),
    [((2, 5, 4, 3), (2, 2), (2, 2)), ((2, 5, 4, 3), (3, 2), (1, 1)), ((2, 9, 8, 8), (2, 3), (2, 1)),
     ((1, 3, 3, 4), (3, 3), (3, 3)), ((3, 7, 7, 8), (2, 2), (3, 3))],
)  # fmt: skip
def test_pooling(gpu, compare, dtype, shape, window, stride):
    x = rng.integers(0, 4, shape).astype(dtype)  # with several maxima in a window
    named = {"window": window, "stride": stride}
    check(gpu, compare, "max_pool2d", x, **named)
    check(gpu, compare, "avg_pool2d", x, **named)
    y = ops.max_pool2d.reference(x, **named)
    check(gpu, compare, "max_pool2d_backward", normal(y.shape, dtype), x, y, **named)
    check(gpu, compare, "avg_pool2d_backward", normal(y.shape, dtype), x, **named)


def test_the_maximum_of_nan_is_nan(gpu, compare):
    x = np.array([[1, np.nan], [2, 3]], "float32").reshape(1, 2, 2, 1)
    for order in (x, x[:, ::-1, ::-1].copy()):
        check(gpu, compare, "max_pool2d", order, window=(2, 2), stride=(2, 2))


OF = {
    "sgd": {"eta": 0.1}, "momentum": {"eta": 0.1, "mu": 0.9}, "nesterov": {"eta": 0.1, "mu": 0.9},
    "adam": {"eta": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "t": 3},
    "nadam": {"eta": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "t": 3},
    "adamax": {"eta": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "t": 3},
    "adadelta": {"eta": 1.0, "rho": 0.9, "epsilon": 1e-6}, "lion": {"eta": 0.1, "beta1": 0.9, "beta2": 0.99},
    "rmsprop": {"eta": 0.1, "rho": 0.9, "epsilon": 1e-8}, "adagrad": {"eta": 0.1, "epsilon": 1e-10},
    "l2_decay": {"rate": 0.3}, "shrink": {"by": 0.3},
}  # fmt: skip
KEPT = {"momentum": 1, "nesterov": 1, "lion": 1, "rmsprop": 1, "adagrad": 1, "sgd": 0, "l2_decay": 0, "shrink": -1}


@dtypes
@pytest.mark.parametrize("name", CONSTANTS)
def test_updates(gpu, compare, name, dtype):
    for size in (1, 6, 2051):
        w, g = normal(size, dtype), normal(size, dtype)
        g[0] = 0.0
        kept = [np.abs(normal(size, dtype)) for _ in range(KEPT.get(name, 2))]
        arrays = [w, g, *kept] if KEPT.get(name) != -1 else [w]
        check(gpu, compare, name, *arrays, **OF[name])
        wanted = [gpu.asarray(a) for a in arrays]
        TWINS[name](*wanted, **OF[name])
        arrays = [gpu.asarray(a) for a in arrays]
        eight = np.zeros(8)
        eight[: len(CONSTANTS[name](**OF[name]))] = CONSTANTS[name](**OF[name])
        with constants.placed(gpu.asarray(eight), [name]):  # from the device's memory, whatever the arguments say
            TWINS[name](*arrays, **{key: 0.5 if key != "t" else 1 for key in OF[name]})
        for got, want in zip(arrays, wanted, strict=True):
            assert np.array_equal(to_host(got), to_host(want))


@dtypes
@pytest.mark.parametrize("size", [1, 7, 5000])
def test_clipping(gpu, compare, size, dtype):
    g = normal(size, dtype)
    for limit in (1e-3, 1e3):
        check(gpu, compare, "clip_by_norm", g, limit=limit)
    check(gpu, compare, "clip_by_norm", np.zeros(size, dtype), limit=1.0)
    check(gpu, compare, "soft_threshold", g, by=0.3)


def test_a_norm_of_nan_reaches_all_numbers(gpu):
    g = gpu.asarray(np.array([1.0, np.nan, 2.0] * 9, "float32"))
    assert np.isnan(float(TWINS["clip_by_norm"](g, limit=1.0)))
    assert np.all(np.isnan(to_host(g)))


def test_the_mask_of_a_relu(gpu, compare):
    for n, m in [(1, 1), (3, 5), (4, 128), (2, 130)]:
        x, b, dy = normal((n, m)), normal(m), normal((n, m))
        y, mask, dx = gpu.asarray(x), gpu.empty((n, -(-m // 128) * 16), np.dtype(np.uint8)), gpu.asarray(dy)
        twins.relu_mask(y, gpu.asarray(b), mask)
        compare(y, np.maximum(x + b, 0), 1e-12)
        bits = np.unpackbits(to_host(mask), axis=1, bitorder="little")
        assert np.array_equal(bits[:, :m], x + b > 0)
        assert not bits[:, m:].any()
        twins.relu_mask_backward(dx, mask)
        compare(dx, dy * (x + b > 0), 1e-12)


def test_what_the_kernels_cannot_take_goes_to_the_reference(gpu, compare):
    if gpu.name != "emulated":
        pytest.skip("the references of NumPy arrays")
    wide = normal((4, 6))
    check(gpu, compare, "relu", wide[:, ::2], runs=False, place=lambda x: gpu.asarray(np.repeat(x, 2, 1))[:, ::2])
    check(gpu, compare, "relu", np.zeros((0, 3)), runs=False)
    check(gpu, compare, "relu", normal(3).astype("float16"), runs=False, tolerance=1e-3)


def test_every_twin_has_the_signature_of_its_op():
    for name, twin in TWINS.items():
        names = list(inspect.signature(getattr(ops, name)).parameters)
        assert list(inspect.signature(twin).parameters) == names, name
