"""Faster twins of some ops, one module or folder for each kind of hardware.

A twin has the name and the signature of an op in `gpunn.ops`, serves the arrays of one library, and is checked against
the op in the tests. Without this package everything works as before, only slower.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["find"]


def find(name: str, kind: type) -> Callable[..., Any] | None:
    """The twin of op `name` for arrays of type `kind`, or None."""
    if kind is np.ndarray:
        from gpunn.kernels import cpu

        return cpu.TWINS.get(name)
    if kind.__module__ == "gpunn.kernels.cuda.constants":
        from gpunn.kernels.cuda import constants

        return constants.note(name)
    cupy = sys.modules.get("cupy")  # whoever has an array of CuPy's has imported it
    if cupy is not None and kind is getattr(cupy, "ndarray", None) and os.environ.get("GPUNN_FAST") != "0":
        from gpunn.kernels import cuda

        return cuda.TWINS.get(name)
    return None
