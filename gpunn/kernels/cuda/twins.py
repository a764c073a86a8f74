"""Twins for CuPy arrays, one kernel where CuPy would run several.

What the kernels cannot take, an array that does not lie in one piece for example, goes to the op's reference. Nothing
here waits for the device or looks at a number, so all of it can be captured in a CUDA graph.

Checked: compiled for sm_80 and sm_90, arithmetic run on a CPU. Not yet run on a GPU.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.kernels.common import CONSTANTS, rows_or_columns
from gpunn.kernels.cuda.constants import place
from gpunn.kernels.cuda.module import (
    blocks,
    blocks_of_rows,
    empty,
    launch,
    launch_columns,
    launch_rows,
    plain,
    reference,
    summed,
)
from gpunn.ops import _op
from gpunn.ops.conv import Pair, output_size

__all__ = ["TWINS", "add_bias", "relu_mask", "relu_mask_backward", "sum_rows"]

Array = Any
Axes = tuple[int, ...]
Words = tuple[int, int]

# ---------------------------------------------------------------------------------------------------------------------
# Elementwise


def _forward(name: str) -> Callable[..., Array]:
    of = reference(getattr(ops, name))

    @functools.wraps(of)
    def twin(x: Array, **constants: float) -> Array:
        if not plain(x):
            return of(x, **constants)
        y = empty(x.shape, x.dtype)
        launch(name, x.dtype, blocks(x.size), y, x, x.size, _constant(constants))
        return y

    return twin


def _backward(name: str) -> Callable[..., Array]:
    of = reference(getattr(ops, name))

    @functools.wraps(of)
    def twin(dy: Array, kept: Array, **constants: float) -> Array:
        if not plain(dy, kept) or dy.shape != kept.shape:
            return of(dy, kept, **constants)
        dx = empty(dy.shape, dy.dtype)
        launch(
            name, dy.dtype, blocks(dy.size), dx, dy, kept, dy.size, *(float(c) for c in constants.values() or (0.0,))
        )
        return dx

    return twin


def _constant(constants: dict[str, float]) -> float:
    return float(next(iter(constants.values()), 0.0))


ACTIVATIONS = (
    *("sigmoid", "hard_sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "softplus", "silu", "hard_swish", "mish"),
    *("exponential", "gelu"),
)


def prelu(x: Array, a: Array) -> Array:
    """`gpunn.ops.prelu` for CuPy arrays."""
    if not plain(x, a) or x.shape[-1:] != a.shape:
        return reference(ops.prelu)(x, a)
    y = empty(x.shape, x.dtype)
    launch("prelu", x.dtype, blocks(x.size), y, x, a, x.size, a.size)
    return y


def prelu_backward(dy: Array, x: Array, a: Array, *, need_dx: bool = True) -> tuple[Array | None, Array]:
    """`gpunn.ops.prelu_backward` for CuPy arrays."""
    if not plain(dy, x, a) or x.shape[-1:] != a.shape:
        return reference(ops.prelu_backward)(dy, x, a, need_dx=need_dx)
    da = _sum("sum_rows_prelu", (1, a.size), x.size // a.size, dy, x)[0]
    if not need_dx:
        return None, da
    dx = empty(x.shape, x.dtype)
    launch("prelu_backward", x.dtype, blocks(x.size), dx, dy, x, a, x.size, a.size)
    return dx, da


def scale_shift(x: Array, gamma: Array, beta: Array | None = None) -> Array:
    """`gpunn.ops.scale_shift` for CuPy arrays."""
    if not _fits(x, gamma) or (beta is not None and not _fits(x, beta)):
        return reference(ops.scale_shift)(x, gamma, beta)
    y = empty(x.shape, x.dtype)
    launch("scale_shift", x.dtype, blocks(x.size), y, x, gamma, 0 if beta is None else beta, x.size, gamma.size)
    return y


def scale_shift_backward(dy: Array, x: Array, gamma: Array) -> tuple[Array, Array, Array]:
    """`gpunn.ops.scale_shift_backward` for CuPy arrays."""
    if not _fits(x, gamma) or not plain(dy, x):
        return reference(ops.scale_shift_backward)(dy, x, gamma)
    sums = _sum("sum_rows_with", (2, gamma.size), x.size // gamma.size, dy, x)
    return scale_shift(dy, gamma), sums[0].reshape(gamma.shape), sums[1].reshape(gamma.shape)


def _fits(x: Array, gamma: Array) -> bool:
    return plain(x, gamma) and x.shape[x.ndim - gamma.ndim :] == gamma.shape


def add_bias(x: Array, b: Array) -> None:
    """x <- x + b in place, for x (..., M), b (M,), both in one piece."""
    launch("scale_shift", x.dtype, blocks(x.size), x, x, 0, b, x.size, b.size)


def relu_mask(x: Array, b: Array | None, mask: Array) -> None:
    """x <- relu(x + b) in place, for x (N, M); mask (N, bytes) of uint8 takes a bit for each number above 0."""
    launch("bias_relu_mask", x.dtype, blocks(mask.size), x, 0 if b is None else b, mask, *x.shape, mask.shape[1])


def relu_mask_backward(dx: Array, mask: Array) -> None:
    """dx <- 0 in place where the bit in `mask` is not set."""
    launch("relu_mask_backward", dx.dtype, blocks(dx.size), dx, mask, *dx.shape, mask.shape[1])


def cast(x: Array, dtype: Any, *, out: Array | None = None) -> Array:
    """`gpunn.ops.cast` for CuPy arrays: between float32 and bfloat16."""
    if x.dtype == dtype and out is None:
        return x
    widens, rounds = summed(x.dtype) == dtype != x.dtype, summed(np.dtype(dtype)) == x.dtype != dtype
    if not (widens or rounds) or not plain(x):
        return _op.reference(ops.cast)(x, dtype, out=out)
    y = empty(x.shape, dtype) if out is None else out
    launch("widen" if widens else "round", x.dtype if widens else y.dtype, blocks(x.size), y, x, x.size)
    return y


# ---------------------------------------------------------------------------------------------------------------------
# Random numbers


def philox(c0: Array, *, counter: tuple[int, int, int], key: Words) -> tuple[Array, Array, Array, Array]:
    """`gpunn.ops.philox` for CuPy arrays."""
    if (
        c0.dtype != np.int64
        or not c0.flags.c_contiguous
        or not c0.size
        or any(type(word) is not int for word in counter)
    ):
        return reference(ops.philox)(c0, counter=counter, key=key)
    words = empty((4, *c0.shape), c0.dtype)
    launch("philox", np.dtype(np.float32), blocks(c0.size), words, c0, c0.size, *counter, *key)
    return words[0], words[1], words[2], words[3]


def dropout(x: Array, *, rate: float, key: Words, step: int) -> tuple[Array, Array]:
    """`gpunn.ops.dropout` for CuPy arrays. The mask is not rounded: backward scales by what forward has scaled by."""
    if not plain(x):
        return reference(ops.dropout)(x, rate=rate, key=key, step=step)
    y, mask = empty(x.shape, x.dtype), empty(x.shape, summed(x.dtype))
    limit, scale = round(rate * 2**32), 1.0 / (1.0 - rate)
    counted = (0, step) if type(step) is int else (step, 0)  # on the device in a captured step
    launch("dropout", x.dtype, blocks(x.size), y, mask, x, x.size, limit, scale, *counted, *key)
    return y, mask


def dropout_backward(dy: Array, mask: Array) -> Array:
    """`gpunn.ops.dropout_backward` for CuPy arrays."""
    if not (plain(dy) and plain(mask) and mask.dtype == summed(dy.dtype)) or dy.shape != mask.shape:
        return reference(ops.dropout_backward)(dy, mask)
    dx = empty(dy.shape, dy.dtype)
    launch("dropout_backward", dy.dtype, blocks(dy.size), dx, dy, mask, dy.size)
    return dx


# ---------------------------------------------------------------------------------------------------------------------
# Sums, rows, norms


def _sum(kernel: str, shape: tuple[int, int], n: int, *arrays: Array, scale: float = 1.0, out: Array = None) -> Array:
    """Sums over n rows by `kernel`, (sums, columns)."""
    dtype = arrays[0].dtype
    parts, chunks = launch_columns(kernel, dtype, n, shape[1], *arrays, sums=shape[0])
    sums = empty(shape, summed(dtype)) if out is None else out
    size = math.prod(shape)
    launch("add_parts", dtype, blocks(4 * size), sums, parts, chunks, size, scale)
    return sums


def sum_rows(x: Array, out: Array | None = None) -> Array:
    """The sum over the first axis of x (N, M), (M,), put into `out` if that is given; both in one piece.

    It is of the type of `out`, or else `summed(x.dtype)`.
    """
    narrow = out is not None and out.dtype != summed(x.dtype)
    sums = _sum("sum_rows", (1, x.shape[1]), x.shape[0], x, out=None if narrow else out).reshape(-1)
    return cast(sums, x.dtype, out=out) if narrow else sums


def softmax(z: Array) -> Array:
    """`gpunn.ops.softmax` for CuPy arrays."""
    if not plain(z):
        return reference(ops.softmax)(z)
    y, n = empty(z.shape, z.dtype), z.size // z.shape[-1]
    launch_rows("softmax", z.dtype, n, z.shape[-1], y, z, n, z.shape[-1])
    return y


def softmax_backward(dy: Array, y: Array) -> Array:
    """`gpunn.ops.softmax_backward` for CuPy arrays."""
    if not plain(dy, y):
        return reference(ops.softmax_backward)(dy, y)
    dz, n = empty(y.shape, y.dtype), y.size // y.shape[-1]
    launch_rows("softmax_backward", y.dtype, n, y.shape[-1], dz, dy, y, n, y.shape[-1])
    return dz


def _cross_entropy(z: Array, labels: Array, *, p: Array = 0, dz: Array = 0) -> Array:
    """The mean softmax cross-entropy of class numbers (N,), with p and dz (N, C), where they are given, filled in."""
    n, m = z.shape
    parts, loss = empty(blocks_of_rows(n, m), np.float64), empty((), summed(z.dtype))
    launch_rows("softmax_cross_entropy", z.dtype, n, m, p, dz, loss, parts, z, _labels(labels), n, m)
    return loss


def softmax_cross_entropy(z: Array, y: Array) -> tuple[Array, Array]:
    """`gpunn.ops.softmax_cross_entropy` for CuPy arrays."""
    if y.ndim != 1 or not plain(z):
        return reference(ops.softmax_cross_entropy)(z, y)
    p = empty(z.shape, z.dtype)
    return _cross_entropy(z, y, p=p), p


def softmax_cross_entropy_both(z: Array, y: Array) -> tuple[Array, Array]:
    """`gpunn.ops.softmax_cross_entropy_both` for CuPy arrays, in one kernel; dz is rounded as z is, the loss is not."""
    if y.ndim != 1 or not plain(z):
        return _op.reference(ops.softmax_cross_entropy_both)(z, y)
    dz = empty(z.shape, z.dtype)
    return _cross_entropy(z, y, dz=dz), dz


def softmax_cross_entropy_backward(p: Array, y: Array) -> Array:
    """`gpunn.ops.softmax_cross_entropy_backward` for CuPy arrays."""
    if y.ndim != 1 or not plain(p):
        return reference(ops.softmax_cross_entropy_backward)(p, y)
    dz = empty(p.shape, p.dtype)
    launch("softmax_cross_entropy_backward", p.dtype, blocks(p.size), dz, p, _labels(y), *p.shape)
    return dz


def _labels(y: Array) -> Array:
    return y if y.dtype == np.int64 and y.flags.c_contiguous else y.astype(np.int64, order="C")


def normalize(x: Array, *, axes: Axes, epsilon: float) -> tuple[Array, Array, Array, Array]:
    """`gpunn.ops.normalize` for CuPy arrays."""
    kind, n = rows_or_columns(x.shape, axes)
    if kind == "other" or not plain(x):
        return reference(ops.normalize)(x, axes=axes, epsilon=epsilon)
    dtype, y = x.dtype, empty(x.shape, x.dtype)
    shape = tuple(1 if axis in [a % x.ndim for a in axes] else size for axis, size in enumerate(x.shape))
    r, mu, v = (empty(shape, summed(dtype)) for _ in range(3))
    m = x.size // n
    if kind == "rows":
        launch_rows("normalize_rows", dtype, n, m, y, r, mu, v, x, n, m, float(epsilon))
    else:  # m rows of n
        parts, chunks = launch_columns("sum_rows_moments", dtype, m, n, x, sums=2)
        launch("add_moments", dtype, blocks(4 * n), r, mu, v, parts, x, chunks, m, n, float(epsilon))
        launch("normalize_columns", dtype, blocks(x.size), y, x, r, mu, m, n)
    return y, r, mu, v


def normalize_backward(dy: Array, y: Array, r: Array, *, axes: Axes) -> Array:
    """`gpunn.ops.normalize_backward` for CuPy arrays."""
    kind, n = rows_or_columns(y.shape, axes)
    if kind == "other" or not (plain(dy, y) and plain(r) and r.dtype == summed(y.dtype)):
        return reference(ops.normalize_backward)(dy, y, r, axes=axes)
    dtype, dx, m = y.dtype, empty(y.shape, y.dtype), y.size // n
    if kind == "rows":
        launch_rows("normalize_rows_backward", dtype, n, m, dx, dy, y, r, n, m)
    else:
        means = _sum("sum_rows_with", (2, n), m, dy, y, scale=1.0 / m)
        launch("normalize_columns_backward", dtype, blocks(y.size), dx, dy, y, r, means, m, n)
    return dx


def rms_normalize(x: Array, *, axes: Axes, epsilon: float) -> tuple[Array, Array]:
    """`gpunn.ops.rms_normalize` for CuPy arrays."""
    kind, n = rows_or_columns(x.shape, axes)
    if kind != "rows" or not plain(x):
        return reference(ops.rms_normalize)(x, axes=axes, epsilon=epsilon)
    y, m = empty(x.shape, x.dtype), x.size // n
    r = empty((*x.shape[: x.ndim - len(axes)], *(1 for _ in axes)), summed(x.dtype))
    launch_rows("rms_normalize", x.dtype, n, m, y, r, x, n, m, float(epsilon))
    return y, r


def rms_normalize_backward(dy: Array, y: Array, r: Array, *, axes: Axes) -> Array:
    """`gpunn.ops.rms_normalize_backward` for CuPy arrays."""
    kind, n = rows_or_columns(y.shape, axes)
    if kind != "rows" or not (plain(dy, y) and plain(r) and r.dtype == summed(y.dtype)):
        return reference(ops.rms_normalize_backward)(dy, y, r, axes=axes)
    dx, m = empty(y.shape, y.dtype), y.size // n
    launch_rows("rms_normalize_backward", y.dtype, n, m, dx, dy, y, r, n, m)
    return dx


# ---------------------------------------------------------------------------------------------------------------------
# Losses on numbers: out and a sum in one pass. `per` is what the sum is divided by, given (rows, numbers).


def _loss(name: str, per: Callable[[int, int], int]) -> Callable[..., tuple[Array, Array]]:
    of = reference(getattr(ops, name))

    @functools.wraps(of)
    def twin(z: Array, y: Array) -> tuple[Array, Array]:
        if not plain(z, y) or z.shape != y.shape:
            return of(z, y)
        saved, loss, count = empty(z.shape, z.dtype), empty((), summed(z.dtype)), blocks(z.size)
        parts, scale = empty(count, np.float64), 1.0 / per(z.shape[0], z.size)
        launch(name, z.dtype, count, saved, loss, parts, z, y, z.size, scale)
        return loss, saved

    return twin


def _slope(name: str) -> Callable[..., Array]:
    of = reference(getattr(ops, name))

    @functools.wraps(of)
    def twin(a: Array, y: Array) -> Array:
        if not plain(a, y) or a.shape != y.shape:
            return of(a, y)
        dz = empty(a.shape, a.dtype)
        launch(name, a.dtype, blocks(a.size), dz, a, y, a.size, float(a.shape[0]))
        return dz

    return twin


# ---------------------------------------------------------------------------------------------------------------------
# Pooling


def windows(x: Array, window: Pair, stride: Pair, padding: Pair = (0, 0)) -> tuple[tuple[int, ...], Pair]:
    """The geometry of windows over images x, as the kernels take it, and the size (P, Q) of the output."""
    size = output_size(x.shape[1:3], window, stride, padding)
    return (*x.shape, *size, *window, *stride, *padding), size


def max_pool2d(x: Array, *, window: Pair, stride: Pair) -> Array:
    """`gpunn.ops.max_pool2d` for CuPy arrays."""
    return _pool("max_pool2d", x, window, stride)


def avg_pool2d(x: Array, *, window: Pair, stride: Pair) -> Array:
    """`gpunn.ops.avg_pool2d` for CuPy arrays."""
    return _pool("avg_pool2d", x, window, stride)


def _pool(name: str, x: Array, window: Pair, stride: Pair) -> Array:
    if not plain(x):
        return reference(getattr(ops, name))(x, window=window, stride=stride)
    geometry, size = windows(x, window, stride)
    y = empty((x.shape[0], *size, x.shape[3]), x.dtype)
    launch(name, x.dtype, blocks(y.size), y, x, *geometry)
    return y


def max_pool2d_backward(dy: Array, x: Array, y: Array, *, window: Pair, stride: Pair) -> Array:
    """`gpunn.ops.max_pool2d_backward` for CuPy arrays."""
    if not plain(dy, x, y):
        return reference(ops.max_pool2d_backward)(dy, x, y, window=window, stride=stride)
    dx = empty(x.shape, x.dtype)
    launch("max_pool2d_backward", x.dtype, blocks(x.size), dx, dy, x, y, *windows(x, window, stride)[0])
    return dx


def avg_pool2d_backward(dy: Array, x: Array, *, window: Pair, stride: Pair) -> Array:
    """`gpunn.ops.avg_pool2d_backward` for CuPy arrays."""
    if not plain(dy) or dy.dtype != x.dtype:
        return reference(ops.avg_pool2d_backward)(dy, x, window=window, stride=stride)
    dx = empty(x.shape, x.dtype)
    launch("avg_pool2d_backward", x.dtype, blocks(x.size), dx, dy, *windows(x, window, stride)[0])
    return dx


# ---------------------------------------------------------------------------------------------------------------------
# Updates of flat arrays, in place


def _update(name: str) -> Callable[..., None]:
    of, constants = reference(getattr(ops, name)), CONSTANTS[name]

    @functools.wraps(of)
    def twin(w: Array, /, *others: Array, **named: Any) -> None:
        if not plain(w, *others):
            return of(w, *others, **named)
        g, kept = others[:1], others[1:]
        eight = [float(c) for c in constants(**named)]
        launch(name, w.dtype, blocks(w.size), w, *kept, *g, w.size, place(name), *eight, *[0.0] * (8 - len(eight)))
        return None

    return twin


def clip_by_norm(g: Array, /, *, limit: float) -> Array:
    """`gpunn.ops.clip_by_norm` for CuPy arrays: two kernels, and the norm stays on the device."""
    if not plain(g):
        return reference(ops.clip_by_norm)(g, limit=limit)
    count = min(blocks(g.size), 512)
    parts, norm = empty(count, np.float64), empty((), g.dtype)
    launch("squares", g.dtype, count, parts, g, g.size)
    launch("clip_by_norm", g.dtype, blocks(g.size), g, norm, parts, count, g.size, float(limit))
    return norm


def soft_threshold(w: Array, /, *, by: float) -> None:
    """`gpunn.ops.soft_threshold` for CuPy arrays."""
    if not plain(w):
        return reference(ops.soft_threshold)(w, by=by)
    launch("soft_threshold", w.dtype, blocks(w.size), w, w.size, float(by))
    return None


# Ops without a kernel, which take bfloat16 nevertheless.
WRITTEN = ("gaussian_noise", "global_avg_pool2d", "global_avg_pool2d_backward", "maxout", "maxout_backward")

TWINS: dict[str, Callable[..., Any]] = {
    **{name: reference(getattr(ops, name)) for name in WRITTEN},
    **{name: _forward(name) for name in ACTIVATIONS},
    **{f"{name}_backward": _backward(f"{name}_backward") for name in ACTIVATIONS},
    **{name: _update(name) for name in CONSTANTS},
    "sigmoid_cross_entropy": _loss("sigmoid_cross_entropy", lambda rows, numbers: rows),
    "quadratic": _loss("quadratic", lambda rows, numbers: 2 * rows),
    "mean_squared_error": _loss("mean_squared_error", lambda rows, numbers: numbers),
    "sigmoid_cross_entropy_backward": _slope("sigmoid_cross_entropy_backward"),
    "quadratic_backward": _slope("quadratic_backward"),
    **{
        f.__name__: f
        for f in (
            *(prelu, prelu_backward, scale_shift, scale_shift_backward, philox, dropout, dropout_backward),
            *(softmax, softmax_backward, softmax_cross_entropy, softmax_cross_entropy_backward),
            softmax_cross_entropy_both,
            *(normalize, normalize_backward, rms_normalize),
            *(rms_normalize_backward, max_pool2d, max_pool2d_backward, avg_pool2d, avg_pool2d_backward, clip_by_norm),
            *(soft_threshold, cast),
        )
    },
}
