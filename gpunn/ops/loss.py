"""Losses of a batch and their gradients with respect to the network's last weighted inputs z (the logits).

Symbols: N rows, C outputs; z (N, C), y (N, C) the targets, L a 0-d array. A forward pass returns (L, saved), and the
backward pass takes what was saved: dz = dL/dz, for the mean over the batch, so it carries the 1/N.

Each is written so that logits of +-1e4 give finite numbers: no exponential is taken that could overflow, no logarithm
of a probability that has become 0.
"""

import math

from gpunn.device import Array, namespace
from gpunn.ops._op import op
from gpunn.ops.activation import sigmoid

__all__ = [
    "huber",
    "huber_backward",
    "mean_absolute_error",
    "mean_absolute_error_backward",
    "mean_squared_error",
    "mean_squared_error_backward",
    "one_hot",
    "quadratic",
    "quadratic_backward",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
]


@op
def one_hot(labels: Array, like: Array) -> Array:
    """y_nc = 1 where labels_n = c, else 0: class numbers (N,) as rows (N, C), in the C and data type of `like`."""
    xp = namespace(like)
    classes = xp.arange(like.shape[-1], dtype=labels.dtype, device=like.device)
    return xp.astype(labels[:, None] == classes, like.dtype)


@op
def softmax_cross_entropy(z: Array, y: Array) -> tuple[Array, Array]:
    """L = -1/N sum_n sum_c y_nc log p_nc with p = softmax(z), for targets whose rows sum to 1 (Nielsen, ch. 3, eq. 80).

    log p_c = z_c - max z - log sum_k e^(z_k - max z) is taken directly, never as the logarithm of p. Saves p.
    """
    xp = namespace(z)
    log_p = z - xp.max(z, axis=-1, keepdims=True)
    log_p -= xp.log(xp.sum(xp.exp(log_p), axis=-1, keepdims=True))
    return xp.sum(y * log_p) / -z.shape[0], xp.exp(log_p)


@op
def softmax_cross_entropy_backward(p: Array, y: Array) -> Array:
    """dz = (p - y) / N: the softmax and the logarithm cancel (Nielsen, chapter 3, equation 84)."""
    dz = p - y
    dz /= p.shape[0]
    return dz


@op
def sigmoid_cross_entropy(z: Array, y: Array) -> tuple[Array, Array]:
    """L = -1/N sum_n sum_c (y log a + (1 - y) log(1 - a)) with a = sigmoid(z), 0 <= y <= 1 (Nielsen, ch. 3, eq. 63).

    Each term equals max(z, 0) - z y + log(1 + e^-|z|). Saves a.
    """
    xp = namespace(z)
    terms = xp.log1p(xp.exp(-xp.abs(z)))
    terms += xp.maximum(z, 0.0)
    terms -= z * y
    return xp.sum(terms) / z.shape[0], sigmoid(z)


@op
def sigmoid_cross_entropy_backward(a: Array, y: Array) -> Array:
    """dz = (a - y) / N: the slope of the sigmoid cancels, so a wrong neuron learns fast (Nielsen, ch. 3, eq. 66)."""
    dz = a - y
    dz /= a.shape[0]
    return dz


@op
def quadratic(z: Array, y: Array) -> tuple[Array, Array]:
    """L = 1/(2N) sum_n |y_n - a_n|^2 with a = sigmoid(z) (Nielsen, chapter 1, equation 6). Saves a."""
    a = sigmoid(z)
    error = a - y
    error *= error
    return namespace(z).sum(error) / (2 * z.shape[0]), a


@op
def quadratic_backward(a: Array, y: Array) -> Array:
    """dz = (a - y) a (1 - a) / N (Nielsen, chapter 2, equation 30).

    The slope of the sigmoid, a (1 - a), is near 0 where a is surely wrong: such a neuron learns slowly.
    """
    dz = a - y
    dz *= a
    dz *= 1.0 - a
    dz /= a.shape[0]
    return dz


@op
def mean_squared_error(z: Array, y: Array) -> tuple[Array, Array]:
    """L = 1/(NC) sum (z - y)^2. Saves z - y."""
    r = z - y
    return namespace(z).sum(r * r) / _size(z), r


@op
def mean_squared_error_backward(r: Array) -> Array:
    """dz = 2 r / (NC), where r = z - y."""
    return r * (2.0 / _size(r))


@op
def mean_absolute_error(z: Array, y: Array) -> tuple[Array, Array]:
    """L = 1/(NC) sum |z - y|. Saves z - y."""
    xp = namespace(z)
    r = z - y
    return xp.sum(xp.abs(r)) / _size(z), r


@op
def mean_absolute_error_backward(r: Array) -> Array:
    """dz = sign(r) / (NC), where r = z - y; 0 at r = 0."""
    xp = namespace(r)
    dz = xp.astype(r > 0.0, r.dtype)
    dz -= xp.astype(r < 0.0, r.dtype)  # sign(r): array-api-compat's waits for the GPU, to mark the NaNs
    dz /= _size(r)
    return dz


@op
def huber(z: Array, y: Array, *, delta: float) -> tuple[Array, Array]:
    """L = 1/(NC) sum h(z - y), where h(r) = r^2 / 2 for |r| <= delta, else delta (|r| - delta / 2) (Huber, 1964).

    Both branches are q (|r| - q / 2) with q = min(|r|, delta). Saves z - y.
    """
    xp = namespace(z)
    r = z - y
    size = xp.abs(r)
    q = xp.minimum(size, delta)
    size -= 0.5 * q
    size *= q
    return xp.sum(size) / _size(z), r


@op
def huber_backward(r: Array, *, delta: float) -> Array:
    """dz = max(-delta, min(r, delta)) / (NC), where r = z - y."""
    xp = namespace(r)
    return xp.maximum(xp.minimum(r, delta), -delta) / _size(r)


def _size(z: Array) -> int:
    return math.prod(z.shape)
