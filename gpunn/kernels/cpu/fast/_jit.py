"""How the functions of this folder are compiled: when first called, and kept on disk for the next time.

Each is a loop for one core, which leaves Python's lock; long arrays are divided among threads by `split`. Numba's own
threads would wait for work beside those of the matrix library, and on as many cores both would be slow: a product of
128 x 784 x 512 and an update by Adam took 8.2 ms with them, and 1.0 ms with these.

Numba compiles a function anew when its own file has changed, not when that of an `inner` or `called` one has: whoever
changes `exp.py`, `simd.py` or this file removes the *.nbi and *.nbc files in __pycache__.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = ["called", "inner", "jit", "plain"]

# Division by 0 gives infinity, as in NumPy. The sums of floats may be taken in any order, and a * b + c in one step.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
FLOATS = np.dtype(np.float32), np.dtype(np.float64)
SUMS = {"reassoc", "contract", "nsz"}


def jit(function: Callable[..., Any] | None = None, *, sums: bool = False) -> Callable[..., Any]:
    """Compile a function. Without `sums` it rounds each operation as NumPy does, so that results are equal to the bit.

    With it sums are taken in several parts side by side, which rounds otherwise, and is many times as fast.
    """
    if function is None:
        return lambda function: jit(function, sums=sums)
    options = OPTIONS | ({"fastmath": SUMS} if sums else {})
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # no folder to keep it in can be written to
        return numba.njit(function, **options)


inner: Callable[..., Any] = numba.njit(inline="always", **OPTIONS)  # for what is called by those
called: Callable[..., Any] = numba.njit(**OPTIONS)  # the same for what is long: it is not copied into them


def plain(*arrays: np.ndarray) -> bool:
    """Whether all are of one real floating type and lie in memory in one piece, row after row."""
    dtype = arrays[0].dtype
    for a in arrays:  # a generator for all() would take longer
        if a.dtype != dtype or not a.flags.c_contiguous:
            return False
    return dtype in FLOATS
