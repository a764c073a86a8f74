"""Which array library, and where: finding devices, moving arrays to them, and saying why one was chosen.

A device is named by a short text:

    auto                    a GPU that really works, otherwise the CPU; prints one line that says which and why
    cpu                     NumPy
    cuda, cuda:1            CuPy, on the first or another CUDA GPU
    torch:cpu, torch:cuda:0 PyTorch tensors (nothing of PyTorch but its arrays is used)
    strict:cpu, strict:device1   array-api-strict, the referee of the standard; device1 plays a GPU

This module and `kernels` are the only ones in the package that know an array library by name. What they hand on is a
namespace `xp` with the functions of the array API standard.
"""

import ctypes
import functools
import importlib.util
import itertools
import math
import os
import sys
from dataclasses import dataclass, field
from typing import Any

import array_api_compat
import numpy as np

from gpunn.errors import DeviceUnavailable, DtypeError, OptionError

__all__ = [
    "Array",
    "Device",
    "DeviceReport",
    "device",
    "device_of",
    "devices",
    "namespace",
    "on_host",
    "to_host",
    "whole_numbers",
]

Array = Any  # an array of any of the libraries; the standard has no common type to name


# ---------------------------------------------------------------------------------------------------------------------
# Namespaces: the functions that go with an array


class _IgnoresOut:
    """The functions of an array library that has no `out=`: they accept it and do not use it.

    gpunn writes `y = xp.matmul(x, W, out=y)` and relies on the array returned alone, so that the same line reuses
    memory on NumPy and CuPy and is right everywhere else.
    """

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._xp, name)
        if callable(value) and not isinstance(value, type):

            @functools.wraps(value)
            def without_out(*args: Any, out: Any = None, **kwargs: Any) -> Any:
                return value(*args, **kwargs)

            setattr(self, name, without_out)  # so that this is looked up once
            return without_out
        return value


_namespaces: dict[type, Any] = {}


def namespace(x: Array) -> Any:
    """The array API functions for x: NumPy itself, or the array-api-compat wrapper of another library.

    Raises DtypeError if x is not an array.
    """
    try:
        return _namespaces[type(x)]
    except KeyError:
        pass
    if not array_api_compat.is_array_api_obj(x):
        raise DtypeError(f"expected an array, got {type(x).__name__}; convert it, with numpy.asarray for example")
    if array_api_compat.is_numpy_array(x):
        xp: Any = np  # NumPy 2 is the standard already, and every call through a wrapper costs half a microsecond
    elif array_api_compat.is_cupy_array(x):
        xp = array_api_compat.array_namespace(x)
    else:
        xp = _IgnoresOut(array_api_compat.array_namespace(x))
    _namespaces[type(x)] = xp
    return xp


def whole_numbers(x: Array) -> bool:
    """Whether x is an array of integers."""
    return _integral(namespace(x), x.dtype)


@functools.cache
def _integral(xp: Any, dtype: Any) -> bool:
    return xp.isdtype(dtype, "integral")


_REAL = "biuf"  # the kinds of real numbers, as NumPy calls them: Booleans, integers, floats


def to_host(x: Any) -> np.ndarray:
    """x as a NumPy array: an array of any library from any device, or numbers in nested lists.

    Raises DtypeError for what is not a rectangular array of real numbers.
    """
    if isinstance(x, np.ndarray):
        host = np.asarray(x)  # without what a subclass adds: * is another product for numpy.matrix
    elif array_api_compat.is_cupy_array(x):
        host = x.get()
    elif _is_strict(x):
        import array_api_strict

        host = np.asarray(x.to_device(array_api_strict.Device("CPU_DEVICE")))
    else:
        if array_api_compat.is_torch_array(x):
            x = x.detach().cpu()
        try:
            host = np.asarray(x)
        except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a list of tensors being recorded
            raise DtypeError(
                f"{type(x).__name__} that is not a rectangular array of numbers ({_first_line(error)}); "
                "make it a NumPy array of numbers, with rows of one length"
            ) from None
    if host.dtype.kind not in _REAL:
        names = ", or names of classes with numpy.unique(..., return_inverse=True)[1]"
        raise DtypeError(
            f"{type(x).__name__} of {host.dtype} where real numbers are expected; "
            f"convert it, with numpy.asarray(..., float) say{names if host.dtype.kind in 'OSTU' else ''}"
        )
    if not host.dtype.isnative:  # big-endian, from a file; only NumPy computes with that
        host = host.astype(host.dtype.newbyteorder("="))
    return host


