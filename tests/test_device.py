import copy
import ctypes
import functools
import importlib
import importlib.machinery
import importlib.util
import os
import pickle
import re
import subprocess
import sys
import types
from importlib import metadata

import array_api_compat
import numpy as np
import pytest

import gpunn as gn
from gpunn.testing import assert_close, backends

module = importlib.import_module("gpunn.device")  # the name gpunn.device is the function
probe_cuda = module.probe_cuda

OTHERS = [pytest.param(other, id=other.name) for other in backends()]
X = np.array([[0.0, 1.5, -2.0], [3.0, 4.0, 5.25]])


@pytest.fixture
def fresh(monkeypatch):
    """Nothing probed or announced yet; and what a test makes the probe find is forgotten after it."""
    monkeypatch.setattr(module, "_announced", set())
    probe_cuda.cache_clear()
    yield
    probe_cuda.cache_clear()


def run_python(code, **environment):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=os.environ | environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run


# --- names


@pytest.mark.parametrize(
    ("spec", "name", "backend"),
    [
        ("cpu", "cpu", "numpy"),
        ("torch:cpu", "torch:cpu", "torch"),
        ("strict:cpu", "strict:cpu", "strict"),
        ("strict:device1", "strict:device1", "strict"),
    ],
)
def test_a_device_is_found_by_its_name(spec, name, backend):
    if backend == "torch":
        pytest.importorskip("torch")
    found = gn.device(spec)
    assert (found.name, str(found), found.backend, found.on_host) == (name, name, backend, True)
    assert found.reason == "asked for by name"


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "gpu",
        "CPU",
        " cpu",
        "cpu:0",
        "cuda:",
        "cuda:x",
        "cuda:-1",
        "cuda:0:1",
        "torch",
        "torch:",
        "strict",
        "strict:",
    ],
)
def test_an_unknown_name_is_told_with_the_names_there_are(spec):
    with pytest.raises(gn.OptionError, match=rf"^device '{spec}' is not known; expected auto, cpu, cuda, .*device1$"):
        gn.device(spec)


@pytest.mark.parametrize("spec", [0, True, b"cpu", ["cpu"], np])
def test_what_is_no_name_is_an_unknown_device(spec):
    with pytest.raises(gn.OptionError, match="is not known; expected auto, cpu, cuda"):
        gn.device(spec)


def test_an_unknown_strict_device_is_told_with_those_there_are():
    with pytest.raises(gn.OptionError, match=r"'strict:device9' is not known; expected strict:cpu, strict:device1 or"):
        gn.device("strict:device9")


def test_a_device_is_passed_through(backend):
    assert gn.device(backend.device) is backend.device


@pytest.mark.parametrize("spec", [None, "auto"])
def test_the_environment_variable_chooses_where_no_device_is_named(spec, monkeypatch, capsys):
    monkeypatch.setenv("GPUNN_DEVICE", "strict:device1")
    found = gn.device(spec)
    assert (found.name, found.reason) == ("strict:device1", "GPUNN_DEVICE asks for it")
    assert capsys.readouterr().err == ""


def test_a_name_wins_over_the_environment_variable(monkeypatch):
    monkeypatch.setenv("GPUNN_DEVICE", "strict:device1")
    assert gn.device("cpu").name == "cpu"
    assert gn.device(gn.device("cpu")).name == "cpu"


@pytest.mark.parametrize("value", ["", "auto"])
def test_an_empty_environment_variable_means_auto(value, monkeypatch, fresh, capsys):
    monkeypatch.setattr(module, "_driver_version", raises(OSError("libcuda.so.1 is not found")))
    monkeypatch.setenv("GPUNN_DEVICE", value)
    assert gn.device().name == "cpu"
    assert "libcuda" in capsys.readouterr().err


def test_an_unknown_name_in_the_environment_variable_says_where_it_is_from(monkeypatch):
    monkeypatch.setenv("GPUNN_DEVICE", "gpu")
    with pytest.raises(gn.OptionError, match="'gpu' is not known; it comes from GPUNN_DEVICE; expected"):
        gn.device()


@pytest.mark.parametrize(("name", "package"), [("torch", "torch"), ("array_api_strict", "array-api-strict")])
def test_a_library_that_is_not_installed_is_told_with_the_command(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)  # makes its import fail
    kind = name.rpartition("_")[2]
    with pytest.raises(
        gn.DeviceUnavailable, match=f"'{kind}:cpu' .* not installed. To mend it: pip install {package}$"
    ):
        gn.device(f"{kind}:cpu")
    monkeypatch.setenv("GPUNN_DEVICE", f"{kind}:cpu")
    with pytest.raises(gn.DeviceUnavailable, match=r"is not installed, and GPUNN_DEVICE asks for it. To mend it: pip"):
        gn.device()


