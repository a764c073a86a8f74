"""Twins compiled by Numba, where it is installed (the extra `fast`): one pass over memory where NumPy makes several.

`GPUNN_FAST=0` in the environment leaves them out. What NumPy does well, products and exponentials of long arrays, stays
with it.
"""

from collections.abc import Callable
from typing import Any

from gpunn.kernels.cpu.fast import activation, dropout, loss, norm, update

__all__ = ["TWINS"]

TWINS: dict[str, Callable[..., Any]] = activation.TWINS | dropout.TWINS | loss.TWINS | norm.TWINS | update.TWINS
