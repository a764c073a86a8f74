"""Winograd's convolution for kernels of 3 x 3: 4 x 4 output pixels with 36 products a pair of channels, not 144.

To convolve is to multiply polynomials, and a product of polynomials is known once its values at enough points are,
each of them a product of two numbers. So 6 x 6 input pixels d become 6 x 6 values and a kernel g of 3 x 3 as many, they
are multiplied one by one, and the 6 x 6 products become 4 x 4 output pixels (Winograd, "Arithmetic complexity of
computations", 1980; Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016):

    y = A^T ((G g G^T) * (B^T d B)) A

Summed over the channels, each of the 36 is a matrix product over tiles and channels. The backward pass is the same way
back: where y = A^T z A, it is dz = A dy A^T, and so on.

The points are 0, 3/4, -3/4, 3/2, -3/2 and infinity. In float32 the errors are then 0.6e-6 of y for 32 channels and
1.1e-6 for 128 (root mean squares), two to three times those of one product of columns; with the more usual points 0, 1,
-1, 2, -2 they are twice as large again.
"""

from collections.abc import Iterator

import numpy as np

from gpunn.kernels.cpu.threads import enough, split, summed
from gpunn.ops.conv import Pair

__all__ = ["IN", "OUT", "TWICE", "VALUES", "A", "B", "G", "backward", "forward", "suits", "tiles"]