def test_a_torch_that_does_not_work_is_told_apart_from_one_that_is_not_there(monkeypatch):
    broken = types.ModuleType("torch")
    broken.ones = raises(RuntimeError("undefined symbol: iJIT\nand many more lines"))
    monkeypatch.setitem(sys.modules, "torch", broken)
    with pytest.raises(
        gn.DeviceUnavailable, match=r"available: undefined symbol: iJIT\. To mend it: choose \"torch:cpu"
    ):
        gn.device("torch:cpu")


@pytest.mark.parametrize("name", ["torch:nowhere", "torch:cuda:99", "torch:meta"])
def test_a_torch_device_that_cannot_be_had_is_an_error_of_one_line(name):
    pytest.importorskip("torch")
    with pytest.raises(gn.DeviceUnavailable, match=f"^device '{name}' is not available: ") as caught:
        gn.device(name)
    assert caught.value.device == name
    assert "\n" not in str(caught.value)


# --- a Device


def test_devices_are_equal_and_hash_by_name():
    a, b = gn.device("strict:device1"), gn.device_of(gn.device("strict:device1").asarray([1.0]))
    assert a.reason != b.reason
    assert a == b
    assert len({a, b, gn.device("strict:cpu"), gn.device("cpu")}) == 3
    assert a != "strict:device1"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_device_survives_copying(backend, duplicate, monkeypatch):
    monkeypatch.setenv("GPUNN_DEVICE", "gpu")  # which must not be asked
    again = duplicate(backend.device)
    assert again == backend.device
    assert (again.xp, again.native) == (backend.device.xp, backend.device.native)


def test_a_device_cannot_be_changed():
    with pytest.raises(AttributeError):
        gn.device("cpu").name = "cuda:0"


def test_a_device_waits_and_tells_its_memory(backend):
    backend.device.synchronize()
    free, total = backend.device.memory()
    assert 0 < free <= total


def test_memory_is_none_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert gn.device("cpu").memory() is None


def test_what_pytorch_keeps_for_arrays_to_come_is_free(monkeypatch):
    """Otherwise data might stay on the host for want of memory that the fit before has used."""
    told = {"mem_get_info": (30, 100), "memory_reserved": 60, "memory_allocated": 15}
    cuda = types.SimpleNamespace(**{name: lambda device, value=value: value for name, value in told.items()})
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    assert gn.Device("torch:cuda:0", None, None).memory() == (75, 100)


# --- arrays to a device


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
def test_a_numpy_array_keeps_its_data_type_and_values(backend, dtype):
    x = np.abs(X).astype(dtype)
    y = backend.device.asarray(x)
    assert gn.device_of(y) == backend.device
    assert y.dtype == backend.device.dtype(dtype)
    assert gn.to_host(y).dtype == x.dtype
    np.testing.assert_array_equal(gn.to_host(y), x)
    np.testing.assert_array_equal(backend.device.to_host(y), x)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("given", ["uint8", "int64", "float32", "float64", ">f4", "<i2", "float16", "longdouble"])
def test_a_data_type_is_converted_to_the_one_named(backend, given, dtype):
    x = np.abs(X).astype(given)
    assert_close(backend.device.asarray(x, dtype), x.astype(dtype), like=backend.device.zeros(1, dtype))


@pytest.mark.parametrize("given", ["float32", "uint8"])
def test_an_array_that_is_here_is_converted_to_the_data_type_named(backend, given):
    x = backend.device.asarray(np.abs(X), given)
    y = backend.device.asarray(x, "float64")
    assert_close(y, np.abs(X).astype(given), like=backend.device.zeros(1, "float64"))
    assert x.dtype == backend.device.dtype(given)


@pytest.mark.parametrize("other", OTHERS)
def test_arrays_go_from_any_backend_to_any_other(backend, other):
    x = other.asarray(X, "float32")
    assert_close(backend.device.asarray(x), X, like=backend.device.zeros(1, "float32"))
    assert_close(backend.device.asarray(x, "float64"), X, like=backend.device.zeros(1, "float64"))


@pytest.mark.parametrize("dtype", [None, "float64"])
def test_an_array_that_is_right_already_is_not_copied(backend, dtype):
    x = backend.device.asarray(X)
    assert backend.device.asarray(x, dtype) is x


@pytest.mark.parametrize(
    "x", [[[1, 2], [3, 4]], ((1.0, 2.0),), [np.float32(1), 2], range(3), [], 3, 2.5, True, np.float64(3), np.int32(3)]
)
def test_numbers_in_lists_and_alone_become_arrays(backend, x):
    y = backend.device.asarray(x, "float32")
    assert isinstance(y, type(backend.device.zeros(1, "float32")))
    assert_close(y, np.asarray(x), like=backend.device.zeros(1, "float32"))
    assert gn.device_of(backend.device.asarray(x)) == backend.device


@pytest.mark.parametrize(
    "x", [X[::-1], X[:, ::-1], X.T, X[:, ::2], X[:0], np.broadcast_to(X[0], (4, 3)), X.view(np.matrix), X.astype(">f8")]
)
def test_any_layout_in_memory_is_taken(backend, x):
    before = np.array(x)
    assert_close(backend.device.asarray(x), before, like=backend.device.zeros(1, "float64"))
    np.testing.assert_array_equal(x, before)


