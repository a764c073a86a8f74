import inspect
from types import SimpleNamespace

import numpy as np
import pytest

from gpunn import ops
from gpunn.kernels.cpu import update
from gpunn.kernels.cpu.update import TWINS

CONSTANTS = {
    "sgd": {"eta": 0.1},
    "momentum": {"eta": 0.1, "mu": 0.9},
    "nesterov": {"eta": 0.1, "mu": 0.9},
    "adam": {"eta": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "t": 3},
    "rmsprop": {"eta": 0.1, "rho": 0.9, "epsilon": 1e-8},
    "adagrad": {"eta": 0.1, "epsilon": 1e-8},
    "nadam": {"eta": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "t": 3},
    "adamax": {"eta": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "t": 3},
    "adadelta": {"eta": 0.1, "rho": 0.9, "epsilon": 1e-8},
    "lion": {"eta": 0.1, "beta1": 0.9, "beta2": 0.99},
}


def test_every_twin_is_tested():
    assert TWINS.keys() == CONSTANTS.keys()


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("size", [1, 99, 100, 101, 230])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_give_what_the_reference_gives_to_the_bit(name, size, dtype, monkeypatch):
    monkeypatch.setattr(update, "LARGE", 100)
    monkeypatch.setattr(update, "BLOCK", 64)
    rng = np.random.default_rng(size)
    n_arrays = sum(p.kind == p.POSITIONAL_ONLY for p in inspect.signature(getattr(ops, name)).parameters.values())
    assert n_arrays >= 2
    arrays = [rng.random(size).astype(dtype) for _ in range(n_arrays)]
    expected = [a.copy() for a in arrays]
    getattr(ops, name).reference(*expected, **CONSTANTS[name])
    getattr(ops, name)(*arrays, **CONSTANTS[name])
    for got, wanted in zip(arrays, expected, strict=True):
        assert np.array_equal(got, wanted)


@pytest.mark.parametrize("name", TWINS)
def test_arrays_come_by_place_and_constants_by_name(name):
    """So that a twin can tell which arguments to cut into blocks."""
    kinds = {p.name: p.kind for p in inspect.signature(getattr(ops, name)).parameters.values()}
    by_name = {argument for argument, kind in kinds.items() if kind is inspect.Parameter.KEYWORD_ONLY}
    assert by_name == CONSTANTS[name].keys()
    assert {kind for argument, kind in kinds.items() if argument not in by_name} == {inspect.Parameter.POSITIONAL_ONLY}


def test_only_long_arrays_are_cut_into_blocks(monkeypatch):
    monkeypatch.setattr(update, "LARGE", 100)
    monkeypatch.setattr(update, "BLOCK", 64)
    sizes = []
    blocked = update._in_blocks(SimpleNamespace(reference=lambda w, g: sizes.append((w.size, g.size))))
    blocked(np.ones(99), np.ones(99))
    blocked(np.ones(150), np.ones(150))
    assert sizes == [(99, 99), (64, 64), (64, 64), (22, 22)]
