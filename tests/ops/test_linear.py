import numpy as np
import pytest

from gpunn import ops
from gpunn.testing import assert_close, slope

rng = np.random.default_rng(1)
X, W, B, DY = (
    rng.standard_normal((5, 4)),
    rng.standard_normal((4, 3)),
    rng.standard_normal(3),
    rng.standard_normal((5, 3)),
)


def test_y_is_x_W_plus_b(backend):
    x, w, b = (backend.asarray(a) for a in (X, W, B))
    by_hand = [[sum(X[n, d] * W[d, m] for d in range(4)) + B[m] for m in range(3)] for n in range(5)]
    assert_close(ops.linear(x, w, b), by_hand, like=x)
    assert_close(ops.linear(x, w), np.array(by_hand) - B, like=x)
    for array, before in ((x, X), (w, W), (b, B)):
        assert_close(array, before, like=x)


def test_a_relu_of_it(backend):
    x, w, b = (backend.asarray(a) for a in (X, W, B))
    assert_close(ops.linear_relu(x, w, b), np.maximum(X @ W + B, 0), like=x)
    assert_close(ops.linear_relu(x, w), np.maximum(X @ W, 0), like=x)
    for array, before in ((x, X), (w, W), (b, B)):
        assert_close(array, before, like=x)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_gradients_are_slopes(backend, which):
    arrays = [backend.asarray(a) for a in (X, W, B)]
    u = rng.standard_normal((X, W, B)[which].shape)

    def loss(t):
        moved = list(arrays)
        moved[which] = backend.asarray((X, W, B)[which] + t * u)
        return float(backend.xp.sum(ops.linear(*moved) * backend.asarray(DY)))

    gradients = ops.linear_backward(backend.asarray(DY), *arrays[:2])
    exact = float(np.sum(backend.device.to_host(gradients[which]) * u))
    assert slope(loss) == pytest.approx(exact, rel=1e-7)


def test_arrays_may_be_transposed_or_strided(backend):
    x, w, dy = (backend.asarray(np.asarray(a.T, order="C")).T for a in (X, W, DY))
    assert_close(ops.linear(x, w), X @ W, like=x)
    for got, expected in zip(ops.linear_backward(dy, x, w), (DY @ W.T, X.T @ DY, DY.sum(0)), strict=True):
        assert_close(got, expected, like=x)


def test_dx_is_left_out_when_nobody_wants_it(backend):
    dx, dW, db = ops.linear_backward(*(backend.asarray(a) for a in (DY, X, W)), need_dx=False)
    assert dx is None
    assert_close(dW, X.T @ DY, like=dW)
    assert_close(db, DY.sum(0), like=db)


def test_results_are_put_where_out_says_if_the_library_can(backend):
    places = tuple(backend.device.zeros(shape, "float64") for shape in ((5, 4), (4, 3), (3,)))
    results = ops.linear_backward(*(backend.asarray(a) for a in (DY, X, W)), out=places)
    for result, expected in zip(results, (DY @ W.T, X.T @ DY, DY.sum(0)), strict=True):
        assert_close(result, expected, like=result)
    if backend.device.backend in ("numpy", "cupy"):
        assert all(result is place for result, place in zip(results, places, strict=True))


def test_float32_gradients_are_those_of_float64(backend):
    narrow = [backend.asarray(a, "float32") for a in (DY, X, W)]
    for got, expected in zip(ops.linear_backward(*narrow), (DY @ W.T, X.T @ DY, DY.sum(0)), strict=True):
        assert_close(got, expected, like=narrow[0], rtol=1e-5, atol=1e-5)
