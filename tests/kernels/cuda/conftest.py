"""The CUDA kernels without a GPU: compiled by g++, run on the CPU, behind the few names of CuPy that the twins use."""

import ctypes
import shutil
import subprocess
import types
from pathlib import Path

import numpy as np
import pytest

from gpunn.device import probe_cuda, to_host
from gpunn.kernels.cuda import module

GUARD = 64  # bytes before and after each array, which no kernel may write to


class Emulator:
    """Stands in for the module cupy: NumPy arrays, and kernels that are run one thread after another."""

    ndarray = np.ndarray
    matmul = staticmethod(np.matmul)
    sum = staticmethod(np.sum)
    zeros = staticmethod(np.zeros)
    ascontiguousarray = staticmethod(np.ascontiguousarray)
    name = "emulated"

    def __init__(self, folder):
        self.folder, self.buffers, self.launches = folder, [], []
        self.times = []  # what events will measure
        stream = types.SimpleNamespace(ptr=0, is_capturing=lambda: False)
        self.cuda = types.SimpleNamespace(
            get_current_stream=lambda: stream, Event=_Event, get_elapsed_time=lambda start, end: self.times.pop(0)
        )

    def empty(self, shape, dtype):
        dtype, shape = np.dtype(dtype), (shape,) if isinstance(shape, int) else shape
        size = int(np.prod(shape)) * dtype.itemsize
        buffer = np.full(size + 2 * GUARD + 256, 0xFF, np.uint8)  # NaN where nothing is written
        start = -(buffer.ctypes.data + GUARD) % 256  # CuPy's arrays begin where 256 bytes do
        buffer = buffer[start : start + size + 2 * GUARD]
        buffer[:GUARD] = buffer[size + GUARD :] = 0xA5
        self.buffers.append((buffer, size))
        return buffer[GUARD : size + GUARD].view(dtype).reshape(shape)

    def asarray(self, x):
        x = np.asarray(x)
        array = self.empty(x.shape, x.dtype)
        array[...] = x
        return array

    def check(self):
        """Fail if something was written beside an array."""
        for buffer, size in self.buffers:
            assert np.all(buffer[:GUARD] == 0xA5)
            assert np.all(buffer[size + GUARD :] == 0xA5)
        self.buffers.clear()

    def RawModule(self, *, code, options):
        library = self.folder / f"{abs(hash((code, options)))}.so"
        if not library.exists():
            kernels = self.folder / "kernels.cu"
            kernels.write_text(code)
            flags = ["-O1", "-w", "-shared", "-fPIC", "-fno-strict-aliasing", *options, f'-DKERNELS="{kernels}"']
            emulator = Path(__file__).with_name("emulator.cpp")
            subprocess.run(["g++", *flags, "-o", library, emulator], check=True)
        return _Module(self, ctypes.CDLL(str(library)))


class _Event:
    def record(self):
        pass

    def synchronize(self):
        pass


class _Module:
    def __init__(self, emulator, library):
        self.emulator, self.library = emulator, library

    def get_function(self, name):
        function = ctypes.cast(getattr(self.library, name), ctypes.c_void_p)

        def run(grid, threads, args):
            self.emulator.launches.append(name)
            ints, doubles = [], []
            for a in args:
                if isinstance(a, np.ndarray):
                    ints.append(a.ctypes.data)
                elif type(a) is int:
                    ints.append(a)
                elif type(a) is float:
                    doubles.append(a)
                else:
                    raise TypeError(f"a kernel was given {type(a)}")
            assert len(ints) <= 20
            assert len(doubles) <= 8
            three = ctypes.c_uint * 3
            stuck = self.library.launch(
                function,
                three(*(*grid, 1, 1)[:3]),
                three(*(*threads, 1, 1)[:3]),
                (ctypes.c_longlong * 20)(*ints),
                (ctypes.c_double * 8)(*doubles),
            )
            assert not stuck, f"{name}: threads wait for each other for ever"

        return run


class Device:
    """The real CuPy, with the methods of the emulator."""

    name = "cuda"

    def __init__(self):
        import cupy

        self.cupy, self.launches = cupy, None
        self.asarray, self.empty = cupy.asarray, cupy.empty

    def check(self):
        self.cupy.cuda.Device().synchronize()


@pytest.fixture(scope="session")
def _folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


def _places():
    marks = pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ to compile the kernels for a CPU")
    yield pytest.param("emulated", marks=marks)
    if probe_cuda(0).available:
        yield "cuda"


@pytest.fixture(params=_places())
def gpu(request, monkeypatch, _folder):
    """A place to run kernels: `asarray` brings arrays there, `check` looks whether anything went wrong."""
    for cache in (module._module, module._function):
        cache.cache_clear()
    if request.param == "cuda":
        place = Device()
    else:
        place = Emulator(_folder)
        monkeypatch.setattr(module, "cupy", lambda: place)
    yield place
    place.check()
    for cache in (module._module, module._function):
        cache.cache_clear()


@pytest.fixture
def compare():
    """Compare arrays from a GPU with what is wanted, arrays or tuples of them."""

    def compare(got, wanted, tolerance, name=""):
        if isinstance(wanted, tuple):
            assert len(got) == len(wanted)
            for g, w in zip(got, wanted, strict=True):
                compare(g, w, tolerance, name)
        elif wanted is None:
            assert got is None
        else:
            assert got.dtype == wanted.dtype, name
            assert got.shape == np.shape(wanted), name
            got, wanted = to_host(got.astype(float)), np.asarray(wanted).astype(float)
            np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance, err_msg=name)

    return compare
