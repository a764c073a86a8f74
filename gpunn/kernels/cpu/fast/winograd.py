"""Winograd's convolution (see `gpunn.kernels.cpu.winograd`) tile by tile: what it makes of them stays in the cache."""

from collections.abc import Callable

import numpy as np

from gpunn.kernels.cpu import winograd
from gpunn.kernels.cpu.fast._jit import called, jit, positive
from gpunn.kernels.cpu.fast.direct import window
from gpunn.kernels.cpu.fast.simd import LANES, NO, ONE, YES, ZERO, multiply, sandwich
from gpunn.kernels.cpu.fast.team import ENOUGH_AWAKE, run, shared
from gpunn.kernels.cpu.threads import enough, summed, threads
from gpunn.kernels.cpu.winograd import IN, OUT, VALUES, A, B, G, tiles
from gpunn.ops.conv import Pair

__all__ = ["backward", "forward", "suits"]

CACHE = 1 << 18  # numbers: the values of a band of tiles, 1 MiB of float32


def suits(x: np.ndarray, W: np.ndarray, size: Pair, stride: Pair) -> bool:
    """Whether this is the way for images x, weights W and an output of that size: its channels fill whole vectors."""
    return winograd.suits(x, W, size, stride, LANES) and W.shape[2] % LANES == W.shape[3] % LANES == 0


