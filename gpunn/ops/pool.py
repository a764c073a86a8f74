"""Pooling: each window of an image becomes one pixel, channel by channel.

Symbols: N images in the batch, H x W pixels, C channels; a window of U x V pixels that moves by the stride s; an output
of P x Q pixels, with P = floor((H - U) / s) + 1 and Q likewise: pixels that no whole window fits on are left out.
"""

from gpunn.device import Array, namespace
from gpunn.ops._op import op
from gpunn.ops.conv import Pair, output_size, seen_from

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
]


def _places(x: Array, window: Pair, stride: Pair) -> list[tuple[slice, ...]]:
    """For each place (u, v) of the window, the pixels of x that it lies on as the window moves."""
    size = output_size(x.shape[1:3], window, stride)
    return [seen_from(u, v, size, stride) for u in range(window[0]) for v in range(window[1])]


@op
def max_pool2d(x: Array, *, window: Pair, stride: Pair) -> Array:
    """y_npqc = max_uv x_n,ps+u,qs+v,c for x (N, H, W, C), y (N, P, Q, C) (Nielsen, chapter 6)."""
    xp = namespace(x)
    first, *others = _places(x, window, stride)
    y = xp.asarray(x[first], copy=True)
    for seen in others:
        y = xp.maximum(y, x[seen])
    return y


@op
def max_pool2d_backward(dy: Array, x: Array, y: Array, *, window: Pair, stride: Pair) -> Array:
    """dx = dy for the pixel that was the maximum of its window, 0 for the others; in a tie the first counts."""
    xp = namespace(x)
    dx = xp.zeros(x.shape, dtype=x.dtype, device=x.device)
    left = dy  # to be given to a pixel
    for seen in _places(x, window, stride):
        given = left * xp.astype(x[seen] == y, dy.dtype)
        dx[seen] += given
        left = left - given
    return dx


@op
def avg_pool2d(x: Array, *, window: Pair, stride: Pair) -> Array:
    """y_npqc = 1/(UV) sum_uv x_n,ps+u,qs+v,c for x (N, H, W, C), y (N, P, Q, C)."""
    first, *others = _places(x, window, stride)
    y = x[first] * (1.0 / (window[0] * window[1]))
    for seen in others:
        y += x[seen] * (1.0 / (window[0] * window[1]))
    return y


@op
def avg_pool2d_backward(dy: Array, x: Array, *, window: Pair, stride: Pair) -> Array:
    """dx: each pixel collects dy / (UV) from every window that it lies in. Of x only the shape is used."""
    dx = namespace(x).zeros(x.shape, dtype=x.dtype, device=x.device)
    share = dy * (1.0 / (window[0] * window[1]))
    for seen in _places(x, window, stride):
        dx[seen] += share
    return dx


@op
def global_avg_pool2d(x: Array) -> Array:
    """y_nc = 1/(HW) sum_hw x_nhwc for x (N, H, W, C), y (N, C): one number a channel (Lin, Chen and Yan, 2014)."""
    return namespace(x).mean(x, axis=(1, 2))


@op
def global_avg_pool2d_backward(dy: Array, x: Array) -> Array:
    """dx_nhwc = dy_nc / (HW). Of x only the shape is used."""
    xp = namespace(x)
    return xp.broadcast_to(dy[:, None, None, :] * (1.0 / (x.shape[1] * x.shape[2])), x.shape)
