"""Losses of a batch and their gradients with respect to the network's last weighted inputs z (the logits).

Symbols: N rows, C outputs; z (N, C), y (N, C) the targets, L a 0-d array. A forward pass returns (L, saved), and the
backward pass takes what was saved: dz = dL/dz, for the mean over the batch, so it carries the 1/N.

Each is written so that logits of +-1e4 give finite numbers: no exponential is taken that could overflow, no logarithm
of a probability that has become 0.

f_each (N,) are the losses of the rows, l_n, of which L is the mean: for rows that count for more or less than others.
"""

import math

from gpunn.device import Array, namespace
from gpunn.ops._op import op
from gpunn.ops.activation import exponential, sigmoid

__all__ = [
    "focal",
    "focal_backward",
    "focal_each",
    "hinge",
    "hinge_backward",
    "hinge_each",
    "huber",
    "huber_backward",
    "huber_each",
    "kl_divergence",
    "kl_divergence_backward",
    "kl_divergence_each",
    "labels_fit",
    "mean_absolute_error",
    "mean_absolute_error_backward",
    "mean_absolute_error_each",
    "mean_squared_error",
    "mean_squared_error_backward",
    "mean_squared_error_each",
    "one_hot",
    "poisson",
    "poisson_backward",
    "poisson_each",
    "quadratic",
    "quadratic_backward",
    "quadratic_each",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_backward",
    "sigmoid_cross_entropy_each",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_both",
    "softmax_cross_entropy_each",
]


@op
def one_hot(labels: Array, like: Array) -> Array:
    """y_nc = 1 where labels_n = c, else 0: class numbers (N,) as rows (N, C), in the C and data type of `like`."""
    xp = namespace(like)
    labels = xp.astype(labels, xp.int64, copy=False)  # bytes cannot number more than 256 classes
    classes = xp.arange(like.shape[-1], dtype=xp.int64, device=like.device)
    return xp.astype(labels[:, None] == classes, like.dtype)


@op
def labels_fit(labels: Array, *, classes: int) -> bool:
    """Whether all class numbers (N,) are 0 to `classes` - 1. It looks at them, so on a GPU it waits."""
    xp = namespace(labels)
    return bool(xp.all((labels >= 0) & (labels < classes)))


@op
def softmax_cross_entropy(z: Array, y: Array) -> tuple[Array, Array]:
    """L = -1/N sum_n sum_c y_nc log p_nc with p = softmax(z), for targets whose rows sum to 1 (Nielsen, ch. 3, eq. 80).

    y may be class numbers (N,), which stand for rows of 0 and 1; for one out of range NumPy's twins raise IndexError,
    and elsewhere it is a row of 0. log p is computed directly, never as the logarithm of p. Saves p.
    """
    xp, log_p = namespace(z), _log_softmax(z)
    return xp.sum(_as_rows(y, z) * log_p) / -z.shape[0], xp.exp(log_p)


@op
def softmax_cross_entropy_each(z: Array, y: Array) -> Array:
    """l_n = -sum_c y_nc log p_nc."""
    return -namespace(z).sum(_as_rows(y, z) * _log_softmax(z), axis=1)


@op
def softmax_cross_entropy_backward(p: Array, y: Array) -> Array:
    """dz = (p - y) / N: the softmax and the logarithm cancel (Nielsen, chapter 3, equation 84)."""
    dz = p - _as_rows(y, p)
    dz /= p.shape[0]
    return dz


@op
def softmax_cross_entropy_both(z: Array, y: Array) -> tuple[Array, Array]:
    """(L, dz): `softmax_cross_entropy` and its backward pass, computed in one kernel where one exists."""
    loss, p = softmax_cross_entropy(z, y)
    return loss, softmax_cross_entropy_backward(p, y)


def _as_rows(y: Array, like: Array) -> Array:
    return one_hot(y, like) if len(y.shape) == 1 else y


# What may be 0 is held at this before a logarithm or a negative power is taken: 0 times the result is then 0, not NaN.
_TINY = 1e-37


@op
def kl_divergence(z: Array, y: Array) -> tuple[Array, Array]:
    """L = 1/N sum_n sum_c y_nc (log y_nc - log p_nc) with p = softmax(z), for targets whose rows sum to 1.

    (Kullback and Leibler, 1951.) The cross-entropy less the entropy of y, so 0 where p = y; 0 log 0 = 0. Saves p.
    """
    xp, log_p = namespace(z), _log_softmax(z)
    terms = xp.log(xp.maximum(y, _TINY))
    terms -= log_p
    terms *= y
    return xp.sum(terms) / z.shape[0], xp.exp(log_p)


@op
def kl_divergence_each(z: Array, y: Array) -> Array:
    """l_n = sum_c y_nc (log y_nc - log p_nc)."""
    xp = namespace(z)
    return xp.sum(y * (xp.log(xp.maximum(y, _TINY)) - _log_softmax(z)), axis=1)


@op
def kl_divergence_backward(p: Array, y: Array) -> Array:
    """dz = (p - y) / N: the entropy of y does not depend on z, so it is that of the cross-entropy."""
    return softmax_cross_entropy_backward(p, y)


@op
def focal(z: Array, y: Array, *, gamma: float) -> tuple[Array, Array]:
    """L = -1/N sum_n sum_c y_nc (1 - p_nc)^gamma log p_nc with p = softmax(z) (Lin et al., 2017, equation 4).

    Answers that are right already count for little. 1 - p = -(e^log p - 1) is taken directly. Saves log p.
    """
    xp, log_p = namespace(z), _log_softmax(z)
    return xp.sum(y * (-xp.expm1(log_p)) ** gamma * log_p) / -z.shape[0], log_p


