"""Convolution by cuDNN: what it is told, computed by a stand-in; plans of the library itself, if it is installed."""

import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest

from gpunn import ops
from gpunn.device import probe_cuda, to_host
from gpunn.kernels.cuda import cudnn as module
from gpunn.kernels.cuda import product
from gpunn.kernels.cuda.conv import TWINS
from tests.kernels.cuda.arrays import CONVOLUTIONS, TOLERANCE, dtypes, normal

pytestmark = pytest.mark.parametrize("lt", ["whole"], indirect=True)
X, W = (2, 5, 6, 2), (3, 3, 2, 4)


@pytest.fixture
def stand_in(gpu, dnn):
    if gpu.name != "emulated":
        pytest.skip("about the stand-in")
    return dnn


@pytest.fixture
def made(gpu):
    """A function that makes a convolution, x and W normal if they are not given; returns it, and what it should be."""

    def made(x=None, w=None, **named):
        x, w = (normal(shape, "float32") if a is None else a for a, shape in ((x, X), (w, W)))
        wanted = ops.conv2d.reference(x, w, **named)
        return to_host(TWINS["conv2d"](gpu.asarray(x), gpu.asarray(w), **named)), wanted

    return made


def near(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def take_times(monkeypatch, times):
    """What is measured of convolutions; of products it is always the same."""
    left, ours = iter(times), ("run", "_by_columns", "dW_by_columns", "dx_by_columns")

    def taken(run):
        return next(left) if getattr(getattr(run, "func", run), "__name__", "") in ours else 1.0

    monkeypatch.setattr(product, "_time", taken)


@contextlib.contextmanager
def used(dtype, monkeypatch):
    """Where cuDNN is used for this type: in true float32 and in float64 only if it is faster."""
    if dtype == "float32":
        with product.tf32():
            yield
    else:
        take_times(monkeypatch, range(1000, 0, -1))
        with product.tuning():
            yield


@dtypes
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), CONVOLUTIONS)
def test_convolution(gpu, dnn, compare, monkeypatch, dtype, shape, kernel, stride, padding):
    x, W, b = normal(shape, dtype), normal(kernel, dtype), normal(kernel[-1], dtype)
    tolerance = 1e-2 if dtype == "float32" and gpu.name == "cuda" else 3 * TOLERANCE[dtype]
    on_device = [gpu.asarray(a) for a in (x, W)]
    named = {"stride": stride, "padding": padding}
    y = ops.conv2d.reference(x, W, b, **named)
    dy = normal(y.shape, dtype)
    with used(dtype, monkeypatch):
        for _ in range(2):  # the first compares
            compare(TWINS["conv2d"](*on_device, gpu.asarray(b), **named), y, tolerance)
            compare(TWINS["conv2d"](*on_device, **named), ops.conv2d.reference(x, W, **named), tolerance)
            for need_dx in (True, False):
                got = TWINS["conv2d_backward"](gpu.asarray(dy), *on_device, need_dx=need_dx, **named)
                compare(got, ops.conv2d_backward.reference(dy, x, W, need_dx=need_dx, **named), tolerance)
    if gpu.name == "emulated":
        product_as_it_is = kernel[:2] == (1, 1) and stride == (1, 1)
        assert [kind for kind, *_ in dnn.ran[-5:]] == ([] if product_as_it_is else ["y", "y", "W", "x", "W"])


def test_bfloat16(gpu, dnn, monkeypatch):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    if gpu.name == "emulated":  # products are NumPy's: the stand-in for cuBLASLt knows no such numbers
        monkeypatch.setattr(product, "_library", lambda: None)
    x, w, b = normal(X, bfloat16), normal(W, bfloat16), normal(4, bfloat16)
    exact = [a.astype("float64") for a in (x, w, b)]
    y = ops.conv2d.reference(*exact)
    dy = normal(y.shape, bfloat16)
    for _ in range(2):
        got = TWINS["conv2d"](*(gpu.asarray(a) for a in (x, w, b)))
        gradients = TWINS["conv2d_backward"](*(gpu.asarray(a) for a in (dy, x, w)))[:2]
        wanted = ops.conv2d_backward.reference(dy.astype("float64"), *exact[:2])
        for one, other in zip((got, *gradients), (y, *wanted), strict=False):
            np.testing.assert_allclose(to_host(one.astype("float64")), other, rtol=0.02, atol=0.02 * abs(other).max())
    if gpu.name == "emulated":
        assert [kind for kind, *_ in dnn.ran[-3:]] == ["y", "W", "x"]


