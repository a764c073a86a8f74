"""The gradients of a large linear map in float32: dW = x^T dy and dx = dy W^T without the matrix library.

What it does well are products of large matrices that are about square. Here one of the three sizes, the batch, is small
beside the other two, so that what counts is how often W and dW go through the caches: here once. A step's products of
N x 2048 times 2048 x 2048 in float32 on two cores of an AMD EPYC (Zen 4, AVX-512), milliseconds:

                     N = 32    128
    OpenBLAS  dW        2.3    6.2
              dx        1.8    6.4
    here      dW        1.4    5.3
              dx        1.8    5.8

At y = x W the library is as fast, and faster with fewer weights than `LARGE`: its threads wait for work, these are
woken.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.kernels.cpu import linear as plain
from gpunn.kernels.cpu.fast._jit import jit
from gpunn.kernels.cpu.fast.simd import AVX512, LANES, WIDE, copy, transpose, wide
from gpunn.kernels.cpu.threads import enough, split

__all__ = ["TWINS", "linear_backward", "product"]

F = np.float32
LARGE, FEWEST = 1 << 20, 16  # weights, rows of the batch
PANEL = WIDE * LANES  # columns
DEPTH, COLUMNS = 128, 1024  # of b that are laid out anew: 512 KiB, which stays in a core's cache
ROWS = 96  # of a, likewise: whole cache lines and whole tiles


@jit
def _product(a, a_transposed, b, b_transposed, c, rows, columns):
    """c = a b, or a^T b, or a b^T, for some rows and columns, (start, stop), of c.

    The numbers of b are laid out in panels, in the order in which they are needed; so are those of a where they are
    columns.
    """
    (first, last), (left, right), (N, M), K = rows, columns, c.shape, a.shape[0] if a_transposed else a.shape[1]
    a, b, c = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    panels, strip, edge = np.empty(COLUMNS * DEPTH, F), np.empty(ROWS * DEPTH, F), np.empty(ROWS * PANEL, F)
    for j in range(left, right, COLUMNS):
        end = min(j + COLUMNS, right)
        for k in range(0, K, DEPTH):
            depth = min(DEPTH, K - k)
            if b_transposed:
                for m in range(j, end, PANEL):
                    transpose(b, (m * K + k, K), panels, ((m - j) * DEPTH, PANEL), min(PANEL, end - m), depth)
            else:
                for n in range(depth):
                    for m in range(j, end, PANEL):
                        copy(b, (k + n) * M + m, panels, (m - j) * DEPTH + n * PANEL, min(PANEL, end - m))
            for i in range(first, last, ROWS):
                height = min(ROWS, last - i)
                source, at = a, (i * K + k, K, 0, 1)
                if a_transposed:
                    for n in range(depth):
                        copy(a, (k + n) * N + i, strip, n * ROWS, height)
                    source, at = strip, (0, 1, 0, ROWS)
                for m in range(j, end, PANEL):
                    width, panel = min(PANEL, end - m), ((m - j) * DEPTH, 0, PANEL)
                    if width == PANEL:
                        wide(source, at, panels, panel, c, (i * M + m, M), height, (1, depth), k > 0)
                        continue
                    wide(source, at, panels, panel, edge, (0, PANEL), height, (1, depth), False)
                    for r in range(height):  # the other columns of the panel are of no account
                        for o in range(width):
                            to = (i + r) * M + m + o
                            c[to] = edge[r * PANEL + o] + (c[to] if k > 0 else F(0.0))


def product(a: np.ndarray, b: np.ndarray, c: np.ndarray, *, transposed: str) -> None:
    """Fill c with a^T b or a b^T: `transposed` names the one that is. Each thread does some columns, or rows, of c."""
    (N, M), K = c.shape, a.shape[transposed != "a"]
    size, align = (M, PANEL) if M >= N else (N, LANES)

    def work(part: slice) -> None:
        piece = part.start, part.stop
        rows, columns = ((0, N), piece) if M >= N else (piece, (0, M))
        _product(a, transposed == "a", b, transposed == "b", c, rows, columns)

    split(work, size, max(align, enough(size, N * M * K)), align=align)


def linear_backward(
    dy: np.ndarray,
    x: np.ndarray,
    W: np.ndarray,
    *,
    need_dx: bool = True,
    out: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None] = (None, None, None),
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """`gpunn.ops.linear_backward` for NumPy arrays."""
    if W.size < LARGE or x.ndim != 2 or len(x) < FEWEST or min(W.shape) < 2 * PANEL or not _fit(dy, x, W, *out):
        return plain.linear_backward(dy, x, W, need_dx=need_dx, out=out)
    dx, dW, db = out
    if need_dx:
        dx = np.empty(x.shape, F) if dx is None else dx
        product(dy, W, dx, transposed="b")
    dW = np.empty(W.shape, F) if dW is None else dW
    product(x, dy, dW, transposed="a")
    return dx if need_dx else None, dW, plain.ones(len(x), x.dtype).dot(dy, out=db)


def _fit(*arrays: np.ndarray | None) -> bool:
    """Whether these are as `_product` expects them: of float32, in one piece, to be written to; or not there."""
    return all(a is None or (a.dtype == F and a.ndim <= 2 and a.flags.carray) for a in arrays)


TWINS: dict[str, Callable[..., Any]] = {"linear_backward": linear_backward} if AVX512 else {}
