"""The kernels of kernels.cu: compiled by NVRTC when first used, once for each data type, and kept on disk by CuPy.

Checked: compiled for sm_80 and sm_90, arithmetic run on a CPU. Not yet run on a GPU; the numbers of blocks and threads
are not tuned.
"""

import functools
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np

from gpunn.errors import OptionError
from gpunn.ops import _op

__all__ = [
    "TYPES",
    "bfloat16",
    "blocks",
    "blocks_of_rows",
    "cupy",
    "empty",
    "launch",
    "launch_columns",
    "launch_rows",
    "plain",
    "reference",
    "source",
    "summed",
]

TYPES = {"float32": ("float", "float"), "float64": ("double", "double"), "bfloat16": ("bf16", "float")}
THREADS = 256
MOST_BLOCKS = 2048
CHUNKS = 64  # at most so many partial sums are added one after another


@functools.cache
def cupy() -> Any:
    """CuPy, imported when it is first needed."""
    import cupy

    return cupy


def source() -> str:
    """The CUDA source of all kernels."""
    return resources.files("gpunn.kernels.cuda").joinpath("kernels.cu").read_text(encoding="utf-8")


def options(dtype: str) -> tuple[str, ...]:
    """What the compiler is told for numbers of this type."""
    stored, computed = TYPES[dtype]
    return "-std=c++17", f"-DSTORED={stored}", f"-DCOMPUTED={computed}"


@functools.cache
def _module(dtype: str) -> Any:
    return cupy().RawModule(code=source(), options=options(dtype))


@functools.cache
def _function(name: str, dtype: np.dtype) -> Any:
    return _module(dtype.name).get_function(f"gn_{name}")


@functools.cache  # NumPy takes two microseconds to name a data type
def _known(dtype: np.dtype) -> bool:
    return dtype.name in TYPES


def plain(*arrays: Any) -> bool:
    """Whether the kernels can be used: all of one type they know, each in one piece row after row, and not empty."""
    dtype = arrays[0].dtype
    for a in arrays:
        if a.dtype != dtype or not a.flags.c_contiguous or not a.size:
            return False
    return _known(dtype)


def empty(shape: int | tuple[int, ...], dtype: Any) -> Any:
    """A new array from CuPy's pool."""
    return cupy().empty(shape, dtype)


def bfloat16() -> np.dtype:
    """The data type, which CuPy knows where ml_dtypes is installed. Raises OptionError where it is not."""
    try:
        import ml_dtypes
    except ImportError:
        raise OptionError("dtype 'bfloat16' needs the package ml_dtypes: pip install ml-dtypes") from None
    return np.dtype(ml_dtypes.bfloat16)


@functools.cache
def summed(dtype: np.dtype) -> np.dtype:
    """The type of sums over numbers of this type, and of their means and variances: float32 for bfloat16, else it."""
    return np.dtype(np.float32) if dtype.name == "bfloat16" else dtype


def reference(of: Callable[..., Any]) -> Callable[..., Any]:
    """The function of an op as it is written in `gpunn.ops`, for arrays that no kernel takes.

    Bfloat16 is outside the array API standard. Where it is among the arguments, all is computed in float32; the first
    of the results is rounded, what else there is (sums over the batch, means and variances, a mask) stays in float32.
    """
    written = _op.reference(of)

    @functools.wraps(written)
    def call(*args: Any, **named: Any) -> Any:
        narrow = next((a.dtype for a in args if hasattr(a, "dtype") and summed(a.dtype) != a.dtype), None)
        if narrow is None:
            return written(*args, **named)
        wide = summed(narrow)
        args = tuple(a.astype(wide) if getattr(a, "dtype", None) == narrow else a for a in args)
        named.pop("out", None)  # a place for the result, of another type
        results = written(*args, **named)
        first, *others = results if isinstance(results, tuple) else (results,)
        first = None if first is None else first.astype(narrow)
        return (first, *others) if others else first

    return call


def blocks(n: int) -> int:
    """How many blocks for n numbers: about four numbers a thread."""
    return max(1, min(MOST_BLOCKS, -(-n // (4 * THREADS))))


def launch(
    name: str, dtype: np.dtype, grid: int | tuple[int, ...], *args: Any, threads: tuple[int, ...] = (THREADS,)
) -> None:
    """Run a kernel on the current stream. Arguments: arrays, whole numbers, floats; 0 for an array that is left out."""
    _function(name, dtype)((grid,) if isinstance(grid, int) else grid, threads, args)


def launch_rows(name: str, dtype: np.dtype, n: int, m: int, *args: Any) -> None:
    """Run a kernel on n rows of m numbers: a warp for each row, or a block for each long one."""
    rows = _rows_in_a_block(m)
    launch(name, dtype, blocks_of_rows(n, m), *args, threads=(32, rows) if rows > 1 else (THREADS, 1))


def blocks_of_rows(n: int, m: int) -> int:
    """How many blocks `launch_rows` runs."""
    return min(-(-n // _rows_in_a_block(m)), 1 << 16)


def _rows_in_a_block(m: int) -> int:
    return 8 if m <= 1024 else 1


def launch_columns(name: str, dtype: np.dtype, n: int, m: int, *args: Any, sums: int = 1) -> tuple[Any, int]:
    """Run a kernel that sums n rows of m columns in parts; returns the parts, (chunks, sums, m) of float64, and chunks.

    The kernel takes the parts first, and n and m last.
    """
    width = min(32, 1 << (m - 1).bit_length())
    high = THREADS // width
    wide = -(-m // width)
    chunks = max(1, min(CHUNKS, -(-n // (8 * high)), -(-1024 // wide)))
    parts = empty((chunks, sums, m), np.float64)
    launch(name, dtype, (wide, chunks), parts, *args, n, m, threads=(width, high))
    return parts, chunks