# ---------------------------------------------------------------------------------------------------------------------
# Device: a place where arrays live


@dataclass(frozen=True)
class Device:
    """An array library and one of its devices; compared by name. Get one from `gpunn.device`.

    `xp` is the namespace, `native` what the library itself takes as `device=`, `reason` why this device was chosen.
    """

    name: str
    xp: Any = field(repr=False, compare=False)
    native: Any = field(repr=False, compare=False)
    reason: str = field(default="", compare=False)

    @property
    def backend(self) -> str:
        """The name of the library: "numpy", "cupy", "torch" or "strict"."""
        kind = self.name.partition(":")[0]
        return {"cpu": "numpy", "cuda": "cupy"}.get(kind, kind)

    @property
    def on_host(self) -> bool:
        """Whether the numbers lie in the memory of the CPU, where looking at one waits for nothing."""
        return _on_host(self.name)

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return device, (self.name,)

    def dtype(self, name: str) -> Any:
        """The data type of that name ("float32", "int64" ...) in this library. Raises DtypeError if it has none."""
        try:
            return _dtype(self.xp, name)
        except (TypeError, AttributeError):
            raise DtypeError(f"{self} has no data type {name!r}; expected float32, float64 or int64, say") from None

    def holds(self, x: Any) -> bool:
        """Whether x is an array of this library on this device."""
        if self.xp is np:
            return isinstance(x, np.ndarray)
        try:
            return namespace(x) is self.xp and x.device == self.native
        except DtypeError:
            return False

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """x on this device, of the data type named; x itself, not a copy, where it is that already.

        Accepts an array of any library on any device, or numbers in nested lists. Raises DtypeError for anything else.
        """
        target = None if dtype is None else self.dtype(dtype)
        if self.xp is np:
            x = to_host(x)
        elif not self.holds(x):
            host = to_host(x)
            known = hasattr(self.xp, host.dtype.name)
            if target is not None and not (known and host.dtype.itemsize <= np.dtype(dtype).itemsize):
                host = host.astype(dtype)  # fewer bytes to move
            elif not known:
                raise DtypeError(f"{self} has no data type {host.dtype}; convert the array, with x.astype(float) say")
            if self.backend == "torch":  # whose tensors are never read-only and have no negative strides
                host = np.require(host, requirements=["C", "W"])
            x = self.xp.asarray(host, device=self.native)
        elif self.xp.isdtype(x.dtype, "complex floating"):
            raise DtypeError(f"an array of {x.dtype} where real numbers are expected; take its real part")
        elif self.backend == "torch" and x.requires_grad:
            x = x.detach()  # no recording for PyTorch's own differentiation
        if target is not None and x.dtype != target:
            x = self.xp.astype(x, target)
        return x

    def zeros(self, shape: int | tuple[int, ...], dtype: str) -> Array:
        """An array of zeros on this device."""
        if self.xp is np:
            return _aligned_zeros(shape, self.dtype(dtype))
        return self.xp.zeros(shape, dtype=self.dtype(dtype), device=self.native)

    def to_host(self, x: Array) -> np.ndarray:
        """x as a NumPy array."""
        return to_host(x)

    def synchronize(self) -> None:
        """Wait until the device has done all it was given; on a CPU it has."""
        if self.backend == "cupy":
            self.native.synchronize()
        elif self.name.startswith("torch:cuda"):
            sys.modules["torch"].cuda.synchronize(self.native)

    def release(self) -> None:
        """Give memory that a library keeps for arrays to come back to the device."""
        if self.backend == "cupy":
            sys.modules["cupy"].get_default_memory_pool().free_all_blocks()
        elif self.name.startswith("torch:cuda"):
            sys.modules["torch"].cuda.empty_cache()

    def memory(self) -> tuple[int, int] | None:
        """(free, total) bytes of the device's memory, or None where the system does not tell.

        What CuPy and PyTorch keep for arrays to come counts as free; what is beyond a limit set for CuPy does not.
        """
        if self.backend == "cupy":
            (free, total), pool = self.native.mem_info, sys.modules["cupy"].get_default_memory_pool()
            free += pool.free_bytes()
            return min(free, pool.get_limit() - pool.used_bytes()) if pool.get_limit() else free, total
        if self.name.startswith("torch:cuda"):
            cuda = sys.modules["torch"].cuda
            free, total = cuda.mem_get_info(self.native)
            return free + cuda.memory_reserved(self.native) - cuda.memory_allocated(self.native), total
        try:
            page = os.sysconf("SC_PAGE_SIZE")
            return page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, ValueError, OSError):
            return None


