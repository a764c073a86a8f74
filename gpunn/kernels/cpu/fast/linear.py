"""The linear map in float32 and its gradients, without the matrix library: shared among the threads of `team`.

What the library does well are products of large matrices that are about square. Here one of the three sizes, the batch,
is often small beside the others, so that what counts is how often W and dW go through the caches: here once. A step's
products of N x 2048 times 2048 x 2048 in float32 on two cores of an AMD EPYC (Zen 4, AVX-512), milliseconds:

               OpenBLAS 0.3.31               here
          y = x W   dW    dx        y = x W   dW    dx
    N = 32    2.2    2.4   2.6           2.2   1.5   1.7
       128    5.8    6.6   6.6           6.3   5.4   5.4
     1,024   42.5   43.2  42.8          40.9  44.4  40.4
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.kernels.cpu import linear as plain
from gpunn.kernels.cpu.fast._jit import positive
from gpunn.kernels.cpu.fast.simd import AVX512, LANES, LONG, NO, ONE, WIDE, ZERO, copy, long, multiply, transpose
from gpunn.kernels.cpu.fast.team import ENOUGH_AWAKE, run, shared
from gpunn.kernels.cpu.memory import empty
from gpunn.kernels.cpu.threads import LINE, enough

__all__ = ["TWINS", "linear", "linear_backward", "linear_relu", "product"]

F = np.float32
SMALL = 1 << 18  # multiplications: those with fewer leave the library's threads asleep
PANEL = WIDE * LANES  # columns
DEPTH, CACHE = 512, 1 << 17  # rows, and numbers, of b that are laid out anew: 512 KiB, which stay in a core's cache
ROWS = 96  # of a, likewise: whole cache lines and whole tiles
FEW = 8  # rows of c for which b is read where it lies
SUMS = 1 << 15  # numbers for each thread to add up
NONE = np.empty(0, F)
FLOAT32 = NONE.dtype


@shared
def _product(a, a_transposed, b, b_transposed, bias, relu, c, by_columns, start, stop):
    """c = a b + bias, or a^T b, or a b^T, for some columns, or rows, of c; with `relu` max(c, 0).

    The numbers of b are laid out in panels, in the order in which they are needed; so are those of a where they are
    columns, again for each set of columns of b. How many of its rows at a time follows from the whole of c, so that all
    pieces round alike.
    """
    (N, M), K = c.shape, a.shape[0] if a_transposed else a.shape[1]
    piece = np.intp(start), np.intp(stop)
    (first, last), (left, right) = ((0, N), piece) if by_columns else (piece, (0, M))
    a, b, c = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    deep = min(DEPTH, K)
    columns = min(CACHE // deep // PANEL, -(-M // PANEL)) * PANEL  # the fewer rows, the more columns at a time
    if not a_transposed:
        deep = CACHE // columns
    laid_out = b_transposed or (N > FEW and M > PANEL)  # else b is read where it lies
    panels = np.empty(deep * columns if laid_out else 0, F)
    strip = np.empty(ROWS * DEPTH if a_transposed else 0, F)
    for j in range(left, right, columns):
        end = min(j + columns, right)
        for k in range(0, K, deep):
            depth = min(deep, K - k)
            for m in range(j, end, PANEL):
                panel, width = (m - j) * deep, min(PANEL, end - m)
                if b_transposed:
                    transpose(b, (m * K + k, K), panels, (panel, PANEL), width, depth)
                elif laid_out:
                    for n in range(depth):
                        copy(b, (k + n) * M + m, panels, panel + n * PANEL, width)
            for i in range(first, last, ROWS):
                height = min(ROWS, last - i)
                source, at = a, (i * K + k, K, ZERO, ONE)
                if a_transposed:
                    for n in range(depth):
                        copy(a, (k + n) * N + i, strip, n * ROWS, height)
                    source, at = strip, (ZERO, ONE, ZERO, np.int64(ROWS))
                for m in range(j, end, PANEL):
                    factor, factor_at = b, (k * M + m, ZERO, M)
                    if laid_out:
                        factor, factor_at = panels, ((m - j) * deep, ZERO, np.int64(PANEL))
                    width = min(PANEL, end - m)
                    multiply(source, at, factor, factor_at, c, (i * M + m, M), height, width, (ONE, depth), k > 0)
                for r in range(i, i + height if k + depth == K else i):
                    row = c[r * M + j : r * M + end]
                    if bias.size > 0:
                        for m in range(row.size):
                            row[m] += bias[np.uintp(j + m)]
                    if relu:
                        for m in range(row.size):
                            row[m] = positive(row[m])


@shared
def _row(x, W, b, relu, y, start, stop):
    """y = x W + b, or with `relu` max(y, 0), for a single row x, for some columns.

    At a time it takes as long a piece of each row of W as the registers hold.
    """
    (K, M), m, end = W.shape, np.intp(start), np.intp(stop)
    x, W, y = x.reshape(-1), W.reshape(-1), y.reshape(-1)
    while end - m >= LONG * LANES:
        long(x, (0, 0, 0, 1), W, (m, 0, M), y, (m, 0), 1, LONG * LANES, (1, K), False)
        m += LONG * LANES
    multiply(x, (ZERO, ZERO, ZERO, ONE), W, (m, ZERO, M), y, (m, ZERO), ONE, end - m, (ONE, K), NO)
    if b.size > 0:
        for o in range(start, stop):
            y[o] += b[o]
    if relu:
        for o in range(start, stop):
            y[o] = positive(y[o])


@shared
def _sum(dy, db, start, stop):
    """db = the sum of the rows of dy, for some columns."""
    for m in range(start, stop):
        db[m] = F(0.0)
    for n in range(dy.shape[0]):
        for m in range(start, stop):
            db[m] += dy[n, m]


def product(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, *, transposed: str = "", bias: np.ndarray = NONE, relu: bool = False
) -> None:
    """Fill c with a b + bias, or with `relu` max(a b + bias, 0); `transposed` may name one of a and b.

    Each thread does some columns, or rows, of c.
    """
    (N, M), K = c.shape, a.shape[transposed != "a"]
    size, align = (M, PANEL) if M >= N else (N, LANES)
    least = max(align, enough(size, N * M * K, ENOUGH_AWAKE))
    run(_product, (a, transposed == "a", b, transposed == "b", bias, relu, c, M >= N), size, least, align=align)


def linear(x: np.ndarray, W: np.ndarray, b: np.ndarray | None = None, *, out: np.ndarray | None = None) -> np.ndarray:
    """`gpunn.ops.linear` for NumPy arrays."""
    if len(x) * W.size < SMALL or not _fit(x, W, b, out) or _over(out, x, W, b):
        return plain.linear(x, W, b, out=out)
    return _fill(empty((len(x), W.shape[1]), F) if out is None else out, x, W, b)


def linear_relu(x: np.ndarray, W: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """`gpunn.ops.linear_relu` for NumPy arrays."""
    if len(x) * W.size < SMALL or not _fit(x, W, b, None):
        return plain.linear_relu(x, W, b)
    return _fill(empty((len(x), W.shape[1]), F), x, W, b, relu=True)


def _fill(y: np.ndarray, x: np.ndarray, W: np.ndarray, b: np.ndarray | None, relu: bool = False) -> np.ndarray:
    b = NONE if b is None else b
    if len(x) == 1:
        run(_row, (x, W, b, relu, y), W.shape[1], PANEL, align=PANEL)
    else:
        product(x, W, y, bias=b, relu=relu)
    return y


def linear_backward(
    dy: np.ndarray,
    x: np.ndarray,
    W: np.ndarray,
    *,
    need_dx: bool = True,
    out: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None] = (None, None, None),
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """`gpunn.ops.linear_backward` for NumPy arrays."""
    dx, dW, db = out
    if len(x) * W.size < SMALL or not _fit(x, W, db, dy, dx, dW):
        return plain.linear_backward(dy, x, W, need_dx=need_dx, out=out)
    if need_dx:
        dx = empty(x.shape, F) if dx is None else dx
        product(dy, W, dx, transposed="b")
    dW = np.empty(W.shape, F) if dW is None else dW
    product(x, dy, dW, transposed="a")
    db = np.empty(W.shape[1], F) if db is None else db
    run(_sum, (dy, db), len(db), -(-SUMS // len(x)), align=LINE)
    return dx if need_dx else None, dW, db


def _fit(
    x: np.ndarray, W: np.ndarray, b: np.ndarray | None, y: np.ndarray | None, *gradients: np.ndarray | None
) -> bool:
    """Whether these are of float32, in one piece, to be written to, and of shapes that go together; None always is.

    Instead of b and y their gradients may be given, and after them those of x and W. Compiled code does not look where
    an array ends.
    """
    N, D, M = len(x), len(W), W.shape[-1]
    shapes = (N, D), (D, M), (M,), (N, M), (N, D), (D, M)
    for a, shape in zip((x, W, b, y, *gradients), shapes):  # noqa: B905  strict and all() would take longer
        # what was read from a pickle has a type of its own, which is only equal
        if a is not None and not (a.shape == shape and (a.dtype is FLOAT32 or a.dtype == FLOAT32) and a.flags.carray):
            return False
    return True


def _over(out: np.ndarray | None, *arrays: np.ndarray | None) -> bool:
    """Whether `out` lies over one of these, which would be written to before it has been read."""
    return out is not None and any(a is not None and np.may_share_memory(a, out) for a in arrays)


TWINS: dict[str, Callable[..., Any]] = (
    {"linear": linear, "linear_backward": linear_backward, "linear_relu": linear_relu} if AVX512 else {}
)
