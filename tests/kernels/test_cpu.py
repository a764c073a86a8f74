import inspect

import numpy as np
import pytest

from gpunn import ops
from gpunn.kernels.cpu import TWINS
from gpunn.kernels.cpu.update import BLOCK

CONSTANTS = {
    "sgd": {"eta": 0.1},
    "momentum": {"eta": 0.1, "mu": 0.9},
    "nesterov": {"eta": 0.1, "mu": 0.9},
    "adam": {"eta": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "t": 3},
    "rmsprop": {"eta": 0.1, "rho": 0.9, "epsilon": 1e-8},
    "adagrad": {"eta": 0.1, "epsilon": 1e-8},
}


def test_every_twin_is_tested():
    assert TWINS.keys() == CONSTANTS.keys()


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("size", [1, 7, BLOCK, BLOCK + 1, 3 * BLOCK - 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_give_what_the_reference_gives_to_the_bit(name, size, dtype):
    rng = np.random.default_rng(size)
    n_arrays = sum(p.kind == p.POSITIONAL_OR_KEYWORD for p in inspect.signature(getattr(ops, name)).parameters.values())
    arrays = [rng.random(size).astype(dtype) for _ in range(n_arrays)]
    expected = [a.copy() for a in arrays]
    getattr(ops, name).reference(*expected, **CONSTANTS[name])
    getattr(ops, name)(*arrays, **CONSTANTS[name])
    for got, wanted in zip(arrays, expected, strict=True):
        assert np.array_equal(got, wanted)


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_has_the_signature_of_its_op(name):
    assert inspect.signature(TWINS[name]) == inspect.signature(getattr(ops, name).reference)
