"""Numba, which compiles twins: whether it is here, and where it keeps what it has compiled."""

from contextlib import suppress
from typing import Any

__all__ = ["numba_state"]


def numba_state() -> dict[str, Any] | None:
    """Numba's version and cache folder; None where it is not installed.

    `cache` is None where no folder can be written to: each process then compiles anew.
    """
    try:
        import numba
    except ImportError:
        return None
    cache = None
    with suppress(RuntimeError, AttributeError):  # no folder; NUMBA_DISABLE_JIT, which compiles nothing
        cache = numba.njit(cache=True)(_in_this_folder).stats.cache_path
    return {"version": numba.__version__, "cache": cache}


def _in_this_folder() -> None:
    """Never called: Numba chooses the folder of the cache by that of the function's source."""
