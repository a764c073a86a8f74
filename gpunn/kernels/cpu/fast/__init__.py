"""Twins compiled by Numba, where it is installed (the extra `fast`): one pass over memory where NumPy makes several.

`GPUNN_FAST=0` in the environment leaves them out. What NumPy does well, products and exponentials of long arrays, stays
with it.
"""

from collections.abc import Callable
from typing import Any

from gpunn.kernels.cpu.fast import activation, conv, dropout, loss, norm, pool, update

__all__ = ["TWINS"]

TWINS: dict[str, Callable[..., Any]] = (
    activation.TWINS | conv.TWINS | dropout.TWINS | loss.TWINS | norm.TWINS | pool.TWINS | update.TWINS
)
