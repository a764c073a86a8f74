import numpy as np
import pytest

from gpunn import ops
from gpunn.testing import assert_close

rng = np.random.default_rng(13)
X = 3.0 + 2.0 * rng.standard_normal((4, 5, 6))


@pytest.mark.parametrize("axes", [(0, 1), (-1,), (1, 2), (0,)])
@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_numbers_get_mean_0_and_variance_1(backend, axes, epsilon):
    x = backend.asarray(X)
    y, r, mean, variance = ops.normalize(x, axes=axes, epsilon=epsilon)
    mu, v = X.mean(axis=axes, keepdims=True), X.var(axis=axes, keepdims=True)
    for got, expected in ((y, (X - mu) / np.sqrt(v + epsilon)), (r, (v + epsilon) ** -0.5), (mean, mu), (variance, v)):
        assert_close(got, expected, like=x, rtol=1e-10, atol=1e-12)
    y, r = ops.rms_normalize(x, axes=axes, epsilon=epsilon)
    expected = (np.mean(X**2, axis=axes, keepdims=True) + epsilon) ** -0.5
    assert_close(r, expected, like=x, rtol=1e-12)
    assert_close(y, X * expected, like=x, rtol=1e-12)
    assert_close(x, X, like=x)


@pytest.mark.parametrize("axes", [(0, 1), (-1,)])
def test_what_all_numbers_share_has_no_gradient(backend, axes):
    """x^ does not change when a constant is added to x or x is multiplied by one (but for epsilon)."""
    x, dy = backend.asarray(X), backend.asarray(rng.standard_normal(X.shape))
    y, r, _, _ = ops.normalize(x, axes=axes, epsilon=1e-12)
    dx = backend.device.to_host(ops.normalize_backward(dy, y, r, axes=axes))
    np.testing.assert_allclose(dx.sum(axis=axes), 0.0, atol=1e-10)
    np.testing.assert_allclose((dx * X).sum(axis=axes), 0.0, atol=1e-9)


def test_far_from_zero_the_variance_is_still_right(backend):
    x = backend.asarray(1e4 + X, "float32")
    y = backend.device.to_host(ops.normalize(x, axes=(0, 1), epsilon=1e-5)[0])
    np.testing.assert_allclose(y.std(axis=(0, 1)), 1.0, rtol=1e-3)


def test_scale_and_shift_are_of_the_last_axes(backend):
    gamma, beta, dy = rng.standard_normal(6), rng.standard_normal(6), rng.standard_normal(X.shape)
    x, like = backend.asarray(X), backend.asarray(gamma)
    assert_close(ops.scale_shift(x, like, backend.asarray(beta)), X * gamma + beta, like=x)
    assert_close(ops.scale_shift(x, like), X * gamma, like=x)
    dx, dgamma, dbeta = ops.scale_shift_backward(backend.asarray(dy), x, like)
    assert_close(dx, dy * gamma, like=x)
    assert_close(dgamma, (dy * X).sum(axis=(0, 1)), like=x)
    assert_close(dbeta, dy.sum(axis=(0, 1)), like=x)