@op
def focal_each(z: Array, y: Array, *, gamma: float) -> Array:
    """l_n = -sum_c y_nc (1 - p_nc)^gamma log p_nc."""
    xp, log_p = namespace(z), _log_softmax(z)
    return -xp.sum(y * (-xp.expm1(log_p)) ** gamma * log_p, axis=1)


@op
def focal_backward(log_p: Array, y: Array, *, gamma: float) -> Array:
    """dz_k = (p_k sum_c a_c - a_k) / N, a_c = y_c ((1 - p_c)^gamma - gamma p_c (1 - p_c)^(gamma - 1) log p_c).

    With h(p) = -(1 - p)^gamma log p the loss of a row is sum_c y_c h(p_c), and a_c = -y_c p_c h'(p_c). The softmax has
    dp_c/dz_k = p_c ((c = k) - p_k), so dz_k = sum_c y_c h'(p_c) p_c ((c = k) - p_k) = -a_k + p_k sum_c a_c. For
    gamma = 0 all a = y, and this is the gradient of the cross-entropy.
    """
    xp = namespace(log_p)
    p, rest = xp.exp(log_p), -xp.expm1(log_p)  # p, 1 - p
    a = p * log_p
    a *= -gamma * xp.maximum(rest, _TINY) ** (gamma - 1.0)
    a += rest**gamma
    a *= y
    dz = p * xp.sum(a, axis=-1, keepdims=True)
    dz -= a
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
def sigmoid_cross_entropy_each(z: Array, y: Array) -> Array:
    """l_n = sum_c (max(z_nc, 0) - z_nc y_nc + log(1 + e^-|z_nc|))."""
    xp = namespace(z)
    return xp.sum(xp.maximum(z, 0.0) - z * y + xp.log1p(xp.exp(-xp.abs(z))), axis=1)


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
def quadratic_each(z: Array, y: Array) -> Array:
    """l_n = |y_n - a_n|^2 / 2."""
    error = sigmoid(z) - y
    return 0.5 * namespace(z).sum(error * error, axis=1)


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
def hinge(z: Array, t: Array, *, squared: bool) -> tuple[Array, Array]:
    """L = 1/N sum_n sum_c h_nc with h = max(0, 1 - t z), or its square, for t = 1 or -1 (Cortes and Vapnik, 1995).

    h is 0 where z is on the side of t by 1 or more. Saves h, before it is squared.
    """
    xp = namespace(z)
    h = xp.maximum(1.0 - t * z, 0.0)
    return xp.sum(h * h if squared else h) / z.shape[0], h


@op
def hinge_each(z: Array, t: Array, *, squared: bool) -> Array:
    """l_n = sum_c h_nc, or of its squares."""
    xp = namespace(z)
    h = xp.maximum(1.0 - t * z, 0.0)
    return xp.sum(h * h if squared else h, axis=1)


@op
def hinge_backward(h: Array, t: Array, *, squared: bool) -> Array:
    """dz = -t (h > 0) / N, or -2 t h / N of the square; 0 at the kink h = 0."""
    dz = 2.0 * h if squared else namespace(h).astype(h > 0.0, h.dtype)
    dz *= t
    dz /= -h.shape[0]
    return dz


@op
def poisson(z: Array, y: Array) -> tuple[Array, Array]:
    """L = 1/(NC) sum (e^z - y z): -log of the probability of a count y where e^z is the rate, less the constant log y!.

    (Poisson, 1837.) e^z is held at e^87 from z = 87 on: float32 overflows above z = 88. Saves e^z.
    """
    xp, rate = namespace(z), exponential(z)
    terms = rate - y * z
    terms /= _size(z)  # each, because the sum may be out of range where the mean is not
    return xp.sum(terms), rate


@op
def poisson_each(z: Array, y: Array) -> Array:
    """l_n = 1/C sum_c (e^z_nc - y_nc z_nc)."""
    return namespace(z).mean(exponential(z) - y * z, axis=1)


@op
def poisson_backward(rate: Array, y: Array) -> Array:
    """dz = (e^z - y) / (NC)."""
    dz = rate - y
    dz /= _size(rate)
    return dz


@op
def mean_squared_error(z: Array, y: Array) -> tuple[Array, Array]:
    """L = 1/(NC) sum (z - y)^2. Saves z - y."""
    r = z - y
    return namespace(z).sum(r * r) / _size(z), r


@op
def mean_squared_error_each(z: Array, y: Array) -> Array:
    """l_n = 1/C sum_c (z_nc - y_nc)^2."""
    r = z - y
    return namespace(z).mean(r * r, axis=1)


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
def mean_absolute_error_each(z: Array, y: Array) -> Array:
    """l_n = 1/C sum_c |z_nc - y_nc|."""
    xp = namespace(z)
    return xp.mean(xp.abs(z - y), axis=1)


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
def huber_each(z: Array, y: Array, *, delta: float) -> Array:
    """l_n = 1/C sum_c h(z_nc - y_nc)."""
    xp = namespace(z)
    size = xp.abs(z - y)
    q = xp.minimum(size, delta)
    return xp.mean(q * (size - 0.5 * q), axis=1)


@op
def huber_backward(r: Array, *, delta: float) -> Array:
    """dz = max(-delta, min(r, delta)) / (NC), where r = z - y."""
    xp = namespace(r)
    return xp.maximum(xp.minimum(r, delta), -delta) / _size(r)


def _size(z: Array) -> int:
    return math.prod(z.shape)


def _log_softmax(z: Array) -> Array:
    """log p_c = z_c - max z - log sum_k e^(z_k - max z)."""
    xp = namespace(z)
    log_p = z - xp.max(z, axis=-1, keepdims=True)
    log_p -= xp.log(xp.sum(xp.exp(log_p), axis=-1, keepdims=True))
    return log_p
