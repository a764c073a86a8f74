import numpy as np
import pytest

from gpunn import ops
from gpunn.testing import assert_close

SHAPES = [(6, 6), (3, 8), (8, 3), (1, 5), (5, 1), (1, 1)]


def matrix(shape):
    return np.random.default_rng(7).standard_normal(shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 1e-3)])
def test_each_singular_value_follows_the_polynomial_and_its_directions_stay(backend, shape, dtype, rtol):
    U, S, Vt = np.linalg.svd(matrix(shape), full_matrices=False)
    s = S / (np.sqrt((S**2).sum()) + 1e-7)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    G = backend.asarray(matrix(shape), dtype)
    assert_close(ops.orthogonalize(G), (U * s) @ Vt, like=G, rtol=rtol, atol=rtol)
    assert_close(G, matrix(shape).astype(dtype), like=G)


def test_singular_values_come_near_1(backend):
    U, _ = np.linalg.qr(matrix((40, 40)))
    V, _ = np.linalg.qr(matrix((60, 60)))
    G = (U * np.geomspace(1.0, 0.02, 40)) @ V[:40]
    found = np.linalg.svd(backend.device.to_host(ops.orthogonalize(backend.asarray(G))), compute_uv=False)
    assert found.min() > 0.65
    assert found.max() < 1.25


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_the_length_does_not_count(backend, scale):
    G = backend.asarray(matrix((4, 6)) * scale, "float32")
    expected = ops.orthogonalize(matrix((4, 6)))
    assert_close(ops.orthogonalize(G), expected, like=G, rtol=1e-3, atol=1e-3)


def test_nothing_stays_nothing(backend):
    G = backend.asarray(np.zeros((3, 4)), "float32")
    assert_close(ops.orthogonalize(G), np.zeros((3, 4)), like=G)


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (2, 2, 3, 4)])
def test_muon_moves_the_weights_along_the_orthogonal_matrix(backend, shape):
    rng = np.random.default_rng(3)
    w, g, v = (rng.standard_normal(shape) for _ in range(3))
    arrays = [backend.device.asarray(a.copy()) for a in (w, g, v)]  # two of them are written to
    assert ops.muon(*arrays, eta=0.1, mu=0.8) is None
    momentum = 0.8 * v + g
    turn = ops.orthogonalize((g + 0.8 * momentum).reshape(-1, shape[-1])).reshape(shape)
    for got, wanted in zip(arrays, (w - 0.1 * turn, g, momentum), strict=True):
        assert_close(got, wanted, like=arrays[1], rtol=1e-9)