def test_gradients_of_weights_in_float32(gpu, stand_in):
    """As they are where a network trains in bfloat16. cuDNN has no engine that makes them so."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x, dy, dW = normal(X, bfloat16), normal((2, 3, 4, 4), bfloat16), gpu.empty(W, np.dtype("float32"))
    wanted = ops.conv2d_backward.reference(dy.astype("float32"), x.astype("float32"), np.zeros(W, "float32"))[1]

    def by_columns():
        dW[...] = wanted

    for _ in range(2):
        module.convolve("W", gpu.asarray(x), dW, gpu.asarray(dy), None, (1, 1), (0, 0), by_columns)
        np.testing.assert_allclose(dW, wanted, rtol=0.004)
        dW[...] = 0.0
    assert len(stand_in.ran) == 3


def test_the_engine_is_the_first_that_may_be_used(stand_in, made):
    with product.tf32():
        near(*made())
        near(*made())
    assert {engine for _, engine, _ in stand_in.ran} == {2}


def test_without_tensor_cores_columns_are_used(stand_in, made):
    near(*made())
    near(*made(normal(X), normal(W)))
    assert not stand_in.graphs


@pytest.mark.parametrize(
    ("times", "chosen"), [([3.0, 2.0, 9.0, 1.0], 4), ([3.0, 1.0, 2.0, 9.0], 2), ([1.0, 2.0, 2.0, 2.0], None)]
)
def test_tuning_takes_the_fastest(stand_in, made, monkeypatch, times, chosen):
    with product.tf32():
        near(*made())
        take_times(monkeypatch, times)  # of the columns, then of the engines
        with product.tuning():
            near(*made())
            near(*made())
        stand_in.ran.clear()
        near(*made())
    assert [engine for _, engine, _ in stand_in.ran] == ([] if chosen is None else [chosen])


def test_tuning_in_true_float32_leaves_tensor_cores_out(stand_in, made, monkeypatch):
    take_times(monkeypatch, [2.0, 1.0])
    with product.tuning():
        near(*made())
    near(*made())
    assert {engine for _, engine, _ in stand_in.ran} == {3}


def test_a_convolution_is_planned_once(stand_in, made):
    with product.tf32():
        near(*made())
        near(*made())
        assert len(stand_in.graphs) == 1
        near(*made(padding=(1, 1)))
        near(*made(stride=(2, 1)))
        near(*made(normal((3, *X[1:]), "float32")))
    assert len(stand_in.graphs) == 4


def test_the_stream_is_the_one_in_use(gpu, stand_in, made):
    with product.tf32():
        near(*made())
        gpu.cuda.get_current_stream = lambda: types.SimpleNamespace(ptr=77, is_capturing=lambda: False)
        near(*made())
    assert [stream for *_, stream in stand_in.ran] == [0, 0, 77]


def test_nothing_is_planned_or_compared_while_a_graph_is_captured(gpu, stand_in, made):
    capturing = types.SimpleNamespace(ptr=0, is_capturing=lambda: True)
    usual, gpu.cuda.get_current_stream = gpu.cuda.get_current_stream, lambda: capturing
    with product.tf32():
        near(*made())
        assert not stand_in.graphs
        gpu.cuda.get_current_stream = usual
        near(*made())
        stand_in.ran.clear()
        gpu.cuda.get_current_stream = lambda: capturing
        near(*made())
        assert len(stand_in.ran) == 1


@pytest.mark.parametrize("keeps", [True, False])
def test_a_relu_is_in_the_convolution_unless_it_loses_nan(gpu, stand_in, keeps):
    stand_in.maximum = np.maximum if keeps else np.fmax
    x, w, b = (normal(shape, "float32") for shape in (X, W, W[-1:]))
    wanted = np.maximum(ops.conv2d.reference(x, w, b), 0)
    with product.tf32():
        for _ in range(3):
            stand_in.ran.clear()
            gpu.launches.clear()
            near(to_host(TWINS["conv2d_relu"](*map(gpu.asarray, (x, w, b)))), wanted)
        assert len(stand_in.ran) == 1
        assert gpu.launches == ([] if keeps else ["gn_relu"])
        lost = TWINS["conv2d_relu"](gpu.asarray(x), gpu.asarray(w), gpu.asarray(np.full_like(b, np.nan)))
        assert np.isnan(to_host(lost)).all()


def test_where_there_is_no_engine_columns_are_used(stand_in, made):
    stand_in.refused = module._library().cudnn.cudnnGraphNotSupportedError("no")
    with product.tf32():
        near(*made())
        near(*made())
    assert len(stand_in.graphs) == 1
    stand_in.refused = None
    stand_in.engines = stand_in.engines[:2]
    with product.tf32():
        near(*made(padding=(1, 1)))
    assert not stand_in.ran


def test_what_is_computed_wrongly_is_not_used(stand_in, made):
    for off in (0.05, np.nan):
        module._library().off = False
        module._plans.clear()
        stand_in.engines = [(set(), 0, off)]
        stand_in.ran.clear()
        with product.tf32():
            with pytest.warns(RuntimeWarning, match=r"cuDNN 9.28.0 is not used .* Spec\(result='y'.*its result is not"):
                near(*made())
            near(*made())
            near(*made(padding=(1, 1)))
        assert len(stand_in.ran) == 1


@pytest.mark.parametrize("what", ["plan", "compute"])
def test_what_fails_is_not_used(stand_in, made, monkeypatch, what):
    if what == "plan":
        stand_in.refused = RuntimeError("CUDNN_STATUS_INTERNAL_ERROR\nmore")
    else:
        monkeypatch.setattr(stand_in, "set_stream", lambda **_: 1 / 0)
    with product.tf32():
        with pytest.warns(RuntimeWarning, match=rf"it cannot {what} Spec.*: (CUDNN_STATUS|division by zero)"):
            near(*made())
        near(*made())
        near(*made(padding=(1, 1)))
    assert not stand_in.ran


def test_out_of_memory_is_no_fault_of_it(gpu, stand_in, made, monkeypatch):
    def none(**_):
        raise MemoryError

    capturing = types.SimpleNamespace(ptr=0, is_capturing=lambda: True)
    with product.tf32():
        with monkeypatch.context() as patched, pytest.raises(MemoryError):
            patched.setattr(stand_in, "set_stream", none)
            made()
        with monkeypatch.context() as patched:
            patched.setattr(gpu.cuda, "get_current_stream", lambda: capturing)
            near(*made())
        assert not stand_in.ran  # not before it has been compared
        near(*made())
    assert stand_in.ran


def test_zeros_prove_nothing(stand_in, made):
    with product.tf32():
        for number in (0.0, np.nan, np.nan):
            near(*made(np.full(X, number, "float32")))
        assert not stand_in.ran
        for _ in range(3):
            near(*made())
        assert not stand_in.ran
        near(*made())
        assert stand_in.ran


def test_zeros_are_compared_ever_more_rarely(stand_in, made, monkeypatch):
    """As the gradients of a part of a network that nothing comes out of."""
    compared, sample = [], module._sample
    monkeypatch.setattr(module, "_sample", lambda x: compared.append(1) or sample(x))
    with product.tf32():
        for _ in range(100):
            near(*made(np.zeros(X, "float32")))
    assert len(compared) == 6  # the 1st, 3rd, 7th, 15th, 31st and 63rd


def test_arrays_that_begin_anywhere(gpu, stand_in):
    """As the parameters of a network do, which lie one after another."""
    flat = gpu.asarray(normal(1 + 120 + 72 + 4, "float32"))
    x, w, b = flat[1:121].reshape(X), flat[121:193].reshape(W), flat[193:]
    assert x.ctypes.data % 16
    assert b.ctypes.data % 16
    with product.tf32():
        for _ in range(2):
            near(TWINS["conv2d"](x, w, b), ops.conv2d.reference(x, w, b))
    assert len(stand_in.ran) == 3


def test_many_numbers_are_compared_in_part(stand_in, made, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 8)
    assert module._sample(np.arange(90)).tolist() == list(range(0, 90, 11))
    assert module._sample(np.arange(7)).tolist() == list(range(7))
    with product.tf32():
        near(*made())
    assert stand_in.ran


# --- whether it is here

load = module._library  # before a fixture puts another in its place


@pytest.fixture
def find(lt, monkeypatch):
    """A function that looks for the library, with this in place of the module cudnn."""

    def find(cudnn):
        load.cache_clear()
        monkeypatch.setitem(sys.modules, "cudnn", cudnn)
        monkeypatch.setattr(module, "_library", load)
        return load()

    monkeypatch.delenv("GPUNN_CUDNN", raising=False)
    yield find
    load.cache_clear()


def test_where_it_is_not_installed_nothing_is_said(find):
    assert find(None) is None  # a warning would be an error
    assert module.cudnn_state() is None


def test_what_cannot_be_loaded_is_told_of_once(find, monkeypatch):
    def fails():
        raise RuntimeError("Unable to find symbol cudnnGetVersion")

    broken = types.SimpleNamespace(backend_version=fails)
    with pytest.warns(RuntimeWarning, match=r"cuDNN cannot be loaded \(Unable to find .*pip install \"gpunn\[cudnn\]"):
        assert find(broken) is None
    assert load() is None
    monkeypatch.setenv("GPUNN_CUDNN", "0")
    assert find(broken) is None


def test_the_versions_are_told_of_what_is_used(find, dnn):
    library = find(dnn)
    assert module.cudnn_state() == {"cudnn": "9.28.0", "frontend": "1.0"}
    with pytest.warns(RuntimeWarning, match="is not used any more"):
        library.give_up("it is a stand-in")
    assert module.cudnn_state() is None


# --- the library itself: it plans for a GPU that is described to it

H200 = {
    "deviceName": "NVIDIA H200", "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0, "pciDeviceId": 0,
    "totalGlobalMem": 150121545728, "multiProcessorCount": 132, "smClockRateKHz": 1980000,
    "memClockRateKHz": 3201000, "memoryBusWidth": 6144, "l2CacheSize": 62914560, "warpSize": 32,
    "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "maxThreadsPerBlock": 1024,
    "maxThreadsPerSM": 2048, "maxCtasPerSM": 32, "regsPerBlock": 65536, "maxRegistersPerSM": 65536,
    "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448, "oversizedSharedMemoryPerBlock": 0,
    "reservedSharedMemoryPerBlock": 1024, "isTccDriver": 0, "supportCoopLaunch": 1,
}  # fmt: skip
DRIVER = """
int cuGetErrorString(int error, const char **text) { *text = "there is no driver"; return 0; }
int cuModuleGetFunction() { return 100; }
int cuModuleLoadData() { return 100; }
int cuModuleUnload() { return 100; }
int cuTensorMapEncodeIm2col() { return 100; }
int cuTensorMapEncodeTiled() { return 100; }
"""
RUNTIME = """
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaGetDeviceProperties(char *properties, int device) {
    *(int *)(properties + 360) = 9; *(int *)(properties + 364) = 0; return 0;  /* the compute capability */
}
const char *cudaGetErrorString(int error) { return "there is no driver"; }
int cudaGetLastError() { return 0; }
"""
PLANS = """
import json, sys
import cudnn
from gpunn.kernels.cuda.cudnn import Plan, Spec

