"""Large linear maps, beside those of NumPy; small ones are in `test_twins`."""

import pickle

import numpy as np
import pytest

pytest.importorskip("numba")

from gpunn import ops
from gpunn.kernels.cpu import linear as plain
from gpunn.kernels.cpu.fast import linear as fast
from gpunn.kernels.cpu.fast.linear import linear, linear_backward, linear_relu, product

rng = np.random.default_rng(4)


def normal(*shape):
    return rng.standard_normal(shape).astype("float32")


@pytest.fixture(autouse=True)
def all_large(monkeypatch):
    monkeypatch.setattr(fast, "SMALL", 1)
    monkeypatch.setattr(fast, "ENOUGH_AWAKE", 1)
    monkeypatch.setattr(fast, "SUMS", 1)


@pytest.mark.parametrize("transposed", ["", "a", "b"])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "sizes",
    [
        (1, 1, 1),
        (7, 3, 5),
        (6, 64, 128),
        (97, 63, 129),
        (200, 300, 65),
        (5, 1100, 3),
        (130, 2, 257),
        (8, 190, 2100),
        (70, 50, 600),
        (9, 300, 700),
    ],
)
def test_products(transposed, count, sizes, set_threads):
    n, m, k = sizes
    set_threads(count)
    a, b, bias = normal(n, k), normal(k, m), normal(m)
    given = (a.T.copy() if transposed == "a" else a), (b.T.copy() if transposed == "b" else b)
    for options in ({}, {"bias": bias}, {"relu": True}, {"bias": bias, "relu": True}):
        c = np.full((n, m), np.nan, "float32")
        product(*given, c, transposed=transposed, **options)
        wanted = a.astype(float) @ b + options.get("bias", 0.0)
        np.testing.assert_allclose(c, wanted.clip(0.0) if "relu" in options else wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("transposed", ["", "a", "b"])
@pytest.mark.parametrize("sizes", [(200, 300, 150), (300, 200, 260), (150, 330, 1100), (5, 330, 1100)])
def test_products_are_the_same_to_the_bit_however_they_are_divided(transposed, sizes, set_threads):
    n, m, k = sizes
    a = normal(*((k, n) if transposed == "a" else (n, k)))
    b = normal(*((m, k) if transposed == "b" else (k, m)))
    results = []
    for count in (1, 2, 3):
        set_threads(count)
        c = np.empty((n, m), "float32")
        product(a, b, c, transposed=transposed)
        results.append(c)
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def check(got, wanted):
    for a, w in zip(got, wanted, strict=True):
        assert (a is None) is (w is None)
        if a is not None:
            assert a.dtype == w.dtype
            np.testing.assert_allclose(a, w, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 9, 65, 300])
@pytest.mark.parametrize("m", [3, 100, 333, 600])
@pytest.mark.parametrize("count", [1, 2])
def test_the_map(n, m, count, set_threads, monkeypatch):
    for name in ("linear", "linear_relu"):
        monkeypatch.setattr(plain, name, None)  # none of these is left to it
    set_threads(count)
    x, W, b, out = normal(n, 150), normal(150, m), normal(m), normal(n, m)
    check([linear(x, W, b), linear(x, W)], [ops.linear.reference(x, W, b), ops.linear.reference(x, W)])
    assert linear(x, W, b, out=out) is out
    check([out], [ops.linear.reference(x, W, b)])
    check([linear_relu(x, W, b), linear_relu(x, W)], [np.maximum(out, 0.0), ops.linear_relu.reference(x, W)])


@pytest.mark.parametrize("n", [1, 9, 65, 300])
@pytest.mark.parametrize("need_dx", [True, False])
def test_gradients(n, need_dx, monkeypatch):
    monkeypatch.setattr(plain, "linear_backward", None)
    x, W, dy = normal(n, 150), normal(150, 333), normal(n, 333)
    wanted = ops.linear_backward.reference(dy, x, W, need_dx=need_dx)
    check(linear_backward(dy, x, W, need_dx=need_dx), wanted)
    places = normal(n, 150), normal(150, 333), normal(333)
    got = linear_backward(dy, x, W, need_dx=need_dx, out=places)
    check(got, wanted)
    assert all(a is None or a is place for a, place in zip(got, places, strict=True))


def test_arrays_from_a_pickle_are_not_left_to_numpy(monkeypatch):
    for name in ("linear", "linear_relu", "linear_backward"):
        monkeypatch.setattr(plain, name, None)
    x, W, dy = (pickle.loads(pickle.dumps(a)) for a in (normal(20, 150), normal(150, 130), normal(20, 130)))
    check([linear(x, W), linear_relu(x, W)], [ops.linear.reference(x, W), ops.linear_relu.reference(x, W)])
    check(linear_backward(dy, x, W), ops.linear_backward.reference(dy, x, W))


