"""Muon's update beside its reference."""

import numpy as np
import pytest

from gpunn import ops
from gpunn.device import to_host
from gpunn.kernels.cuda import constants
from gpunn.kernels.cuda.orthogonal import TWINS
from tests.kernels.cuda.arrays import dtypes, normal

NEAR = {"float32": 1e-4, "float64": 1e-10}  # five steps, each of which enlarges what was rounded before
SHAPES = [(6, 6), (3, 8), (8, 3), (1, 5), (5, 1), (40, 33), (2, 3, 4, 5)]


@dtypes
@pytest.mark.parametrize("shape", SHAPES)
def test_muon(gpu, lt, compare, shape, dtype):
    arrays = [normal(shape, dtype) for _ in range(3)]
    wanted, got = [a.copy() for a in arrays], [gpu.asarray(a) for a in arrays]
    ops.muon.reference(*wanted, eta=0.1, mu=0.9)
    TWINS["muon"](*got, eta=0.1, mu=0.9)
    compare(tuple(got), tuple(wanted), NEAR[dtype])
    fixed = [gpu.asarray(a) for a in arrays]
    with constants.placed(gpu.asarray(np.array([0.1, 0.9, *[0.0] * 6])), ["muon"]):  # whatever the arguments say
        TWINS["muon"](*fixed, eta=0.5, mu=0.5)
    assert all(np.array_equal(to_host(a), to_host(b)) for a, b in zip(got, fixed, strict=True))


def test_whole_numbers_are_constants_too(gpu, lt, compare):
    arrays = [normal((3, 8), "float64") for _ in range(3)]
    wanted, got = [a.copy() for a in arrays], [gpu.asarray(a) for a in arrays]
    ops.muon.reference(*wanted, eta=1, mu=0)
    TWINS["muon"](*got, eta=1, mu=0)
    compare(tuple(got), tuple(wanted), NEAR["float64"])


@dtypes
@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_orthogonalize(gpu, lt, compare, shape, dtype):
    G = normal(shape, dtype)
    place = gpu.asarray(G)
    compare(TWINS["orthogonalize"](place), ops.orthogonalize.reference(G), NEAR[dtype])
    compare(
        TWINS["orthogonalize"](place, steps=2, epsilon=0.5),
        ops.orthogonalize.reference(G, steps=2, epsilon=0.5),
        NEAR[dtype],
    )
    compare(place, G, 1e-300)
    compare(TWINS["orthogonalize"](gpu.asarray(0 * G)), 0 * G, 1e-300)