PAGE = 4096  # bytes
_starts = itertools.cycle(range(0, PAGE, PAGE // 4))


def _aligned_zeros(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """NumPy's zeros, but each array begins at a cache line, and at another place of its page than the one before it.

    Where a vector register lies across two lines, or the same places of several pages are read at once, a core does the
    work twice: an update by Adam of 0.67 million parameters took 0.61 ms on arrays as NumPy places them, 0.19 on these.
    """
    size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * np.dtype(dtype).itemsize
    room = np.zeros(size + PAGE, np.uint8)
    start = (next(_starts) - room.ctypes.data) % PAGE
    return room[start : start + size].view(dtype).reshape(shape)


def on_host(x: Array) -> bool:
    """Whether an array lies in the memory of the CPU, where looking at a number in it waits for nothing."""
    return _on_host(str(x.device))


def _on_host(device: str) -> bool:
    return "cuda" not in device.lower()  # for CuPy a device is <CUDA Device 0>


@functools.cache  # in every step, and NumPy takes two microseconds to name a data type
def _dtype(xp: Any, name: str) -> Any:
    dtype = np.dtype(name)
    if dtype.kind not in _REAL:
        raise TypeError
    return getattr(xp, dtype.name)


def device_of(x: Array) -> Device:
    """The device an array is on. Raises DtypeError if x is not an array."""
    xp = namespace(x)
    if xp is np:
        return _cpu("where the array is")
    if array_api_compat.is_cupy_array(x):
        return Device(f"cuda:{x.device.id}", xp, x.device, "where the array is")
    if array_api_compat.is_torch_array(x):
        return Device(f"torch:{x.device}", xp, x.device, "where the array is")
    if _is_strict(x):
        return Device(_strict_name(x.device), xp, x.device, "where the array is")
    raise DtypeError(f"arrays of {type(x).__module__} are not computed with here; convert them with numpy.asarray")


# ---------------------------------------------------------------------------------------------------------------------
# Finding devices


@dataclass(frozen=True)
class DeviceReport:
    """What `devices()` says of one device: whether it works, and if not, why and what mends it."""

    name: str
    available: bool
    reason: str
    fix: str = ""


def device(spec: "str | Device | None" = None, *, announce: bool = True) -> Device:
    """The device that a text names; see the top of this module for the names.

    None and "auto" mean the environment variable GPUNN_DEVICE where it is set. "auto" takes a CUDA GPU that passed a
    test of a kernel, a matrix product and a copy, otherwise the CPU, and prints one line that says which and why.

    A CUDA GPU becomes the current one of the thread: CuPy computes there, wherever its arrays are. Raises OptionError
    for a name that is not known and DeviceUnavailable for a device that cannot be had: a device asked for by name is
    never replaced by another.
    """
    if isinstance(spec, Device):
        return spec
    asked_by = ""
    if spec is None or spec == "auto":
        spec = os.environ.get("GPUNN_DEVICE") or "auto"
        asked_by = "" if spec == "auto" else "GPUNN_DEVICE asks for it"
    if spec == "auto":
        return _auto(announce)
    reason = asked_by or "asked for by name"
    kind, _, rest = str(spec).partition(":")
    try:
        if spec == "cpu":
            return _cpu(reason)
        if kind == "cuda" and (rest.isdecimal() or spec == "cuda"):
            return _cuda(int(rest or 0), f"; {asked_by}" if asked_by else "")
        if kind == "torch" and rest:
            return _torch(rest, reason)
        if kind == "strict" and rest:
            return _strict(rest, reason)
    except DeviceUnavailable as error:
        if asked_by:
            raise DeviceUnavailable(error.device, f"{error.reason}, and {asked_by}", error.fix) from error
        raise
    raise OptionError(
        f"device {spec!r} is not known{'; it comes from GPUNN_DEVICE' if asked_by else ''}; "
        "expected auto, cpu, cuda, cuda:N, torch:cpu, torch:cuda:N, strict:cpu or strict:device1"
    )


def devices() -> list[DeviceReport]:
    """Every device gpunn knows of on this machine, with the reason and the mend for those that do not work."""
    from importlib import metadata

    found = [DeviceReport("cpu", True, f"NumPy {np.__version__}")]
    first = probe_cuda(0)
    found.append(first)
    if first.available:
        count = sys.modules["cupy"].cuda.runtime.getDeviceCount()
        found += [probe_cuda(index) for index in range(1, count)]
    for name, package in ("torch:cpu", "torch"), ("strict:cpu", "array-api-strict"):
        try:  # by what is written of it on disk: to import PyTorch would take seconds
            found.append(DeviceReport(name, True, f"{package} {metadata.version(package)}"))
        except metadata.PackageNotFoundError:
            found.append(DeviceReport(name, False, f"{package} is not installed", f"pip install {package}"))
    return found


_announced: set[str] = set()


def _auto(announce: bool) -> Device:
    report = probe_cuda(0)
    if report.available:
        chosen = _cuda(0)
    else:  # the mend is worth a word only where there may be a GPU
        mend = "" if report.fix == _DRIVER_FIX else f"; to use a GPU: {report.fix}"
        chosen = _cpu(report.reason + mend)
    line = f"gpunn: device {chosen.name} ({chosen.reason})"
    if announce and line not in _announced:
        _announced.add(line)
        print(line, file=sys.stderr)
    return chosen


def _cpu(reason: str) -> Device:
    return Device("cpu", np, "cpu", reason)


def _cuda(index: int, and_why: str = "") -> Device:
    report = probe_cuda(index)
    if not report.available:
        raise DeviceUnavailable(report.name, report.reason, report.fix)
    import array_api_compat.cupy as xp
    import cupy

    native = cupy.cuda.Device(index)
    native.use()
    return Device(report.name, xp, native, report.reason + and_why)


def _torch(name: str, reason: str) -> Device:
    try:
        import torch

        x = torch.ones(2, device=name)
        if float(x.sum()) != 2.0:
            raise ArithmeticError("a sum of two ones was not two")
    except ModuleNotFoundError:
        raise DeviceUnavailable(f"torch:{name}", "PyTorch is not installed", "pip install torch") from None
    except Exception as error:
        fix = 'choose "torch:cpu", or install a PyTorch that fits this machine (https://pytorch.org/get-started)'
        raise DeviceUnavailable(f"torch:{name}", _first_line(error), fix) from error
    return Device(f"torch:{x.device}", namespace(x), x.device, reason)


def _strict(name: str, reason: str) -> Device:
    try:
        import array_api_strict as strict
    except ImportError:
        raise DeviceUnavailable(
            f"strict:{name}", "array-api-strict is not installed", "pip install array-api-strict"
        ) from None
    try:
        native = strict.Device("CPU_DEVICE" if name == "cpu" else name)
    except ValueError:
        raise OptionError(
            f"device 'strict:{name}' is not known; expected strict:cpu, strict:device1 or strict:device2"
        ) from None
    return Device(_strict_name(native), namespace(strict.ones(1)), native, reason)


def _is_strict(x: Any) -> bool:
    return type(x).__module__.startswith("array_api_strict")


def _strict_name(native: Any) -> str:
    return "strict:" + native._device.replace("CPU_DEVICE", "cpu")


# ---------------------------------------------------------------------------------------------------------------------
# Does CUDA really work? `cupy.cuda.is_available()` alone proves nothing: CuPy imports and counts devices happily
# without the libraries its first kernel will need. So every step is tried, and the first that fails names the cause
# and the mend.

_DRIVER_FIX = "install the NVIDIA driver (https://www.nvidia.com/drivers), or use the CPU"
_UNINSTALL = "pip uninstall cupy cupy-cuda12x cupy-cuda13x"  # those that are not there are skipped


@functools.cache
def probe_cuda(index: int) -> DeviceReport:
    """Try CUDA device `index`, from the driver up to a matrix product; the answer is kept for the process."""
    name = f"cuda:{index}"

    def failed(reason: str, fix: str) -> DeviceReport:
        return DeviceReport(name, False, reason, fix)

    try:
        version = _driver_version()  # before importing CuPy: this takes a millisecond, that one half a second
    except OSError as error:
        return failed(f"no NVIDIA driver ({error})", _DRIVER_FIX)
    major, cuda = version // 1000, f"CUDA {version // 1000}.{version % 1000 // 10}"
    install = _install(12 if major == 12 else 13)
    if major < 12:
        install = f"update the NVIDIA driver, which offers {cuda}, then {install}"
    if importlib.util.find_spec("cupy") is None:
        return failed("CuPy is not installed", install)
    try:
        import cupy

        made_for = cupy.cuda.runtime.runtimeGetVersion() // 1000
    except Exception as error:  # CuPy wraps its own advice around the error that was met first
        return failed(
            f"CuPy does not import ({_first_line(error.__cause__ or error)})", f"{_UNINSTALL}, then {install}"
        )
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        if "InsufficientDriver" in str(error):
            older = f", or {_UNINSTALL} and {install}" if 12 <= major < made_for else ""
            return failed(
                f"the NVIDIA driver is too old: it offers {cuda}, CuPy is made for CUDA {made_for}",
                f"update the driver{older}",
            )
        if "NoDevice" not in str(error):
            return failed(
                f"CUDA does not start ({_first_line(error)})",
                "check that nvidia-smi works; restart the machine if its driver was just updated",
            )
        count = 0
    if count == 0:
        return failed("the driver finds no GPU", "check that nvidia-smi lists one, and CUDA_VISIBLE_DEVICES")
    if index >= count:
        there = ", ".join(f"cuda:{i}" for i in range(count))
        return failed(
            f"there is no GPU {index} among the {count} found", f"choose from {there}; or check CUDA_VISIBLE_DEVICES"
        )
    step = "a kernel"
    try:
        with cupy.cuda.Device(index):
            x = cupy.arange(256, dtype=cupy.float32)
            y = cupy.asnumpy(x * 2 + 1)  # compiles a kernel with NVRTC
            step = "a matrix product"
            z = cupy.asnumpy(x.reshape(16, 16) @ x.reshape(16, 16))  # cuBLAS
        properties = cupy.cuda.runtime.getDeviceProperties(index)
    except Exception as error:
        if _is_missing_library(error):
            return failed(f"CuPy lacks its CUDA libraries ({_first_line(error)})", _install(made_for))
        if "gpu-architecture" in str(error):
            return failed(f"the GPU is too old for CUDA {made_for}", f"{_UNINSTALL}, then {_install(12)}")
        return failed(
            f"{step} fails ({_first_line(error)})",
            "see with nvidia-smi that the GPU works and has memory to spare; update the driver and CuPy",
        )
    host = np.arange(256, dtype=np.float32)
    square = host.reshape(16, 16)
    if not (np.allclose(y, host * 2 + 1) and np.allclose(z, square @ square, rtol=1e-3)):  # 1e-3: it may use TF32
        return failed("a kernel or a matrix product gives wrong numbers", "update the driver and CuPy; test the GPU")
    gigabytes = f"{properties['totalGlobalMem'] / 2**30:.0f} GiB"
    return DeviceReport(name, True, f"{properties['name'].decode()}, {gigabytes}, {cuda}, CuPy {cupy.__version__}")


def _install(cuda: int) -> str:
    return f'pip install "cupy-cuda{cuda}x[ctk]>=14"'


def _driver_version() -> int:
    """The CUDA version the driver offers, as 13000 for 13.0. Raises OSError where no driver is installed."""
    library = {"win32": "nvcuda.dll", "darwin": ""}.get(sys.platform, "libcuda.so.1")
    if not library:
        raise OSError("there is none for macOS")
    try:
        get_version = ctypes.CDLL(library).cuDriverGetVersion
    except (OSError, AttributeError):
        raise OSError(f"{library} is not found") from None
    version = ctypes.c_int()
    if status := get_version(ctypes.byref(version)):
        raise OSError(f"{library} answers with error {status}")
    return version.value


def _is_missing_library(error: Exception) -> bool:
    text = f"{type(error).__name__} {error}"
    signs = "DynamicLibNotFound", "CUDA headers", "open source file", "open shared object", "libnvrtc"
    return isinstance(error, ImportError) or any(sign in text for sign in signs)


def _first_line(error: BaseException) -> str:
    """The first line of its message that is more than a ruler, or else its name."""
    return next((line.strip() for line in str(error).splitlines() if line.strip(" =-")), type(error).__name__)
