"""Normalisation: numbers brought to mean 0 and variance 1 over some of their axes, and what is learned on top of that.

The methods differ in the axes taken together: the batch (and the pixels) for each channel, Ioffe and Szegedy's batch
normalisation (2015); the features of one example, layer normalisation (Ba, Kiros and Hinton, 2016); a group of channels
of one image, group normalisation (Wu and He, 2018). The maths is the same.

Symbols: m numbers are taken together; mean is mu, variance v; r = 1 / sqrt(v + epsilon); x^ the normalised numbers.
"""

import math

from gpunn.device import Array, namespace
from gpunn.ops._op import op

__all__ = [
    "normalize",
    "normalize_backward",
    "rms_normalize",
    "rms_normalize_backward",
    "scale_shift",
    "scale_shift_backward",
]

Axes = tuple[int, ...]


@op
def normalize(x: Array, *, axes: Axes, epsilon: float) -> tuple[Array, Array, Array, Array]:
    """x^ = (x - mu) r, with mu = mean of x and v = mean of (x - mu)^2 over `axes`. Returns (x^, r, mu, v).

    r, mu and v have size 1 along `axes`.
    """
    xp = namespace(x)
    mu = xp.mean(x, axis=axes, keepdims=True)
    y = x - mu
    v = xp.mean(y * y, axis=axes, keepdims=True)
    r = 1.0 / xp.sqrt(v + epsilon)
    y *= r
    return y, r, mu, v


@op
def normalize_backward(dy: Array, y: Array, r: Array, *, axes: Axes) -> Array:
    """dx = r (dy - mean of dy - x^ mean of dy x^), means over `axes`: from the output y = x^.

    x^_i = (x_i - mu) r depends on every x_j, directly, through mu (dmu/dx_j = 1/m) and through r
    (dr/dx_j = -r^2 x^_j / m). Summed over i, the three ways give the three terms. (Ioffe and Szegedy, 2015, section 3.)
    """
    xp = namespace(y)
    dx = dy - xp.mean(dy, axis=axes, keepdims=True)
    dx -= y * xp.mean(dy * y, axis=axes, keepdims=True)
    dx *= r
    return dx


@op
def rms_normalize(x: Array, *, axes: Axes, epsilon: float) -> tuple[Array, Array]:
    """x^ = x r with r = 1 / sqrt(mean of x^2 over `axes` + epsilon) (Zhang and Sennrich, 2019). Returns (x^, r)."""
    xp = namespace(x)
    r = 1.0 / xp.sqrt(xp.mean(x * x, axis=axes, keepdims=True) + epsilon)
    return x * r, r


@op
def rms_normalize_backward(dy: Array, y: Array, r: Array, *, axes: Axes) -> Array:
    """dx = r (dy - x^ mean of dy x^): as in `normalize_backward`, without the way through mu."""
    dx = dy - y * namespace(y).mean(dy * y, axis=axes, keepdims=True)
    dx *= r
    return dx


@op
def scale_shift(x: Array, gamma: Array, beta: Array | None = None) -> Array:
    """y = gamma x + beta; gamma and beta have the shape of the last axes of x, and are the same along all others."""
    y = x * gamma
    if beta is not None:
        y += beta
    return y


@op
def scale_shift_backward(dy: Array, x: Array, gamma: Array) -> tuple[Array, Array, Array]:
    """(dx, dgamma, dbeta): dx = dy gamma; dgamma and dbeta are the sums of dy x and of dy over all other axes."""
    xp, rows = namespace(dy), (-1, math.prod(gamma.shape))
    dgamma = xp.sum(xp.reshape(dy * x, rows), axis=0)
    dbeta = xp.sum(xp.reshape(dy, rows), axis=0)
    return dy * gamma, xp.reshape(dgamma, gamma.shape), xp.reshape(dbeta, gamma.shape)
