"""Twins for CuPy arrays: one CUDA source, and the matrix product through cuBLASLt.

`GPUNN_FAST=0` in the environment leaves them out. Importing this folder does not import CuPy.
"""

from collections.abc import Callable
from typing import Any

from gpunn.kernels.cuda import conv, linear, orthogonal, twins

__all__ = ["TWINS"]

TWINS: dict[str, Callable[..., Any]] = twins.TWINS | linear.TWINS | conv.TWINS | orthogonal.TWINS
