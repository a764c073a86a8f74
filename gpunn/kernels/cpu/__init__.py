"""Twins for NumPy arrays: with NumPy itself, and with Numba where that is installed."""

import os
from collections.abc import Callable
from typing import Any

from gpunn.kernels.cpu import activation, conv, dropout, linear, loss, pool, update

__all__ = ["TWINS"]

TWINS: dict[str, Callable[..., Any]] = (
    activation.TWINS | update.TWINS | conv.TWINS | pool.TWINS | linear.TWINS | loss.TWINS | dropout.TWINS
)

if os.environ.get("GPUNN_FAST") != "0" and os.environ.get("NUMBA_DISABLE_JIT", "0") == "0":
    try:
        import numba  # noqa: F401
    except ImportError:
        pass
    else:
        from gpunn.kernels.cpu import fast

        TWINS |= fast.TWINS
