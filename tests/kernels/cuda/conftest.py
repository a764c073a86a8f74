"""The CUDA kernels without a GPU: compiled by g++, run on the CPU, behind the few names of CuPy that the twins use."""

import ctypes
import hashlib
import re
import shutil
import subprocess
import types
from pathlib import Path

import numpy as np
import pytest

from gpunn import ops
from gpunn.device import probe_cuda, to_host
from gpunn.kernels.cuda import cudnn, module, product
from tests.kernels.cuda import fake_cudnn

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
        library = self.folder / f"{hashlib.sha256(repr((code, options)).encode()).hexdigest()}.so"
        if not library.exists():
            kernels = self.folder / "kernels.cu"
            kernels.write_text(code)
            flags = ["-O1", "-w", "-shared", "-fPIC", "-fno-strict-aliasing", *options, f'-DKERNELS="{kernels}"']
            emulator = Path(__file__).with_name("emulator.cpp")
            subprocess.run(["g++", *flags, "-o", library, emulator], check=True)
            command = ["g++", "-E", "-P", "-x", "c++", *options, kernels, "-o", library.with_suffix(".i")]
            subprocess.run(command, check=True)
        return _Module(self, ctypes.CDLL(str(library)), _parameters(library.with_suffix(".i").read_text(), options))


class _Event:
    def record(self):
        pass

    def synchronize(self):
        pass


def _parameters(code, options):
    """What each kernel takes, one after the other: "i64", "double", or the data type of an array."""
    known = {"float": "float32", "double": "float64", "bf16": "bfloat16", "i64": "int64", "u8": "uint8", "u32": "any"}
    defined = dict(option.removeprefix("-D").split("=") for option in options if option.startswith("-D"))
    known |= {t: known[defined[name]] for t, name in (("T", "STORED"), ("A", "COMPUTED")) if name in defined}
    found = {}
    for name, listed in re.findall(r"__global__ void (\w+)\(([^)]*)\)", code):
        words = [one.replace("const", "").replace("*", " * ").split() for one in listed.split(",")]
        found[name] = [known[first] if "*" in rest else first for first, *rest in words]
    return found


class _Module:
    def __init__(self, emulator, library, parameters):
        self.emulator, self.library, self.parameters = emulator, library, parameters

    def get_function(self, name):
        function = ctypes.cast(getattr(self.library, name), ctypes.c_void_p)

        def run(grid, threads, args):
            self.emulator.launches.append(name)
            for a, wanted in zip(args, self.parameters[name], strict=True):  # CUDA takes them as they come
                kind = a.dtype.name if isinstance(a, np.ndarray) else {int: "i64", float: "double"}.get(type(a))
                if wanted == "any" and isinstance(a, np.ndarray) and a.itemsize % 4 == 0:  # moved as words
                    continue
                nothing = type(a) is int and a == 0 and wanted not in ("i64", "double")
                assert kind == wanted or nothing, f"{name} takes {self.parameters[name]}, and was given {a!r}"
            assert max(grid[1:], default=1) < 1 << 16
            assert np.prod(threads) <= 1024
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