gpu = cudnn.create_device_properties(sys.argv[1])
for spec in json.loads(sys.argv[2]):
    spec = [tuple(value) if isinstance(value, list) else value for value in spec]
    plan = Plan(cudnn, Spec(*spec), device_property=gpu)
    print(len(plan.engines(8)))
"""


def test_the_library_plans_every_kind_for_an_h200(lt, tmp_path):
    """In a process of its own, with a driver and a runtime that say nothing: cuDNN loads them before it plans."""
    for wanted in ("nvidia-cudnn-frontend", "nvidia-cudnn-cu13"):
        try:
            importlib.metadata.version(wanted)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{wanted} is not installed")
    if probe_cuda(0).available or not shutil.which("gcc"):
        pytest.skip("needs gcc, and a machine without a GPU")
    for name, text in (("libcuda.so.1", DRIVER), ("libcudart.so.13", RUNTIME)):
        (tmp_path / "stub.c").write_text(text)
        subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", tmp_path / name, tmp_path / "stub.c"], check=True)
    specs = []
    for x, w, stride, padding in (
        *CONVOLUTIONS,
        ((1024, 28, 28, 1), (3, 3, 1, 32), (1, 1), (0, 0)),
        ((1024, 26, 26, 32), (3, 3, 32, 64), (1, 1), (0, 0)),
        ((64, 28, 28, 3), (5, 5, 3, 20), (1, 1), (2, 2)),
    ):
        y = ops.conv2d.reference(np.zeros((1, *x[1:])), np.zeros(w), stride=stride, padding=padding).shape
        for dtype, tf32 in (("float32", False), ("float32", True), ("float64", False), ("bfloat16", False)):
            kinds = (
                ("y", False, False),
                ("y", True, False),
                ("y", True, True),
                ("x", False, False),
                ("W", False, False),
            )
            for result, *made in kinds:
                specs.append(module.Spec(result, x, w, (x[0], *y[1:]), stride, padding, dtype, tf32, *made))
    ran = subprocess.run(
        [sys.executable, "-c", PLANS, json.dumps(H200), json.dumps(specs)],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    engines = dict(zip(specs, map(int, ran.stdout.split()), strict=True))
    assert min(engines.values()) > 0, [spec for spec, count in engines.items() if not count]
