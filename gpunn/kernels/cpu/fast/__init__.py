"""Twins compiled by Numba, where it is installed (the extra `fast`): one pass over memory where NumPy makes several.

`GPUNN_FAST=0` in the environment leaves them out. What NumPy does as well, small products of matrices and those in
float64, stays with it.
"""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gpunn.kernels.cpu.fast import activation, conv, dropout, linear, loss, norm, pool, update
from gpunn.kernels.cpu.fast._jit import FILES

__all__ = ["TWINS"]

MONTH = 30 * 86400  # seconds
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
        if folder:
            _clear(Path(folder))


def _clear(folder: Path) -> None:
    """Remove what was compiled for other versions of these files more than a month ago: nobody else ever would."""
    for file in folder.glob("*.nb[ci]"):
        with suppress(OSError):  # it is in nobody's way
            if f"-{FILES:08x}-" not in file.name and file.stat().st_mtime < time.time() - MONTH:
                file.unlink()


_announce()