def test_a_read_only_array_is_taken_and_stays_as_it_is(backend):
    x = X.copy()
    x.flags.writeable = False
    y = backend.device.asarray(x)
    assert_close(y, X, like=backend.device.zeros(1, "float64"))
    assert not x.flags.writeable


def test_a_matrix_becomes_a_plain_array():
    assert type(gn.device("cpu").asarray(X.view(np.matrix))) is np.ndarray


def test_a_list_of_arrays_is_taken():
    strict = gn.device("strict:cpu")
    assert_close(gn.device("cpu").asarray([X[0], X[1]]), X, like=X)
    assert_close(gn.device("cpu").asarray([strict.asarray(row) for row in X]), X, like=X)


def test_torch_tensors_of_its_own_differentiation_are_taken_without_it():
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, requires_grad=True)
    for where in map(gn.device, ("torch:cpu", "cpu", "strict:device1")):
        for recorded in (x, x * 1.0):
            y = where.asarray(recorded)
            assert_close(y, X, like=where.zeros(1, "float64"))
            assert not getattr(y, "requires_grad", False)
    assert x.requires_grad


def test_a_data_type_of_torch_alone_is_converted_or_told():
    torch = pytest.importorskip("torch")
    x = torch.ones(2, dtype=torch.bfloat16)
    assert_close(gn.device("torch:cpu").asarray(x, "float32"), [1, 1], like=torch.ones(1))
    with pytest.raises(gn.DtypeError, match=r"^Tensor that is not a rectangular array of numbers \(.*BFloat16\); make"):
        gn.to_host(x)


NO_NUMBERS = {
    "text": "abc",
    "bytes": b"abc",
    "nothing": None,
    "a list of nothing": [None, 1.0],
    "text in a list": [1.0, "a"],
    "an array of text": np.array(["a"]),
    "an array of objects": np.array([{}]),
    "a complex number": 1j,
    "an array of complex numbers": np.array([1j]),
    "a number too large": 10**400,
    "a date": np.datetime64("2020-01-01"),
    "an array of dates": np.array(["2020-01-01"], "datetime64[D]"),
    "a dictionary": {"x": 1},
    "a generator": (i for i in range(3)),
    "a function": len,
}


