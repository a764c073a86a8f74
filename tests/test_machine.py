import math
import os
import re
import sys

import numpy as np
import pytest

from gpunn import machine
from gpunn.environment import blas
from gpunn.errors import DeviceUnavailable, OptionError

VARIABLES = {name for names in (*machine._PINS.values(), *machine._THREADS.values()) for name in names}
OTHERS = {"NPY_DISABLE_CPU_FEATURES", "NUMBA_DISABLE_JIT", "GPUNN_FAST"}


@pytest.fixture
def healthy(monkeypatch):
    """A monkeypatch on a machine where nothing is wrong: 4 processors, as many threads, no variable set."""
    for name in VARIABLES | OTHERS:
        monkeypatch.delenv(name, raising=False)
    library(monkeypatch)
    compiler(monkeypatch)
    monkeypatch.setattr(machine, "usable_processors", lambda: 4)
    monkeypatch.setattr(machine, "rates", lambda size: {"product_flops": 50e9})
    without(monkeypatch)
    return monkeypatch


def library(monkeypatch, name="openblas", kernel="SkylakeX", threads=4):
    found = [{"library": name, "version": "1", "kernel": kernel, "threads": threads}]
    monkeypatch.setattr(machine, "blas", lambda: found)


def compiler(monkeypatch, **state):
    found = {"version": "1", "cache": "/cache"} | state
    monkeypatch.setattr(machine, "numba", lambda: found)


def without(monkeypatch, kernel="SkylakeX", flops=50e9, name="openblas"):
    """What a library would do without variables: it is asked which, and whether to measure."""
    asked = []
    monkeypatch.setattr(
        machine, "_without", lambda *args: asked.append(args) or {"kernels": {name: kernel}, "flops": flops}
    )
    return asked


# --- measuring


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rates_are_positive_numbers_on_every_device(backend, dtype):
    found = machine.rates(backend.device, dtype, size=20)
    assert found.keys() == {"product_flops", "copy_bytes"}
    assert all(isinstance(rate, float) and 0.0 < rate < math.inf for rate in found.values())
    assert 0.0 < machine.call_time(backend.device) < 1.0


def test_rates_count_what_is_done(monkeypatch):
    monkeypatch.setattr(machine, "_best", lambda device, f: f() is None or 2.0)  # the copy returns nothing
    made = []
    monkeypatch.setattr(machine.np.random, "default_rng", lambda seed: type("", (), {"random": shapes(made)}))
    found = machine.rates(size=8, dtype="float64")
    assert made == [(8, 8), (8, 8)]
    assert found == {"product_flops": 2 * 8**3 / 2.0, "copy_bytes": 2 * 32 * 8**2 / 1.0}


def shapes(made):
    def random(shape):
        made.append(shape)
        return np.ones(shape)

    return staticmethod(random)


def test_a_product_that_would_take_long_is_left_out(monkeypatch):
    sizes = []

    def best(device, f):
        product = f()
        if product is not None:
            sizes.append(len(product))
        return 1e-3 if product is None or len(product) < 1024 else 2.0

    monkeypatch.setattr(machine, "_best", best)
    machine.rates(size=1100)
    assert sizes == [256, 1024]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dtype": "float16"}, OptionError, "dtype 'float16' is not known; expected float32 or float64"),
        ({"size": 0}, OptionError, "size must be a whole number, 1 or more, got 0"),
        ({"device": "gpu"}, OptionError, "device 'gpu' is not known"),
        ({"device": "torch:nowhere"}, DeviceUnavailable, "not available"),
    ],
)
def test_rates_refuse_what_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        machine.rates(**arguments)


# --- advice


def only(**more):
    (warning,) = machine.advice(**more)
    assert warning.count("To mend it: ") == 1
    assert "\n" not in warning
    return warning


def test_a_healthy_machine_is_left_alone(healthy):
    assert machine.advice() == []


def test_a_variable_that_pins_a_kernel(healthy):
    healthy.setenv("OPENBLAS_CORETYPE", "Haswell")
    library(healthy, kernel="Haswell")
    asked = without(healthy, "SkylakeX", 93e9)
    assert only() == (
        "OPENBLAS_CORETYPE=Haswell: openblas computes with its kernel Haswell; for this CPU it would choose SkylakeX "
        "(float32 products of 1024^3: 50 GFLOP/s so, 93 without). To mend it: unset OPENBLAS_CORETYPE"
    )
    assert only(measure=False).endswith("it would choose SkylakeX. To mend it: unset OPENBLAS_CORETYPE")
    assert asked == [(["OPENBLAS_CORETYPE"], True), (["OPENBLAS_CORETYPE"], False)]


def test_all_variables_that_pin_are_mended_at_once(healthy):
    healthy.setenv("OPENBLAS_CORETYPE", "Haswell")
    healthy.setenv("OPENBLAS_L2_SIZE", "2048")
    library(healthy, kernel="Haswell")
    assert only().endswith("To mend it: unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE")


def test_a_pin_to_what_would_be_chosen_anyhow_is_no_harm(healthy):
    healthy.setenv("OPENBLAS_CORETYPE", "SkylakeX")
    assert machine.advice() == []


