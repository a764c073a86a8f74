"""Pooling by pieces of the batch that fit in a core's cache, side by side on all cores."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.kernels.cpu.memory import empty
from gpunn.kernels.cpu.threads import enough, split, threads

__all__ = ["TWINS"]

PIECE = 1 << 16  # numbers: a piece and what is made of it, in float32, take about 1 MiB
LEAST = 1 << 18  # for each thread


def _in_pieces(op: Any, like: int) -> Callable[..., np.ndarray]:
    """The op by pieces of its arrays; `like` is the place of x, the larger one, among them: it decides the pieces."""
    reference = op.reference

    @functools.wraps(reference)
    def pieces(*arrays: np.ndarray, **options: Any) -> np.ndarray:
        x = arrays[like]
        images = max(1, PIECE // max(1, math.prod(x.shape[1:])))
        if threads() == 1 or x.shape[0] <= images:
            return reference(*arrays, **options)
        first = reference(*(a[:images] for a in arrays), **options)
        out = empty((x.shape[0], *first.shape[1:]), first.dtype)

        def work(part: slice) -> None:
            for start in range(part.start, part.stop, images):
                piece = slice(start, min(start + images, part.stop))
                out[piece] = reference(*(a[piece] for a in arrays), **options)

        split(work, len(x), enough(len(x), x.size, LEAST), align=1)
        return out

    return pieces


TWINS: dict[str, Callable[..., Any]] = {
    "max_pool2d": _in_pieces(ops.max_pool2d, 0),
    "max_pool2d_backward": _in_pieces(ops.max_pool2d_backward, 1),
    "avg_pool2d": _in_pieces(ops.avg_pool2d, 0),
    "avg_pool2d_backward": _in_pieces(ops.avg_pool2d_backward, 1),
}
