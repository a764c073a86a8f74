"""Twins compiled by Numba, where it is installed (the extra `fast`): one pass over memory where NumPy makes several.

`GPUNN_FAST=0` in the environment leaves them out. What NumPy does as well, small products of matrices and those in
float64, stays with it.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpunn.kernels.cpu.fast import activation, conv, dropout, linear, loss, norm, pool, update
from gpunn.kernels.cpu.fast._jit import FILES

__all__ = ["TWINS"]

TWINS: dict[str, Callable[..., Any]] = (
    activation.TWINS | conv.TWINS | dropout.TWINS | linear.TWINS | loss.TWINS | norm.TWINS | pool.TWINS | update.TWINS
)


def _announce() -> None:
    """Say why the first step will take long, where nothing of this version has been compiled yet."""
    stats: Any = getattr(update._sgd, "stats", None)
    folder = stats and stats.cache_path
    if not (folder and any(Path(folder).glob(f"*-{FILES:08x}-*.nbi"))):
        print(
            "gpunn: Numba compiles each twin when it is first used, and keeps it in "
            f"{folder or 'memory alone: no folder can be written to'}; the first step takes seconds, that of a "
            "convolution a quarter of a minute",
            file=sys.stderr,
        )


_announce()
