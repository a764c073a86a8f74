import numpy as np
import pytest

from gpunn import ops
from gpunn.testing import assert_close, slope

Z = np.random.default_rng(2).standard_normal((5, 4)) * 3


def plain(z):
    e = np.exp(np.asarray(z, dtype=np.longdouble))
    return (e / e.sum(axis=-1, keepdims=True)).astype(np.float64)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-14), ("float32", 1e-6)])
def test_softmax_is_the_plain_formula(backend, dtype, rtol):
    z = backend.asarray(Z, dtype)
    assert_close(ops.softmax(z), plain(backend.device.to_host(z)), like=z, rtol=rtol)
    assert_close(z, Z.astype(dtype), like=z)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_each_row_has_its_own_maximum(backend, dtype):
    # with one maximum for the whole batch the second row would be 0/0
    z = backend.asarray([[1e4, 1e4 - 1.0], [-1e4, -1e4 + 1.0]], dtype)
    assert_close(ops.softmax(z), plain([[0, -1], [0, 1]]), like=z, rtol=1e-6)


def test_scores_of_any_size_are_fine(backend):
    z = backend.asarray([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0]], "float32")
    assert_close(ops.softmax(z), [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], like=z, rtol=1e-6)


def test_the_gradient_is_the_slope(backend):
    z, rng = backend.asarray(Z), np.random.default_rng(3)
    dy, u = rng.standard_normal(Z.shape), rng.standard_normal(Z.shape)
    dz = ops.softmax_backward(backend.asarray(dy), ops.softmax(z))
    numeric = slope(lambda t: float(np.sum(dy * backend.device.to_host(ops.softmax(backend.asarray(Z + t * u))))))
    assert numeric == pytest.approx(float(np.sum(u * backend.device.to_host(dz))), rel=1e-7)
    assert_close(backend.xp.sum(dz, axis=1), np.zeros(5), like=z, atol=1e-14)  # the scores' level does not matter


def test_the_last_axis_is_that_of_the_classes(backend):
    z = backend.asarray(np.random.default_rng(3).standard_normal((2, 3, 4)))
    y = ops.softmax(z)
    assert_close(y, plain(backend.device.to_host(z)), like=z, rtol=1e-14)
    dz = ops.softmax_backward(z, y)
    for i in range(2):
        assert_close(ops.softmax_backward(z[i, ...], y[i, ...]), backend.device.to_host(dz)[i], like=z, rtol=1e-14)
