"""Convolution of images: each output neuron sees a small window of the input, and all windows share one set of weights.

Symbols: N images in the batch, H x W pixels, C channels; a kernel of U x V pixels, M output channels; an output of
P x Q pixels; stride s, padding a. Images are (N, H, W, C): the channels of a pixel lie side by side in memory.
"""

from gpunn.device import Array, namespace
from gpunn.ops._op import op
from gpunn.ops.activation import relu

__all__ = ["conv2d", "conv2d_backward", "conv2d_relu"]

Pair = tuple[int, int]


def output_size(image: Pair, window: Pair, stride: Pair, padding: Pair = (0, 0)) -> Pair:
    """(P, Q): at how many places along each axis a window fits, floor((size + 2 padding - window) / stride) + 1."""
    (H, W), (U, V), (down, right), (above, left) = image, window, stride, padding
    return (H + 2 * above - U) // down + 1, (W + 2 * left - V) // right + 1


def pad2d(x: Array, padding: Pair) -> Array:
    """x (N, H, W, C) in a frame of zeros, padding = (above and below, left and right); x itself where both are 0."""
    above, left = padding
    if not (above or left):
        return x
    n, h, w, c = x.shape
    framed = namespace(x).zeros((n, h + 2 * above, w + 2 * left, c), dtype=x.dtype, device=x.device)
    framed[:, above : above + h, left : left + w, :] = x
    return framed


def seen_from(u: int, v: int, size: Pair, stride: Pair) -> tuple[slice, ...]:
    """The pixels that place (u, v) of the window lies on as it moves over the image to `size` = (P, Q) places.

    For output pixel (p, q) this is input pixel (p s + u, q s + v).
    """
    (P, Q), (down, right) = size, stride
    rows, columns = slice(u, u + (P - 1) * down + 1, down), slice(v, v + (Q - 1) * right + 1, right)
    return slice(None), rows, columns, slice(None)


@op
def conv2d(x: Array, W: Array, b: Array | None = None, *, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Array:
    """y_npqm = b_m + sum_uvc x_n,ps+u-a,qs+v-a,c W_uvcm, where x counts as 0 outside the image.

    x (N, H, W, C), W (U, V, C, M), b (M,), y (N, P, Q, M) with P = floor((H + 2a - U) / s) + 1, and Q likewise. (LeCun
    et al., 1998; Nielsen, chapter 6, equation 125, for one channel. In mathematics this is called cross-correlation.)
    """
    U, V, _, M = W.shape
    xp, x = namespace(x), pad2d(x, padding)
    size = output_size(x.shape[1:3], (U, V), stride)
    y = xp.zeros((x.shape[0], *size, M), dtype=x.dtype, device=x.device)
    for u in range(U):
        for v in range(V):
            y += xp.matmul(x[seen_from(u, v, size, stride)], W[u, v, ...])  # (N, P, Q, C) (C, M)
    if b is not None:
        y += b
    return y


@op
def conv2d_backward(
    dy: Array, x: Array, W: Array, *, stride: Pair = (1, 1), padding: Pair = (0, 0), need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """The gradients (dx, dW, db) of a loss L, given dy = dL/dy (N, P, Q, M) and what the forward pass saw.

    The forward pass is a linear map for each place (u, v) of the kernel, y += x_uv W_uv, where x_uv are the pixels that
    the place lies on. So as in a fully connected layer dW_uv = x_uv^T dy, summed over images and pixels, each of those
    pixels collects dy W_uv^T, and db is the sum of dy. dx is None without `need_dx`.
    """
    U, V, C, M = W.shape
    xp, (_, h, w, _) = namespace(x), x.shape
    size = dy.shape[1], dy.shape[2]
    x = pad2d(x, padding)
    rows = xp.reshape(dy, (-1, M))  # (NPQ, M)
    dW = xp.empty(W.shape, dtype=W.dtype, device=W.device)
    dx = xp.zeros(x.shape, dtype=x.dtype, device=x.device) if need_dx else None
    for u in range(U):
        for v in range(V):
            seen = seen_from(u, v, size, stride)
            dW[u, v, ...] = xp.matmul(xp.reshape(x[seen], (-1, C)).T, rows)  # (C, NPQ) (NPQ, M)
            if dx is not None:
                dx[seen] += xp.matmul(dy, W[u, v, ...].T)  # (N, P, Q, M) (M, C)
    if dx is not None:
        dx = dx[:, padding[0] : padding[0] + h, padding[1] : padding[1] + w, :]  # without the frame
    return dx, dW, xp.sum(rows, axis=0)


@op
def conv2d_relu(x: Array, W: Array, b: Array | None = None, *, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Array:
    """y = max(conv2d(x, W, b), 0), computed in one kernel where one exists; the gradients are those of the two."""
    return relu(conv2d(x, W, b, stride=stride, padding=padding))
