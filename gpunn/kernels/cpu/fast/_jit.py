"""How the functions of this folder are compiled: when first called, and kept on disk for the next time.

Each is a loop for one core, which leaves Python's lock; long arrays are divided among threads by `run` of `team`, or by
`split`. Numba's own threads would wait for work beside those of the matrix library, and on as many cores both would be
slow: a product of 128 x 784 x 512 and an update by Adam took 8.2 ms with them, and 1.0 ms with those of `split`.

Numba compiles a function anew when its own file has changed, not when that of an `inner` or `called` one has, or of a
constant, such as those of Winograd's way in the folder above. So the name of what it keeps has a checksum of all files
of both folders in it.
"""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

__all__ = ["called", "inner", "jit", "plain", "positive"]

# Division by 0 gives infinity, as in NumPy. The sums of floats may be taken in any order, and a * b + c in one step.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
FLOATS = np.dtype(np.float32), np.dtype(np.float64)
SUMS = {"reassoc", "contract", "nsz"}
FILES = zlib.crc32(b"".join(file.read_bytes() for file in sorted(Path(__file__).parents[1].rglob("*.py"))))


def jit(function: Callable[..., Any] | None = None, *, sums: bool = False) -> Callable[..., Any]:
    """Compile a function. Without `sums` it rounds each operation as NumPy does, so that results are equal to the bit.

    With it sums are taken in several parts side by side, which rounds otherwise, and is many times as fast.
    """
    if function is None:
        return lambda function: jit(function, sums=sums)
    function.__qualname__ += f"-{FILES:08x}"
    options = OPTIONS | ({"fastmath": SUMS} if sums else {})
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # no folder to keep it in can be written to
        return numba.njit(function, **options)


inner: Callable[..., Any] = numba.njit(inline="always", **OPTIONS)  # for what those call


def called(function: Callable[..., Any] | None = None, *, made_of: Any = None) -> Callable[..., Any]:
    """`inner` for what is long: it is not copied into its callers. Python cannot call it, so there is less to compile.

    Numba finds compiled code by the function's name, its types, and a number that it gives in the order of compiling:
    two functions kept on disk by different processes can have the same number. If their names are equal, too, as those
    of functions made by the same lines are, one would be called for the other. So these say what they are `made_of`,
    which goes into the name.
    """
    if function is None:
        return lambda function: called(function, made_of=made_of)
    if made_of is not None:
        function.__qualname__ += f"-{zlib.crc32(repr(made_of).encode()):08x}"
    return numba.njit(function, no_cpython_wrapper=True, **OPTIONS)


@inner
def positive(x):
    """max(x, 0); NaN stays NaN."""
    zero = np.float32(0.0)
    return zero if x <= zero else x


def plain(*arrays: np.ndarray) -> bool:
    """Whether all are of one real floating type and lie in memory in one piece, row after row."""
    dtype = arrays[0].dtype
    for a in arrays:  # a generator for all() would take longer
        if a.dtype != dtype or not a.flags.c_contiguous:
            return False
    return dtype in FLOATS
