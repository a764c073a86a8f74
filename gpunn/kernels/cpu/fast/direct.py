"""Convolution as the sum that it is, without columns: tiles of the output stay in registers while they are summed.

Images are (N, H, W, C), so the V C numbers of a kernel row lie side by side, and for the output pixel to the right they
begin `stride * C` further. `multiply` reads them where they are: for a row of output pixels i the sum is over kernel
rows o and numbers k of a row. For dW it is over rows o and columns k of the output.
"""

import numpy as np

from gpunn.kernels.cpu.fast._jit import called, jit, positive
from gpunn.kernels.cpu.fast.simd import LANES, NO, ONE, YES, ZERO, copy, multiply
from gpunn.kernels.cpu.fast.team import ENOUGH_AWAKE, run, shared
from gpunn.kernels.cpu.threads import enough, summed, threads
from gpunn.ops.conv import Pair

__all__ = ["backward", "forward", "window"]


def forward(
    x: np.ndarray, W: np.ndarray, b: np.ndarray, y: np.ndarray, stride: Pair, padding: Pair, relu: bool
) -> None:
    """Fill y with what `conv2d` gives, or with `relu` `conv2d_relu`."""
    (N, P, _, _), (U, V, C, M) = y.shape, W.shape
    height = max(1, min(P, N * P // threads()))
    bands, padded = N * -(-P // height), _padded(W.reshape(-1, M))
    least = enough(bands, y.size * U * V * C, ENOUGH_AWAKE)
    run(_forward, (x, padded, b, relu, y, (U, V), stride, padding, height), bands, least)


def backward(
    dy: np.ndarray, x: np.ndarray, W: np.ndarray, dx: np.ndarray, stride: Pair, padding: Pair
) -> tuple[np.ndarray, np.ndarray]:
    """(dW, db); fills dx where it is not empty."""
    (N, P, Q, _), (U, V, C, M), WT = dy.shape, W.shape, _padded(W.swapaxes(2, 3))

    def work(dW: np.ndarray, db: np.ndarray, part: slice) -> None:
        _backward(dy, x, WT, dx, dW, db, stride, padding, part.start, part.stop)

    shapes = (U, V, C, -(-M // LANES) * LANES), (M,)
    dW, db = summed(work, shapes, np.float32, N, enough(N, 2 * N * P * Q * W.size))
    return np.ascontiguousarray(dW[..., :M]), db


def _padded(W: np.ndarray) -> np.ndarray:
    """W with columns of zeros added up to a multiple of LANES, in one piece."""
    if W.shape[-1] % LANES == 0:
        return np.ascontiguousarray(W)
    padded = np.zeros((*W.shape[:-1], -(-W.shape[-1] // LANES) * LANES), np.float32)
    padded[..., : W.shape[-1]] = W
    return padded


@called
def window(x, n, first, rows, start, columns):
    """Rows `first` on and columns `start` on of image n of x (N, H, W, C), flat; what is outside the image is 0."""
    _, H, W, C = x.shape
    if first >= 0 and first + rows <= H and start == 0 and columns == W:
        begin = (n * H + first) * W * C
        return x.reshape(-1)[begin : begin + rows * W * C]
    framed = np.zeros((rows, columns, C), np.float32)
    for row in range(max(first, 0), min(first + rows, H)):
        for column in range(max(start, 0), min(start + columns, W)):
            for c in range(C):
                framed[row - first, column - start, c] = x[n, row, column, c]
    return framed.reshape(-1)


@shared
def _forward(x, W, b, relu, y, kernel, stride, padding, height, start, stop):
    _, P, Q, M = y.shape
    (U, V), (down, right), C, columns = kernel, stride, x.shape[3], W.shape[1]
    bands, width, flat, out = -(-P // height), x.shape[2] + 2 * padding[1], W.reshape(-1), y.reshape(-1)
    row = np.empty(Q * columns, np.float32)
    for item in range(np.intp(start), np.intp(stop)):
        n, first = item // bands, item % bands * height
        rows = min(height, P - first)
        seen = window(x, n, first * down - padding[0], (rows - 1) * down + U, -padding[1], width)
        for p in range(rows):
            pixels, weights = (p * down * width * C, right * C, width * C, ONE), (ZERO, V * C * columns, columns)
            begin = (n * P + first + p) * Q * M
            if columns > M:
                multiply(seen, pixels, flat, weights, row, (ZERO, columns), Q, columns, (U, V * C), NO)
                for q in range(Q):
                    pixel = out[begin + q * M : begin + (q + 1) * M]
                    for m in range(M):
                        pixel[m] = row[q * columns + m] + b[m]
            else:
                for q in range(Q):
                    copy(b, 0, out, begin + q * M, M)
                multiply(seen, pixels, flat, weights, out, (begin, M), Q, M, (U, V * C), YES)
            if relu:
                made = out[begin : begin + Q * M]
                for place in range(Q * M):
                    made[place] = positive(made[place])


@jit
def _backward(dy, x, WT, dx, dW, db, stride, padding, start, stop):
    _, P, Q, M = dy.shape
    _, H, W, C = x.shape
    (U, V, _, channels), columns, (down, right) = WT.shape, dW.shape[3], stride
    height, width, weights, total = H + 2 * padding[0], W + 2 * padding[1], WT.reshape(-1), dW.reshape(-1)
    given = np.zeros((P, Q, columns), np.float32)
    frame, sums = np.empty((height, width, channels), np.float32), np.zeros(M)
    for n in range(start, stop):
        seen = window(x, n, -padding[0], height, -padding[1], width)
        for p in range(P):
            for q in range(Q):
                for m in range(M):
                    given[p, q, m] = dy[n, p, q, m]
                    sums[m] += dy[n, p, q, m]
        rows = given.reshape(-1)
        for u in range(U):
            pixels, to = (u * width * C, ONE, down * width * C, right * C), (u * V * C * columns, columns)
            multiply(seen, pixels, rows, (ZERO, Q * columns, columns), total, to, V * C, columns, (P, Q), YES)
        if dx.size:
            frame[:] = 0.0
            for p in range(P):
                for u in range(U):
                    for v in range(V):
                        pixels = p * Q * columns, columns, ZERO, ONE
                        taps = (u * V + v) * M * channels, ZERO, channels
                        to = ((p * down + u) * width + v) * channels, right * channels
                        multiply(rows, pixels, weights, taps, frame.reshape(-1), to, Q, channels, (ONE, M), YES)
            for row in range(H):
                for column in range(W):
                    for c in range(C):
                        dx[n, row, column, c] = frame[row + padding[0], column + padding[1], c]
    for m in range(M):
        db[m] += sums[m]