@pytest.mark.parametrize("dtype", [None, "float32"])
@pytest.mark.parametrize("x", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_is_no_number_is_named(backend, x, dtype):
    with pytest.raises(gn.DtypeError, match=rf"^{type(x).__name__} of \S+ where real numbers are expected; convert it"):
        backend.device.asarray(x, dtype)


@pytest.mark.parametrize("x", [[[1.0], [1.0, 2.0]], [[1.0], 2.0], [X, X[0]]])
def test_lists_of_unequal_lengths_are_named(backend, x):
    with pytest.raises(gn.DtypeError, match=r"^list that is not a rectangular array of numbers \(.*\); make it a"):
        backend.device.asarray(x)


def test_a_list_that_holds_itself_is_an_error():
    x = []
    x.append(x)
    with pytest.raises(gn.DtypeError, match="list that is not a rectangular array"):
        gn.to_host(x)


def test_a_list_of_arrays_that_cannot_be_looked_at_is_an_error():
    with pytest.raises(gn.DtypeError, match=r"list that is not a rectangular array of numbers \(.*device1"):
        gn.to_host([gn.device("strict:device1").asarray(X)])


@pytest.mark.parametrize("name", ["strict:cpu", "torch:cpu"])
def test_complex_arrays_are_refused_where_they_are(name):
    if name == "torch:cpu":
        pytest.importorskip("torch")
    here = gn.device(name)
    x = here.xp.asarray([1j], device=here.native)
    for where in (here, gn.device("cpu")):
        with pytest.raises(gn.DtypeError, match=r"complex\d+ where real numbers are expected"):
            where.asarray(x)


def test_a_data_type_the_library_has_not_is_told():
    with pytest.raises(gn.DtypeError, match=r"^strict:cpu has no data type float16; convert the array"):
        gn.device("strict:cpu").asarray(np.ones(2, "float16"))


@pytest.mark.parametrize("dtype", ["float33", "", "sum", "object", "str", "complex64", len])
def test_an_unknown_data_type_is_named(backend, dtype):
    where = backend.device
    for use in (where.dtype, functools.partial(where.zeros, 3), functools.partial(where.asarray, X)):
        with pytest.raises(gn.DtypeError, match=f"^{where.name} has no data type .*; expected float32, float64 or"):
            use(dtype)


@pytest.mark.parametrize("dtype", ["float32", "f4", np.float32, np.dtype("float32")])
def test_a_data_type_is_taken_as_numpy_names_it(backend, dtype):
    assert backend.device.zeros(3, dtype).dtype == backend.device.asarray(X, dtype).dtype == backend.xp.float32


@pytest.mark.parametrize("shape", [3, (), (0, 2), (2, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_zeros_are_zeros_on_the_device(backend, shape, dtype):
    x = backend.device.zeros(shape, dtype)
    assert gn.device_of(x) == backend.device
    assert x.dtype == backend.device.dtype(dtype)
    np.testing.assert_array_equal(gn.to_host(x), np.zeros(shape))


@pytest.mark.parametrize("shape", [0, 7, 4096, (3, 5), (), (0, 4)])
def test_zeros_of_numpy_begin_at_cache_lines_and_at_different_places_of_a_page(shape):
    arrays = [gn.device("cpu").zeros(shape, "float32") for _ in range(5)]
    starts = [a.__array_interface__["data"][0] % 4096 for a in arrays if a.size]
    assert all(start % 64 == 0 for start in starts)
    assert len(set(starts[:4])) == len(starts[:4])
    assert all(a.flags.c_contiguous and a.flags.writeable for a in arrays)


@pytest.mark.parametrize("other", OTHERS)
def test_a_device_holds_its_own_arrays_alone(backend, other):
    assert backend.device.holds(other.asarray(X)) == (backend.device == other.device)


@pytest.mark.parametrize("x", [1.0, [1.0], None, "abc", np.float64(1)])
def test_a_device_holds_nothing_but_arrays(backend, x):
    assert not backend.device.holds(x)


# --- arrays tell where they are


def test_an_array_tells_its_device_and_namespace(backend):
    x = backend.asarray(X)
    assert gn.device_of(x) == backend.device
    assert gn.device_of(x).native == backend.device.native
    assert gn.device_of(x).reason == "where the array is"
    assert gn.namespace(x) is backend.xp
    assert gn.device_of(x).xp is backend.xp


@pytest.mark.parametrize("find", [gn.namespace, gn.device_of])
@pytest.mark.parametrize("x", [None, 1.0, [1.0], "abc"])
def test_what_is_no_array_has_no_device(find, x):
    with pytest.raises(gn.DtypeError, match=f"^expected an array, got {type(x).__name__}; convert it, with numpy"):
        find(x)


def test_a_library_gpunn_does_not_know_has_no_device():
    class Foreign:  # an array of some other library of the standard
        def __array_namespace__(self, api_version=None):
            return np

    with pytest.raises(gn.DtypeError, match=r"^arrays of .* are not computed with here; convert them with numpy"):
        gn.device_of(Foreign())


@pytest.mark.parametrize("name", ["add", "exp", "matmul"])
def test_out_is_used_by_numpy_and_does_no_harm_elsewhere(backend, name):
    function = getattr(backend.xp, name)
    x = backend.asarray(X[:, :2])
    args = (x,) if name == "exp" else (x, x)
    out = backend.device.zeros((2, 2), "float64")
    y = function(*args, out=out)
    assert_close(y, getattr(np, name)(*map(gn.to_host, args)), like=out)
    if backend.device.backend in ("numpy", "cupy"):
        assert y is out
    else:
        np.testing.assert_array_equal(gn.to_host(out), np.zeros((2, 2)))


def test_a_namespace_has_no_more_than_its_library(backend):
    assert backend.xp.pi == np.pi
    assert backend.xp.finfo(backend.device.dtype("float32")).eps == np.finfo("float32").eps
    with pytest.raises(AttributeError, match="no_such_function"):
        _ = backend.xp.no_such_function


# --- is there a GPU? Faults are injected at each step of the probe


def raises(error):
    def function(*args, **kwargs):
        raise error

    return function


def returns(value):
    return lambda *args, **kwargs: value


class FakeDevice:
    """As much of cupy.cuda.Device as gpunn uses."""

    current = 0
    waited_for = None
    mem_info = (1, 2)

    def __init__(self, index):
        self.id = index

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def use(self):
        FakeDevice.current = self.id

    def synchronize(self):
        FakeDevice.waited_for = self.id


def fake_cupy(runtime=None, **changes):
    """A CuPy that computes with NumPy and finds two GPUs, but for the changes."""
    cupy = types.ModuleType("cupy")
    cupy.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    cupy.__version__ = "14.2.0"
    cupy.ndarray = type("ndarray", (np.ndarray,), {"__matmul__": changes.pop("matmul", np.ndarray.__matmul__)})
    cupy.float32 = np.float32
    cupy.arange = lambda n, dtype: np.arange(n, dtype=dtype).view(cupy.ndarray)
    cupy.asnumpy = np.asarray
    pool = types.SimpleNamespace(free_bytes=returns(5), used_bytes=returns(3), get_limit=returns(0))
    cupy.get_default_memory_pool = returns(pool)
    all_well = {
        "getDeviceCount": returns(2),
        "runtimeGetVersion": returns(13020),
        "getDeviceProperties": returns({"name": b"NVIDIA H200", "totalGlobalMem": 141 * 2**30}),
    }
    cupy.cuda = types.SimpleNamespace(Device=FakeDevice, runtime=types.SimpleNamespace(**all_well | (runtime or {})))
    vars(cupy).update(changes)
    return cupy


@pytest.fixture
def install(monkeypatch, fresh):
    """A function that puts a driver and a CuPy in place: a fake module, or None for one that is not installed."""

    def install(cupy, version=13000):
        find_spec = importlib.util.find_spec
        monkeypatch.setattr(module, "_driver_version", returns(version))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: cupy and find_spec(name))
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        for holder, name in (sys.modules, "array_api_compat.cupy"), (vars(array_api_compat), "cupy"):
            monkeypatch.setitem(holder, name, cupy)

    return install


CUDA_ERROR = {
    "insufficient": RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime"),
    "none": RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected"),
    "unknown": RuntimeError("cudaErrorUnknown: unknown error\nsecond line"),
    "busy": RuntimeError("cudaErrorDevicesUnavailable: CUDA-capable device(s) is/are busy or unavailable"),
    "memory": MemoryError("Out of memory allocating 1,024 bytes (allocated so far: 0 bytes)."),
}
NO_NVRTC = type("DynamicLibNotFoundError", (RuntimeError,), {})('Failure finding "nvrtc64_130_0.dll": No such file')
HALF_NVRTC = Exception("nvrtc: error: failed to open libnvrtc-builtins.so.13.0.\n  Make sure that")
NO_CUDART = RuntimeError(
    "CuPy failed to load libcudart.so.13: OSError: libcudart.so.13: cannot open shared object file"
)
NO_CUBLAS = ImportError('Failure finding "libcublasLt.so.13": No such file')
NO_HEADERS = RuntimeError("Failed to find CUDA headers. Please install the CUDA Toolkit or set CUDA_PATH")
NO_HEADER = Exception('a.cu(1): catastrophic error: could not open source file "vector_types.h"\n  #include')
OLD_GPU = Exception("nvrtc: error: invalid value for --gpu-architecture (-arch)\n")

CTK13, CTK12 = r'pip install "cupy-cuda13x\[ctk\]>=14"', r'pip install "cupy-cuda12x\[ctk\]>=14"'
UNINSTALL = "pip uninstall cupy cupy-cuda12x cupy-cuda13x"
LIBRARIES = r"CuPy lacks its CUDA libraries \(.+\)"
FAULTS = {
    "no CuPy": (None, 13000, "CuPy is not installed", CTK13),
    "no CuPy, newer driver": (None, 14010, "CuPy is not installed", CTK13),
    "no CuPy, older driver": (None, 12080, "CuPy is not installed", CTK12),
    "no CuPy, too old a driver": (
        None,
        11040,
        "CuPy is not installed",
        f"update the NVIDIA driver, which offers CUDA 11.4, then {CTK13}",
    ),
    "what an uninstalled CuPy left": (
        {"cuda": None},
        13000,
        r"CuPy does not import \('NoneType' object has no attribute 'runtime'\)",
        f"{UNINSTALL}, then {CTK13}",
    ),
    "driver too old for this CuPy": (
        {"runtime": {"getDeviceCount": raises(CUDA_ERROR["insufficient"])}},
        12040,
        "the NVIDIA driver is too old: it offers CUDA 12.4, CuPy is made for CUDA 13",
        f"update the driver, or {UNINSTALL} and {CTK12}",
    ),
    "driver too old for any CuPy": (
        {"runtime": {"getDeviceCount": raises(CUDA_ERROR["insufficient"]), "runtimeGetVersion": returns(12090)}},
        11040,
        "the NVIDIA driver is too old: it offers CUDA 11.4, CuPy is made for CUDA 12",
        "update the driver",
    ),
    "driver at odds with CuPy": (
        {"runtime": {"getDeviceCount": raises(CUDA_ERROR["insufficient"])}},
        13000,
        "the NVIDIA driver is too old: it offers CUDA 13.0, CuPy is made for CUDA 13",
        "update the driver",
    ),
    "no device": (
        {"runtime": {"getDeviceCount": raises(CUDA_ERROR["none"])}},
        13000,
        "the driver finds no GPU",
        "check that nvidia-smi lists one, and CUDA_VISIBLE_DEVICES",
    ),
    "count 0": (
        {"runtime": {"getDeviceCount": returns(0)}},
        13000,
        "the driver finds no GPU",
        "check that nvidia-smi lists one, and CUDA_VISIBLE_DEVICES",
    ),
    "another error at the start": (
        {"runtime": {"getDeviceCount": raises(CUDA_ERROR["unknown"])}},
        13000,
        r"CUDA does not start \(cudaErrorUnknown: unknown error\)",
        "check that nvidia-smi works; restart the machine if its driver was just updated",
    ),
    "no NVRTC": ({"arange": raises(NO_NVRTC)}, 13000, LIBRARIES, CTK13),
    "half of NVRTC": ({"arange": raises(HALF_NVRTC)}, 13000, LIBRARIES, CTK13),
    "no CUDA runtime": ({"arange": raises(NO_CUDART)}, 13000, LIBRARIES, CTK13),
    "no headers": ({"arange": raises(NO_HEADERS)}, 13000, LIBRARIES, CTK13),
    "no header, as NVRTC says it": ({"arange": raises(NO_HEADER)}, 13000, LIBRARIES, CTK13),
    "no cuBLAS": ({"matmul": raises(NO_CUBLAS)}, 13000, LIBRARIES, CTK13),
    "no cuBLAS, CuPy for an older CUDA": (
        {"matmul": raises(NO_CUBLAS), "runtime": {"runtimeGetVersion": returns(12090)}},
        13000,
        LIBRARIES,
        CTK12,
    ),
    "GPU too old": (
        {"arange": raises(OLD_GPU)},
        13000,
        "the GPU is too old for CUDA 13",
        f"{UNINSTALL}, then {CTK12}",
    ),
    "GPU in use": (
        {"arange": raises(CUDA_ERROR["busy"])},
        13000,
        r"a kernel fails \(cudaErrorDevicesUnavailable: .*\)",
        "see with nvidia-smi that the GPU works and has memory to spare; update the driver and CuPy",
    ),
    "no memory": (
        {"arange": raises(CUDA_ERROR["memory"])},
        13000,
        r"a kernel fails \(Out of memory.*\)",
        "see with .*",
    ),
    "a copy fails": ({"asnumpy": raises(CUDA_ERROR["unknown"])}, 13000, r"a kernel fails \(.*\)", "see with .*"),
    "a product fails": ({"matmul": raises(CUDA_ERROR["unknown"])}, 13000, r"a matrix product fails \(.*\)", "see .*"),
    "an error that says nothing": ({"arange": raises(ValueError())}, 13000, r"a kernel fails \(ValueError\)", "see .*"),
    "wrong numbers": (
        {"asnumpy": lambda x: np.asarray(x) + 1},
        13000,
        "a kernel or a matrix product gives wrong numbers",
        "update the driver and CuPy; test the GPU",
    ),
    "wrong product": (
        {"matmul": lambda x, y: np.ndarray.__matmul__(x, y) * 1.01},
        13000,
        "a kernel or a matrix product gives wrong numbers",
        "update the driver and CuPy; test the GPU",
    ),
    "not a number": (
        {"matmul": lambda x, y: x * np.nan},
        13000,
        "a kernel or a matrix product gives wrong numbers",
        "update the driver and CuPy; test the GPU",
    ),
}


@pytest.mark.parametrize(("changes", "version", "reason", "fix"), FAULTS.values(), ids=FAULTS)
def test_each_fault_has_its_reason_and_its_fix(changes, version, reason, fix, install, capsys):
    install(None if changes is None else fake_cupy(**changes), version)
    report = probe_cuda(0)
    assert (report.name, report.available) == ("cuda:0", False)
    assert_matches(report.reason, reason)
    assert_matches(report.fix, fix)

    with pytest.raises(gn.DeviceUnavailable) as caught:
        gn.device("cuda")
    assert str(caught.value) == f"device 'cuda:0' is not available: {report.reason}. To mend it: {report.fix}"

    found = gn.device("auto")
    assert (found.name, found.xp) == ("cpu", np)
    gn.device("auto")
    assert capsys.readouterr().err == f"gpunn: device cpu ({report.reason}; to use a GPU: {report.fix})\n"
    assert report in gn.devices()


def assert_matches(text, pattern):
    assert re.fullmatch(pattern, text), f"{text!r} is not {pattern!r}"
    assert "\n" not in text


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('libfoo.so.1: cannot open')", "libfoo.so.1: cannot open"),
        (
            "try: import no_such_module_at_all\n"
            "except ImportError as error: raise ImportError('\\n=====\\nFailed to import CuPy.\\n') from error",
            "No module named 'no_such_module_at_all'",
        ),
        ("raise UserWarning('\\n-----\\n\\n  CuPy may not function correctly\\n')", "CuPy may not function correctly"),
        ("raise RuntimeError", "RuntimeError"),
        ("1 / 0", "division by zero"),
        ("syntax error", r"invalid syntax.*"),
    ],
)
def test_a_cupy_that_does_not_import_is_told_with_its_own_error(code, reason, install, monkeypatch, tmp_path):
    install(fake_cupy())
    monkeypatch.delitem(sys.modules, "cupy")
    (tmp_path / "cupy.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    report = probe_cuda(0)
    assert_matches(report.reason, rf"CuPy does not import \({reason}\)")
    assert_matches(report.fix, f"{UNINSTALL}, then {CTK13}")
    assert gn.device("auto").name == "cpu"


def test_without_a_driver_cupy_is_not_looked_for(monkeypatch, install, capsys):
    install(fake_cupy(runtime={"getDeviceCount": raises(AssertionError("CuPy was used"))}))
    monkeypatch.setattr(module, "_driver_version", raises(OSError("libcuda.so.1 is not found")))
    report = probe_cuda(0)
    assert report.reason == "no NVIDIA driver (libcuda.so.1 is not found)"
    assert report.fix == "install the NVIDIA driver (https://www.nvidia.com/drivers), or use the CPU"
    gn.device("auto")
    gn.device("auto")
    # most people who read this have no GPU: nothing to mend is told
    assert capsys.readouterr().err == "gpunn: device cpu (no NVIDIA driver (libcuda.so.1 is not found))\n"
    with pytest.raises(
        gn.DeviceUnavailable, match=r"'cuda:3' is not available: no NVIDIA driver .* mend it: install the"
    ):
        gn.device("cuda:3")


def test_an_explicit_cuda_from_the_environment_says_so(monkeypatch, install):
    install(None)
    monkeypatch.setenv("GPUNN_DEVICE", "cuda:1")
    with pytest.raises(gn.DeviceUnavailable, match=r"'cuda:1' .*not installed, and GPUNN_DEVICE asks for it\. To mend"):
        gn.device()


def test_auto_is_silent_where_it_is_asked_to_be(install, capsys):
    install(None)
    gn.device("auto", announce=False)
    assert capsys.readouterr().err == ""


def test_a_gpu_beyond_those_there_are_is_told_with_those(install):
    install(fake_cupy())
    with pytest.raises(
        gn.DeviceUnavailable,
        match=r"'cuda:2' .*: there is no GPU 2 among the 2 found\. To mend it: choose from cuda:0, cuda:1; or check",
    ):
        gn.device("cuda:2")


def test_the_answer_is_kept(install):
    calls = []
    install(fake_cupy(runtime={"getDeviceCount": lambda: calls.append(0) or 2}))
    assert probe_cuda(0) is probe_cuda(0)
    gn.device("cuda")
    assert len(calls) == 1


ALL_WELL = "NVIDIA H200, 141 GiB, CUDA 13.0, CuPy 14.2.0"


def test_a_gpu_that_works_is_taken_and_announced_once(install, capsys):
    cupy = fake_cupy()
    install(cupy)
    assert probe_cuda(0) == gn.DeviceReport("cuda:0", True, ALL_WELL)
    found = gn.device("auto")
    assert (found.name, found.backend, found.on_host, found.reason) == ("cuda:0", "cupy", False, ALL_WELL)
    assert found.xp is cupy
    assert found.native.id == 0
    gn.device("auto")
    assert capsys.readouterr().err == f"gpunn: device cuda:0 ({ALL_WELL})\n"


@pytest.mark.parametrize(("spec", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:01", 1)])
def test_a_gpu_named_is_taken_and_made_the_current_one(spec, index, install, monkeypatch):
    install(fake_cupy())
    monkeypatch.setattr(FakeDevice, "current", None)
    found = gn.device(spec)
    assert found.name == f"cuda:{index}"
    assert found.native.id == FakeDevice.current == index  # CuPy computes on the current device
    assert found == copy.deepcopy(found)


def test_a_gpu_chosen_by_the_environment_says_so(install, monkeypatch, capsys):
    install(fake_cupy())
    monkeypatch.setenv("GPUNN_DEVICE", "cuda")
    assert gn.device().reason == f"{ALL_WELL}; GPUNN_DEVICE asks for it"
    assert capsys.readouterr().err == ""


def test_a_gpu_waits_and_tells_its_own_memory(install, monkeypatch):
    install(fake_cupy())
    monkeypatch.setattr(FakeDevice, "waited_for", None)
    found = gn.device("cuda:1")
    found.synchronize()
    assert FakeDevice.waited_for == 1
    assert found.memory() == (1 + 5, 2)  # with what CuPy's pool keeps
    pool = sys.modules["cupy"].get_default_memory_pool()
    pool.get_limit = returns(7)
    assert found.memory() == (7 - 3, 2)


def test_devices_lists_every_gpu(install):
    install(fake_cupy())
    assert [report.name for report in gn.devices() if report.available][:3] == ["cpu", "cuda:0", "cuda:1"]


# --- the driver itself


def fake_driver(version, status):
    def cuDriverGetVersion(pointer):
        pointer._obj.value = version
        return status

    return types.SimpleNamespace(cuDriverGetVersion=cuDriverGetVersion)


def test_the_driver_tells_its_version(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake_driver(12040, 0) if name == "libcuda.so.1" else None)
    assert module._driver_version() == 12040


@pytest.mark.parametrize(
    ("platform", "load", "reason"),
    [
        ("linux", raises(OSError("libcuda.so.1: cannot open shared object file")), "libcuda.so.1 is not found"),
        ("win32", raises(FileNotFoundError("Could not find module")), "nvcuda.dll is not found"),
        ("darwin", raises(AssertionError("nothing to load")), "there is none for macOS"),
        ("linux", returns(fake_driver(0, 34)), "libcuda.so.1 answers with error 34"),
        ("linux", returns(types.SimpleNamespace()), "libcuda.so.1 is not found"),
    ],
)
def test_no_driver_is_told_with_the_cause(platform, load, reason, monkeypatch, fresh):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert probe_cuda(0).reason == f"no NVIDIA driver ({reason})"
    assert gn.device("auto", announce=False).name == "cpu"


# --- a real machine without a driver, and with a real CuPy where it is installed


def driver_is_there():
    try:
        return module._driver_version() > 0
    except OSError:
        return False


needs_no_driver = pytest.mark.skipif(driver_is_there(), reason="an NVIDIA driver is installed")
needs_cupy = pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")


@needs_no_driver
def test_without_a_driver_cupy_is_never_imported(tmp_path):
    (tmp_path / "cupy.py").write_text("raise SystemExit('CuPy was imported')")
    code = "import gpunn; print(gpunn.device('auto')); print(gpunn.devices()[1].reason)"
    run = run_python(code, PYTHONPATH=str(tmp_path))
    assert run.stdout.startswith("cpu\nno NVIDIA driver (")
    assert run.stderr.startswith("gpunn: device cpu (no NVIDIA driver (")


def test_neither_the_import_nor_the_list_of_devices_imports_torch():
    run_python("import sys, gpunn; gpunn.devices(); assert 'torch' not in sys.modules")


def test_devices_tells_of_every_library(fresh, monkeypatch):
    monkeypatch.setattr(module, "_driver_version", raises(OSError("libcuda.so.1 is not found")))
    reports = {report.name: report for report in gn.devices()}
    assert list(reports) == ["cpu", "cuda:0", "torch:cpu", "strict:cpu"]
    assert reports["cpu"] == gn.DeviceReport("cpu", True, f"NumPy {np.__version__}")
    assert reports["strict:cpu"].reason == f"array-api-strict {metadata.version('array-api-strict')}"
    assert all(report.available == (report.fix == "") for report in reports.values())


def test_devices_tells_how_to_install_what_is_not_there(monkeypatch):
    monkeypatch.setattr(metadata, "version", raises(metadata.PackageNotFoundError("no")))
    reports = {report.name: report for report in gn.devices()}
    assert reports["torch:cpu"] == gn.DeviceReport("torch:cpu", False, "torch is not installed", "pip install torch")
    assert reports["strict:cpu"].fix == "pip install array-api-strict"


@needs_cupy
@needs_no_driver
@pytest.mark.parametrize("version", [11040, 12040, 13000])
def test_the_real_cupy_says_that_the_driver_is_too_old(version, fresh, monkeypatch):
    monkeypatch.setattr(module, "_driver_version", returns(version))
    report = probe_cuda(0)
    made_for = int(sys.modules["cupy"].cuda.runtime.runtimeGetVersion()) // 1000
    offers = f"{version // 1000}.{version % 1000 // 10}"
    assert report.reason == f"the NVIDIA driver is too old: it offers CUDA {offers}, CuPy is made for CUDA {made_for}"
    older = 'or pip uninstall cupy cupy-cuda12x cupy-cuda13x and pip install "cupy-cuda12x[ctk]>=14"'
    assert report.fix == (f"update the driver, {older}" if 12 <= version // 1000 < made_for else "update the driver")
    with pytest.raises(gn.DeviceUnavailable, match="the NVIDIA driver is too old"):
        gn.device("cuda")
    assert gn.device("auto", announce=False).name == "cpu"


@needs_cupy
@needs_no_driver
def test_the_real_cupy_says_that_there_is_no_gpu(fresh, monkeypatch):
    runtime = importlib.import_module("cupy").cuda.runtime
    monkeypatch.setattr(module, "_driver_version", returns(13000))
    monkeypatch.setattr(runtime, "getDeviceCount", raises(runtime.CUDARuntimeError(100)))
    assert probe_cuda(0).reason == "the driver finds no GPU"


@needs_cupy
@needs_no_driver
@pytest.mark.parametrize(
    "use",
    [
        lambda: importlib.import_module("cupy_backends.cuda.libs.nvrtc").getVersion(),
        lambda: importlib.import_module("cupy.cublas"),
    ],
    ids=["nvrtc", "cublas"],
)
def test_a_library_the_real_cupy_lacks_is_known_as_such(use):
    try:
        use()
        pytest.skip("it is there")
    except Exception as error:
        missing = module._is_missing_library(error)
    assert missing


@needs_cupy
def test_arrays_of_the_real_cupy_are_known():
    cupy = importlib.import_module("cupy")
    memory = cupy.cuda.UnownedMemory(1, 1 << 10, None, device_id=1)  # nobody looks at it
    x = cupy.ndarray((2, 3), cupy.float32, cupy.cuda.MemoryPointer(memory, 0))
    found = gn.device_of(x)
    assert (found.name, found.backend, found.on_host) == ("cuda:1", "cupy", False)
    assert found.xp is gn.namespace(x) is importlib.import_module("array_api_compat.cupy")
    assert found.holds(x)
    assert found.asarray(x, "float32") is x
    assert not gn.Device("cuda:0", found.xp, cupy.cuda.Device(0)).holds(x)
    assert not gn.device("cpu").holds(x)
