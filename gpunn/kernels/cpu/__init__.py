"""Twins for NumPy arrays."""

from collections.abc import Callable
from typing import Any

from gpunn.kernels.cpu import conv, update

__all__ = ["TWINS"]

TWINS: dict[str, Callable[..., Any]] = update.TWINS | conv.TWINS