def forward(x: np.ndarray, W: np.ndarray, b: np.ndarray, y: np.ndarray, padding: Pair, relu: bool) -> None:
    """Fill y with what `conv2d` gives, or with `relu` `conv2d_relu`."""
    (N, P, Q, M), C = y.shape, W.shape[2]
    down = tiles((P, Q))[0]
    height = min(_height(P, Q, C + M), max(1, N * down // threads()))  # in a single image there are bands for all
    bands = N * -(-down // height)
    run(_forward, (x, W, b, relu, y, padding, height), bands, enough(bands, N * P * Q * W.size // 4, ENOUGH_AWAKE))


def backward(
    dy: np.ndarray, x: np.ndarray, W: np.ndarray, dx: np.ndarray, padding: Pair
) -> tuple[np.ndarray, np.ndarray]:
    """(dW, db); fills dx unless it is empty."""
    (N, P, Q, M), C = dy.shape, W.shape[2]
    height, needed = _height(P, Q, C + M), W if dx.size else W[:, :, :0]  # only dx takes the weights
    WT = np.ascontiguousarray(needed.swapaxes(2, 3))

    def work(dU: np.ndarray, db: np.ndarray, part: slice) -> None:
        _backward(dy, x, WT, dx, dU, db, padding, height, part.start, part.stop)

    dU, db = summed(work, ((VALUES, C, M), (M,)), np.float32, N, enough(N, N * P * Q * W.size // 2))
    dW = np.empty(W.shape, np.float32)
    _to_weights(dU, dW)
    return dW, db


def _height(P: int, Q: int, channels: int) -> int:
    """How many rows of tiles make a band whose values, of input and output, stay in the cache."""
    down, across = tiles((P, Q))
    return max(1, min(down, CACHE // (VALUES * across * channels)))


def _tiles(matrix: np.ndarray, back: bool = False, add: bool = False) -> Callable[..., None]:
    """A compiled function that makes T X T^T of the pixels X of every tile, or `back` pixels of values; T = `matrix`.

    The values are (36, tiles, channels): the first of all tiles, the second of all tiles ...
    """
    transform = sandwich(matrix, add)

    @called(made_of=(matrix.tolist(), back, add))
    def apply(image, width, values, count, across, channels):
        for tile in range(count):
            corner = OUT * (tile // across * width + tile % across) * channels
            for c in range(0, channels, LANES):
                pixels = corner + c, width * channels, channels
                numbers = tile * channels + c, IN * count * channels, count * channels
                if back:
                    transform(values, numbers, image, pixels)
                else:
                    transform(image, pixels, values, numbers)

    return apply


_of_kernel, _to_kernel = sandwich(G), sandwich(G.T)


@called
def _of_weights(W):
    """U = G g G^T for the kernel g of each pair of channels, flat, and how far apart its 36 parts (C M,) are.

    They are a cache line more apart than they need be: where that is a power of two, all 36 fall to one place of a
    cache, which has room for eight. Each thread makes U for itself: to fetch it from another would take longer.
    """
    pairs = W.shape[2] * W.shape[3]
    apart, W = pairs + LANES, W.reshape(-1)
    U = np.empty(VALUES * apart, np.float32)
    for pair in range(0, pairs, LANES):
        _of_kernel(W, (pair, 3 * pairs, pairs), U, (pair, IN * apart, apart))
    return U, apart


@jit
def _to_weights(dU, dW):
    """dW = G^T dU G."""
    pairs, dU, dW = dU[0].size, dU.reshape(-1), dW.reshape(-1)
    for pair in range(0, pairs, LANES):
        _to_kernel(dU, (pair, IN * pairs, pairs), dW, (pair, 3 * pairs, pairs))


_of_input, _to_output = _tiles(B), _tiles(A.T, back=True)
_of_output, _to_input = _tiles(A), _tiles(B.T, back=True, add=True)  # the tiles of the input lie over each other


@shared
def _forward(x, W, b, relu, y, padding, height, start, stop):
    (_, P, Q, M), C = y.shape, x.shape[3]
    down, across = -(-P // OUT), -(-Q // OUT)
    bands, width, (U, apart) = -(-down // height), OUT * across + 2, _of_weights(W)
    V, Z = np.empty(VALUES * height * across * C, np.float32), np.empty(VALUES * height * across * M, np.float32)
    out = np.empty((OUT * height, OUT * across, M), np.float32)
    for item in range(np.intp(start), np.intp(stop)):
        n, first = item // bands, item % bands * height
        rows = min(height, down - first)
        count = rows * across
        seen = window(x, n, OUT * first - padding[0], OUT * rows + 2, -padding[1], width)
        _of_input(seen, width, V, count, across, C)
        for k in range(VALUES):
            right = k * apart, ZERO, M
            multiply(V, (k * count * C, C, ZERO, ONE), U, right, Z, (k * count * M, M), count, M, (ONE, C), NO)
        _to_output(out.reshape(-1), OUT * across, Z, count, across, M)
        for p in range(min(OUT * rows, P - OUT * first)):
            for q in range(Q):
                pixel = y[n, OUT * first + p, q]
                for m in range(M):
                    pixel[m] = out[p, q, m] + b[m]
                if relu:
                    for m in range(M):
                        pixel[m] = positive(pixel[m])


@jit
def _backward(dy, x, WT, dx, dU, db, padding, height, start, stop):
    (_, P, Q, M), (_, H, W, C) = dy.shape, x.shape
    down, across = -(-P // OUT), -(-Q // OUT)
    width, (UT, apart), total = OUT * across + 2, _of_weights(WT), dU.reshape(-1)
    V, Z = np.empty(VALUES * height * across * C, np.float32), np.empty(VALUES * height * across * M, np.float32)
    frame, sums = np.empty((OUT * down + 2, width, C), np.float32), np.zeros(M)
    for n in range(start, stop):
        frame[:] = 0.0
        for first in range(0, down, height):
            rows = min(height, down - first)
            count = rows * across
            seen = window(x, n, OUT * first - padding[0], OUT * rows + 2, -padding[1], width)
            given = window(dy, n, OUT * first, OUT * rows, 0, OUT * across)
            _of_input(seen, width, V, count, across, C)
            _of_output(given, OUT * across, Z, count, across, M)
            for pixel in range(0, given.size, M):
                for m in range(M):
                    sums[m] += given[pixel + m]
            for k in range(VALUES):  # dU = V^T dZ
                left, right = (k * count * C, ONE, ZERO, C), (k * count * M, ZERO, M)
                multiply(V, left, Z, right, total, (k * C * M, M), C, M, (ONE, count), YES)
            if dx.size:
                for k in range(VALUES):  # dV = dZ U^T
                    left, right = (k * count * M, M, ZERO, ONE), (k * apart, ZERO, C)
                    multiply(Z, left, UT, right, V, (k * count * C, C), count, C, (ONE, M), NO)
                _to_input(frame[OUT * first :].reshape(-1), width, V, count, across, C)
        if dx.size:
            for row in range(H):
                for column in range(W):
                    for c in range(C):
                        dx[n, row, column, c] = frame[padding[0] + row, padding[1] + column, c]
    for m in range(M):
        db[m] += sums[m]