class StandIn:
    """cuBLASLt in NumPy, after its documentation: matrices by columns, at addresses, with epilogues."""

    def __init__(self, refuses=()):
        self.refuses, self.things, self.calls, self.algorithms = refuses, {}, [], []
        for name in product.ARGUMENTS:

            def call(*args, name=name):
                self.calls.append(name)
                return getattr(self, name)(*args) or 0

            setattr(self, f"cublasLt{name}", call)

    def new(self, place, **values):
        place._obj.value = len(self.things) + 1
        self.things[place._obj.value] = values

    def Create(self, handle):
        self.new(handle)

    def MatmulDescCreate(self, desc, compute, scale):
        self.new(desc, compute=compute, scale=scale)

    def MatmulPreferenceCreate(self, preference):
        self.new(preference)

    def MatmulPreferenceDestroy(self, preference):
        del self.things[preference.value]

    def MatrixLayoutCreate(self, layout, dtype, rows, columns, ld):
        assert ld >= rows
        self.new(layout, dtype=dtype, rows=rows, columns=columns, ld=ld)

    def MatmulDescSetAttribute(self, thing, number, value, size):
        assert size == ctypes.sizeof(value._obj)
        self.things[thing.value][number] = value._obj.value

    MatrixLayoutSetAttribute = MatmulPreferenceSetAttribute = MatmulDescSetAttribute

    def MatmulAlgoGetHeuristic(self, handle, desc, a, b, c, d, preference, count, found, n):
        assert handle.value in self.things
        self.aligned = [self.things[preference.value][number] for number in (5, 6, 7, 8)]
        if self.things[desc.value][7] in self.refuses:
            return 15
        n._obj.value = min(count, 3)
        for i in range(n._obj.value):
            found[i].algorithm.data[0] = i
            found[i].workspace = 1024 * i
        return 0

    def dtype(self, layout):
        code = self.things[layout.value]["dtype"]
        return module.bfloat16() if code == 14 else {0: "float32", 1: "float64"}[code]

    def at(self, address, dtype, shape, strides):
        """An array at an address."""
        size = np.dtype(dtype).itemsize
        count = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        assert count > 0
        buffer = np.frombuffer((ctypes.c_char * (count * size)).from_address(address), dtype)
        return np.lib.stride_tricks.as_strided(buffer, shape, [s * size for s in strides])

    def matrices(self, address, layout):
        given = self.things[layout.value]
        batch, step = given.get(5, 1), given.get(6, 0)
        return self.at(address, self.dtype(layout), (batch, given["rows"], given["columns"]), (step, 1, given["ld"]))

    def Matmul(self, handle, desc, alpha, a, a_is, b, b_is, beta, c, c_is, d, d_is, algorithm, space, size, stream):
        desc = self.things[desc.value]
        self.algorithms.append((algorithm._obj.data[0], size, desc["compute"]))
        assert a % self.things.get("alignment", 1) == 0
        A, B, D = self.matrices(a, a_is), self.matrices(b, b_is), self.matrices(d, d_is)
        if self.dtype(a_is) not in ("float32", "float64"):
            A, B = A.astype("float32"), B.astype("float32")
        assert (c, c_is) == (d, d_is)
        A = A.transpose(0, 2, 1) if desc[3] else A
        B = B.transpose(0, 2, 1) if desc[4] else B
        x, e = alpha._obj.value * (A @ B), desc[7]
        if beta._obj.value:
            x = x + beta._obj.value * D
        (_, rows, columns), dtype = x.shape, self.dtype(d_is)
        bias = self.at(desc[8], dtype, (rows,), (1,)) if 8 in desc else None
        if e in (4, 6, 134, 36, 164):
            x = x + bias[:, None]
        if e in (130, 134, 136, 152):
            assert desc[12] % 128 == 0
            bits = self.at(desc[11], "uint8", (columns, desc[12] // 8), (desc[12] // 8, 1))
        if e in (130, 134):
            bits[...] = 0
            packed = np.packbits(x[0].T > 0, axis=1, bitorder="little")
            bits[:, : packed.shape[1]] = packed
        if e in (160, 164, 192, 208):
            assert desc[12] % 8 == 0
            aux = self.at(desc[11], dtype, (rows, columns), (1, desc[12]))
        if e in (160, 164):
            aux[...] = x[0]
        if e in (2, 6, 130, 134):
            x = np.maximum(x, 0)
        if e in (32, 36, 160, 164):
            x = ops.gelu.reference(x)
        if e in (136, 152):
            x = x * np.unpackbits(bits, axis=1, count=rows, bitorder="little").T
        if e in (192, 208):
            x = ops.gelu_backward.reference(x, aux[None])
        if e in (152, 208):
            bias[...] = x[0].sum(1)
        if e == 256:
            bias[...] = A[0].sum(1)
        D[...] = x


def _places():
    marks = pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ to compile the kernels for a CPU")
    yield pytest.param("emulated", marks=marks)
    if probe_cuda(0).available:
        yield "cuda"


@pytest.fixture(params=_places())
def gpu(request, monkeypatch, kernels_folder):
    """A place to run kernels: `asarray` brings arrays there, `check` looks whether anything went wrong."""
    for cache in (module._module, module._function):
        cache.cache_clear()
    if request.param == "cuda":
        place = Device()
    else:
        place = Emulator(kernels_folder)
        monkeypatch.setattr(module, "cupy", lambda: place)
        monkeypatch.setattr(cudnn, "_library", lambda: None)
    yield place
    place.check()
    for cache in (module._module, module._function):
        cache.cache_clear()


@pytest.fixture(params=["whole", "without epilogues", "without the library"])
def lt(request, gpu, monkeypatch):
    """The stand-in in place of cuBLASLt; on a GPU the library itself."""
    monkeypatch.setattr(product, "_plans", {})
    if gpu.name == "cuda":
        if request.param == "without the library":
            monkeypatch.setattr(product, "_library", lambda: None)
        elif request.param != "whole":
            pytest.skip("the library does what it can")
        return None
    refuses = set(product.EPILOGUES.values()) - {1} if request.param == "without epilogues" else ()
    stand_in = StandIn(refuses)
    library = None if request.param == "without the library" else product.Library(stand_in)
    monkeypatch.setattr(product, "_library", lambda: library)
    monkeypatch.setattr(product, "address", lambda x: x.ctypes.data)
    monkeypatch.setattr(product, "device_id", lambda x: 0)
    return stand_in


@pytest.fixture
def dnn(gpu, lt, monkeypatch):
    """The stand-in in place of cuDNN; on a GPU None, for the library itself."""
    monkeypatch.setattr(cudnn, "_plans", {})
    if gpu.name == "cuda":
        if cudnn._library() is None:
            pytest.skip("cuDNN is not here")
        return None
    stand_in = fake_cudnn.Cudnn()
    library = cudnn.Library(stand_in)
    monkeypatch.setattr(cudnn, "_library", lambda: library)
    return stand_in


def _layouts(gpu, x):
    """The same matrix by rows, by columns, as a part of a wider one, and as every second column."""
    wide = gpu.asarray(np.concatenate([x, x], axis=-1))
    yield gpu.asarray(x)
    yield gpu.asarray(np.ascontiguousarray(np.swapaxes(x, -1, -2))).swapaxes(-1, -2)
    yield wide[..., : x.shape[-1]]
    yield gpu.asarray(np.repeat(x, 2, axis=-1))[..., ::2]


@pytest.fixture
def layouts():
    """A function that lays a matrix out in memory in several ways."""
    return _layouts


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