@pytest.mark.parametrize("what", ["float64", "columns", "every second", "read-only", "strided place", "three axes"])
def test_other_arrays_are_left_to_numpy(what, monkeypatch):
    monkeypatch.setattr(fast, "run", None)
    x, W, dy, out = normal(20, 150), normal(150, 130), normal(20, 130), (None, None, None)
    if what == "float64":
        x, W, dy = (a.astype(float) for a in (x, W, dy))
    elif what == "columns":
        W = np.asfortranarray(W)
    elif what == "every second":
        x = np.repeat(x, 2, axis=1)[:, ::2]
    elif what == "read-only":
        x.flags.writeable = False
    elif what == "strided place":
        out = None, np.empty((150, 260), "float32")[:, ::2], None
    if what == "three axes":
        x, dy = x.reshape(4, 5, 150), dy.reshape(4, 5, 130)
        check([linear(x, W)], [ops.linear.reference(x, W)])
        with pytest.raises(ValueError, match="matmul"):  # as without these twins
            linear_backward(dy, x, W)
        return
    check(linear_backward(dy, x, W, out=out), ops.linear_backward.reference(dy, x, W))
    if what != "strided place":
        check([linear(x, W)], [ops.linear.reference(x, W)])


SHAPES = {"x": (20, 150), "W": (150, 130), "b": (130,), "dy": (20, 130)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"W": (149, 130)},
        {"W": (151, 130)},
        {"W": (150,)},
        {"x": (21, 150)},
        {"b": (129,)},
        {"b": (131,)},
        {"b": (1,)},
        {"x": (1, 150), "W": (149, 130)},
        {"dy": (19, 130)},
        {"dy": (20, 129)},
    ],
    ids=str,
)
def test_shapes_that_do_not_go_together_are_left_to_numpy(wrong, monkeypatch):
    monkeypatch.setattr(fast, "run", None)  # it would read and write beyond the end
    arrays = {name: normal(*shape) for name, shape in (SHAPES | wrong).items()}
    x, W, b, dy = arrays.values()
    calls = [(linear_backward, (dy, x, W))]
    if "dy" not in wrong and wrong != {"x": (21, 150)}:
        calls = [(linear, (x, W, b)), (linear_relu, (x, W, b))]
    for function, given in calls:
        try:
            wanted = getattr(ops, function.__name__).reference(*given)
        except ValueError as error:
            with pytest.raises(type(error)):
                function(*given)
        else:
            check([function(*given)], [wanted])


def test_places_of_a_wrong_shape_are_left_to_numpy(monkeypatch):
    monkeypatch.setattr(fast, "run", None)
    x, W, dy = normal(20, 150), normal(150, 130), normal(20, 130)
    with pytest.raises(ValueError, match="mismatch"):
        linear(x, W, out=normal(20, 129))
    for out, message in (
        ((normal(19, 150), None, None), "output"),
        ((None, normal(130, 150), None), "matmul: Output operand 0 has a mismatch"),
        ((None, None, normal(1, 130)), "output"),
    ):
        with pytest.raises(ValueError, match=message):
            linear_backward(dy, x, W, out=out)


@pytest.mark.parametrize("over", [0, 1])
def test_the_place_may_be_that_of_an_input(over):
    given = [normal(150, 150), normal(150, 150)]
    wanted = ops.linear.reference(*given)
    check([linear(*given, out=given[over])], [wanted])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_goes_where_it_goes_in_a_sum(bad):
    x, W, dy = normal(20, 150), normal(150, 130), normal(20, 130)
    dy[3, 7] = bad
    dx, dW, db = linear_backward(dy, x, W)
    assert np.array_equal(np.isfinite(dx).all(axis=1), np.arange(20) != 3)
    assert np.array_equal(np.isfinite(dW).all(axis=0), np.arange(130) != 7)
    assert np.array_equal(np.isfinite(db), np.arange(130) != 7)
    x[3, 7] = bad
    for rows in (x, x[3:4]):
        finite = np.isfinite(rows).all(axis=1)
        assert np.array_equal(np.isfinite(linear(rows, W)).all(axis=1), finite)
        y, z = linear_relu(rows, W), linear(rows, W)
        assert np.array_equal(y, np.maximum(z, 0.0), equal_nan=True)
        assert finite.all() or not np.isfinite(y).all()


def test_small_maps_are_left_to_numpy(monkeypatch):
    monkeypatch.setattr(fast, "SMALL", 100 * 500 * 500 + 1)
    monkeypatch.setattr(fast, "run", None)
    for n, d, m in ((0, 1024, 1024), (4, 1024, 1024), (100, 500, 500)):
        x, W, dy = normal(n, d), normal(d, m), normal(n, m)
        check(linear_backward(dy, x, W, need_dx=False), plain.linear_backward(dy, x, W, need_dx=False))
        check([linear(x, W)], [plain.linear(x, W)])