POINTS = np.array([0.0, 0.75, -0.75, 1.5, -1.5])
OUT, IN = 4, 6  # pixels on a side of a tile
VALUES = IN * IN
PIECE = 1 << 18  # numbers: the values of a piece of the batch, 1 MiB of float32
LARGEST = 1 << 15  # C M: beyond, 36 values for each pair of channels do not stay in the cache


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (6, 4), G (6, 3) and B^T (6, 6), a row for each point: powers, powers over gaps, products of (t - others)."""
    infinity = np.eye(1, IN)[:, ::-1]  # there the last coefficient of a polynomial is what counts
    A = np.vstack([POINTS[:, None] ** np.arange(OUT), infinity[:, -OUT:]])
    gaps = np.array([[np.prod(p - POINTS[p != POINTS])] for p in POINTS])
    G = np.vstack([POINTS[:, None] ** np.arange(3) / gaps, infinity[:, -3:]])
    others = [[*np.poly(POINTS[p != POINTS])[::-1], 0.0] for p in POINTS]
    return A, G, np.array([*others, np.poly(POINTS)[::-1]])


A, G, B = _matrices()
# T X T^T of a square matrix X is one product, too: the Kronecker product of T and T, times X laid out as a column.
TWICE = {
    np.dtype(kind): tuple(np.kron(T, T).astype(kind) for T in (A, G, B)) for kind in (np.float32, np.float64)
}  # (36, 16), (36, 9), (36, 36)


def tiles(size: Pair) -> Pair:
    """How many tiles down and across an output of that size has."""
    return -(-size[0] // OUT), -(-size[1] // OUT)


def suits(x: np.ndarray, W: np.ndarray, size: Pair, stride: Pair, least: int = 32) -> bool:
    """Whether this is the way for images x, weights W and an output of that size.

    It is for at least `least` channels and not too many, where no more than a third of the tiles' pixels are left over.
    """
    (down, across), (C, M) = tiles(size), W.shape[2:]
    worth = min(C, M) >= least and C * M <= LARGEST and 2 * down * across * OUT * OUT <= 3 * size[0] * size[1]
    return worth and W.shape[:2] == (3, 3) and stride == (1, 1) and x.dtype == W.dtype and W.dtype in TWICE


def _of_weights(W: np.ndarray) -> np.ndarray:
    """U = G g G^T for the kernel g of each pair of channels: (36, C, M)."""
    _, GG, _ = TWICE[W.dtype]
    return (GG @ W.reshape(9, -1)).reshape(VALUES, *W.shape[2:])


def _to_weights(dU: np.ndarray) -> np.ndarray:
    """dW = G^T dU G: (3, 3, C, M)."""
    _, GG, _ = TWICE[dU.dtype]
    return (GG.T @ dU.reshape(VALUES, -1)).reshape(3, 3, *dU.shape[1:])


def forward(x: np.ndarray, W: np.ndarray, b: np.ndarray | None, y: np.ndarray, padding: Pair) -> None:
    """Fill y with what `conv2d` gives."""
    (N, P, Q, M), U, (AA, _, _) = y.shape, _of_weights(W), TWICE[W.dtype]
    down, across = tiles((P, Q))

    def work(part: slice) -> None:
        for piece in _pieces(part, W, (P, Q)):
            Z = _of_input(x[piece], (P, Q), padding) @ U
            out = (AA.T @ Z.reshape(VALUES, -1)).reshape(OUT, OUT, -1, down, across, M).transpose(2, 3, 0, 4, 1, 5)
            if b is not None:
                out += b
            y[piece] = out.reshape(-1, OUT * down, OUT * across, M)[:, :P, :Q]

    split(work, N, enough(N, N * P * Q * W.size // 4), align=1, products=True)


def backward(
    dy: np.ndarray, x: np.ndarray, W: np.ndarray, dx: np.ndarray | None, padding: Pair
) -> tuple[np.ndarray, np.ndarray]:
    """(dW, db); fills dx, where there is one."""
    (N, P, Q, M), (_, h, w, C) = dy.shape, x.shape
    (AA, _, BB), (above, left), (down, across) = TWICE[W.dtype], padding, tiles((P, Q))
    UT = None if dx is None else _of_weights(W).swapaxes(1, 2)

    def work(dU: np.ndarray, db: np.ndarray, part: slice) -> None:
        for piece in _pieces(part, W, (P, Q)):
            V, given = _of_input(x[piece], (P, Q), padding), _framed(dy[piece], (0, 0), (OUT * down, OUT * across))
            db += given.reshape(-1, M).sum(axis=0)
            given = given.reshape(-1, down, OUT, across, OUT, M).transpose(2, 4, 0, 1, 3, 5)
            dZ = (AA @ given.reshape(OUT * OUT, -1)).reshape(VALUES, -1, M)
            dU += V.swapaxes(1, 2) @ dZ
            if dx is not None:
                d = BB.T @ (dZ @ UT).reshape(VALUES, -1)
                frame = np.zeros((V.shape[1] // (down * across), OUT * down + 2, OUT * across + 2, C), dtype=x.dtype)
                for (u, v), pixels in zip(np.ndindex(IN, IN), d, strict=True):
                    seen = frame[:, u : u + OUT * down - 3 : OUT, v : v + OUT * across - 3 : OUT]
                    seen += pixels.reshape(seen.shape)
                dx[piece] = frame[:, above : above + h, left : left + w]

    least = enough(N, N * P * Q * W.size // 2)
    dU, db = summed(work, ((VALUES, C, M), (M,)), W.dtype, N, least, products=True)
    return _to_weights(dU), db


def _pieces(part: slice, W: np.ndarray, size: Pair) -> Iterator[slice]:
    """Part of the batch in pieces of as many images as have `PIECE` values."""
    down, across = tiles(size)
    images = max(1, PIECE // (VALUES * down * across * sum(W.shape[2:])))
    return (slice(first, min(first + images, part.stop)) for first in range(part.start, part.stop, images))


def _of_input(x: np.ndarray, size: Pair, padding: Pair) -> np.ndarray:
    """B^T d B for the pixels d of each tile: (36, tiles of all images, C)."""
    (down, across), (_, _, BB) = tiles(size), TWICE[x.dtype]
    x = _framed(x, padding, (OUT * down + 2, OUT * across + 2))
    n, row, column, channel = x.strides
    shape = IN, IN, x.shape[0], down, across, x.shape[3]
    strides = row, column, n, OUT * row, OUT * column, channel
    pixels = np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)
    return (BB @ pixels.reshape(VALUES, -1)).reshape(VALUES, -1, x.shape[3])


def _framed(x: np.ndarray, padding: Pair, size: Pair) -> np.ndarray:
    """Images of that size: above and left of x as many zeros as `padding` says, right and below as are missing."""
    if x.shape[1:3] == size:
        return x
    (n, h, w, c), (above, left) = x.shape, padding
    framed = np.zeros((n, *size, c), dtype=x.dtype)
    framed[:, above : above + h, left : left + w] = x
    return framed