@pytest.mark.parametrize(
    ("name", "kernel", "variable"),
    [
        ("openblas", "SkylakeX", "OPENBLAS_L2_SIZE"),
        ("mkl", None, "MKL_DEBUG_CPU_TYPE"),
        ("mkl", None, "MKL_ENABLE_INSTRUCTIONS"),
    ],
)
def test_a_variable_whose_effect_is_not_told_is_judged_by_measuring(healthy, name, kernel, variable):
    healthy.setenv(variable, "5")
    library(healthy, name, kernel)
    without(healthy, kernel, 60e9, name)  # noise
    assert machine.advice() == []
    without(healthy, kernel, 80e9, name)
    assert re.fullmatch(rf"{variable}=5: {name} is slower .*50 GFLOP/s so, 80 without.* unset {variable}", only())
    assert machine.advice(measure=False) == []


def test_the_variable_of_another_library_is_no_harm(healthy):
    healthy.setenv("OPENBLAS_CORETYPE", "Haswell")
    library(healthy, "mkl", None)
    healthy.setattr(machine, "_without", None)
    assert machine.advice() == []


def test_where_a_process_cannot_be_started_nothing_is_said(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setattr(machine, "blas", lambda: [{"library": "openblas", "kernel": "Haswell", "threads": 1}])
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert list(machine._pinned(True)) == []


@pytest.mark.parametrize("measure", [False, True])
def test_a_process_without_the_variables_tells_of_its_libraries(monkeypatch, measure):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    free = machine._without(["OPENBLAS_CORETYPE"], measure)
    assert free["kernels"].keys() == {library["library"] for library in blas()} or len(blas()) > 1
    assert "Nehalem" not in free["kernels"].values()
    assert (free["flops"] is not None) == measure


@pytest.mark.parametrize(
    ("name", "given", "mend"),
    [
        ("openblas", {}, "OMP_NUM_THREADS=4"),
        ("openblas", {"OMP_NUM_THREADS": "64"}, "OMP_NUM_THREADS=4"),
        ("openblas", {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "64"}, "OPENBLAS_NUM_THREADS=4"),
        ("mkl", {"MKL_NUM_THREADS": "64"}, "MKL_NUM_THREADS=4"),
        ("flexiblas", {}, "OMP_NUM_THREADS=4"),
    ],
)
def test_more_threads_than_processors(healthy, name, given, mend):
    for variable, value in given.items():
        healthy.setenv(variable, value)
    healthy.setattr(os, "cpu_count", lambda: 64)
    library(healthy, name, threads=64)
    without(healthy, name=name)
    assert only() == (
        f"{name} computes with 64 threads, and this process can keep 4 of 64 processors busy: the others wait for "
        f"their turn. To mend it: export {mend}"
    )


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
def test_one_thread_where_there_are_processors(healthy, variable):
    healthy.setenv(variable, "1")
    library(healthy, threads=1)
    expected = f"{variable}=1: openblas computes with 1 thread where 4 processors may be used"
    assert only() == f"{expected}. To mend it: unset {variable}"


def test_one_thread_on_one_processor_and_half_the_threads_are_no_harm(healthy):
    healthy.setenv("OMP_NUM_THREADS", "2")  # as many as there are cores, say
    library(healthy, threads=2)
    assert machine.advice() == []
    healthy.setattr(machine, "usable_processors", lambda: 1)
    healthy.setenv("OMP_NUM_THREADS", "1")
    library(healthy, threads=1)
    assert machine.advice() == []


@pytest.mark.parametrize(
    ("built", "loaded", "system", "harm"),
    [
        ({"name": "blas", "found": True}, False, "linux", True),
        ({"name": "none"}, False, "linux", True),
        (None, False, "linux", True),
        ({"name": "blas", "found": True}, True, "linux", False),  # of conda: another stands in its place
        ({"name": "blas", "found": True}, False, "darwin", False),
        ({"name": "accelerate", "found": True}, False, "darwin", False),
        ({"name": "openblas", "found": True}, False, "linux", False),  # linked in, so that nothing is seen of it
    ],
)
def test_numpy_without_an_optimised_library(healthy, built, loaded, system, harm):
    dependencies = {} if built is None else {"blas": built}
    healthy.setattr(np, "show_config", lambda mode: {"Build Dependencies": dependencies})
    healthy.setattr(sys, "platform", system)
    if not loaded:
        healthy.setattr(machine, "blas", list)
    assert ["plain BLAS" in warning for warning in machine.advice()] == [True] * harm
    assert not harm or only().endswith("pip install --force-reinstall --only-binary numpy numpy")


def test_what_keeps_numba_from_its_work(healthy):
    compiler(healthy, cache=None)
    assert re.search("each process compiles anew.* export NUMBA_CACHE_DIR=", only())
    compiler(healthy)
    healthy.setenv("GPUNN_FAST", "0")
    assert only().startswith("GPUNN_FAST=0: ")
    healthy.setenv("GPUNN_FAST", "1")
    assert machine.advice() == []
    compiler(healthy, cache=None)
    healthy.setenv("NUMBA_DISABLE_JIT", "1")
    assert only().startswith("NUMBA_DISABLE_JIT: ")
    healthy.setattr(machine, "numba", lambda: None)
    assert machine.advice() == []


def test_instructions_that_numpy_does_without(healthy):
    healthy.setenv("NPY_DISABLE_CPU_FEATURES", "AVX512F")
    assert only().startswith("NPY_DISABLE_CPU_FEATURES=AVX512F: NumPy does without")
