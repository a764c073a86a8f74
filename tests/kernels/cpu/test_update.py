"""The updates in blocks, and those compiled by Numba, give what the reference gives: to the bit."""

import importlib.util
import inspect

import numpy as np
import pytest

from gpunn import ops
from gpunn.kernels.cpu import threads, update

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
    "l2_decay": {"rate": 0.1},
}
KINDS = ["blocks", "fast"] if importlib.util.find_spec("numba") else ["blocks"]


@pytest.fixture(params=KINDS)
def twins(request):
    if request.param == "blocks":
        return update.TWINS
    from gpunn.kernels.cpu.fast import update as fast

    return fast.TWINS


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(update, "BLOCK", 64)
    monkeypatch.setattr(update, "LEAST", 32)
    if "fast" in KINDS:
        monkeypatch.setattr("gpunn.kernels.cpu.fast.update.LEAST", 32)
    monkeypatch.setattr(threads, "threads", lambda: 2)


def test_every_twin_is_tested(twins):
    assert twins.keys() == CONSTANTS.keys()


@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize("size", [1, 63, 64, 65, 99, 230])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("step", [1, 2], ids=["together", "strided"])
def test_a_twin_gives_what_the_reference_gives_to_the_bit(twins, name, size, dtype, step, small_blocks):
    rng = np.random.default_rng(size)
    n_arrays = sum(p.kind == p.POSITIONAL_ONLY for p in inspect.signature(getattr(ops, name)).parameters.values())
    assert n_arrays >= 2
    arrays = [rng.random(step * size).astype(dtype)[::step] for _ in range(n_arrays)]
    arrays[1][: size // 3] *= -1.0
    arrays[1][size // 2] = 0.0
    expected = [a.copy() for a in arrays]
    getattr(ops, name).reference(*expected, **CONSTANTS[name])
    assert twins[name](*arrays, **CONSTANTS[name]) is None
    for got, wanted in zip(arrays, expected, strict=True):
        assert np.array_equal(got, wanted)


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_matrix_is_left_whole(twins, name, small_blocks):
    rng = np.random.default_rng(0)
    n_arrays = sum(p.kind == p.POSITIONAL_ONLY for p in inspect.signature(getattr(ops, name)).parameters.values())
    arrays = [rng.random((20, 10)) for _ in range(n_arrays)]
    expected = [a.copy() for a in arrays]
    getattr(ops, name).reference(*expected, **CONSTANTS[name])
    twins[name](*arrays, **CONSTANTS[name])
    assert all(np.array_equal(got, wanted) for got, wanted in zip(arrays, expected, strict=True))


@pytest.mark.parametrize("name", CONSTANTS)
def test_arrays_come_by_place_and_constants_by_name(name):
    """So that a twin can tell which arguments to cut into blocks."""
    kinds = {p.name: p.kind for p in inspect.signature(getattr(ops, name)).parameters.values()}
    by_name = {argument for argument, kind in kinds.items() if kind is inspect.Parameter.KEYWORD_ONLY}
    assert by_name == CONSTANTS[name].keys()
    assert {kind for argument, kind in kinds.items() if argument not in by_name} == {inspect.Parameter.POSITIONAL_ONLY}


def test_only_long_arrays_are_cut_into_blocks(monkeypatch):
    monkeypatch.setattr(update, "BLOCK", 64)
    sizes = []
    blocked = update._in_blocks(lambda w, g: sizes.append((w.size, g.size)))
    blocked(np.ones(64), np.ones(64))
    blocked(np.ones(150), np.ones(150))
    assert sizes == [(64, 64), (64, 64), (64, 64), (22, 22)]


@pytest.mark.parametrize("name", CONSTANTS)
def test_arrays_that_are_not_of_one_size_are_an_error(twins, name):
    n_arrays = sum(p.kind == p.POSITIONAL_ONLY for p in inspect.signature(getattr(ops, name)).parameters.values())
    for short in range(1, n_arrays):
        arrays = [np.ones(99 - (i == short), "float32") for i in range(n_arrays)]
        with pytest.raises(ValueError, match="shape"):
            twins[name](*arrays, **CONSTANTS[name])


@pytest.mark.parametrize("name", CONSTANTS)
def test_an_array_that_cannot_be_written_to_is_an_error_in_one_line(twins, name):
    n_arrays = sum(p.kind == p.POSITIONAL_ONLY for p in inspect.signature(getattr(ops, name)).parameters.values())
    for written in (0, *range(2, n_arrays)):  # the gradient is only read
        arrays = [np.ones(99, "float32") for _ in range(n_arrays)]
        arrays[written].flags.writeable = False
        with pytest.raises(ValueError, match=r"output array is read-only$"):
            twins[name](*arrays, **CONSTANTS[name])
