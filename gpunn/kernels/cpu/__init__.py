"""Twins for NumPy arrays."""

from gpunn.kernels.cpu import update

__all__ = ["TWINS"]

TWINS = update.TWINS
