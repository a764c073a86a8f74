"""One step of each optimiser on flat arrays: all parameters w (P,), their gradients g (P,), and what the optimiser
keeps.

These ops change w and the arrays after g in place, and leave g as it is; t counts the steps from 1, eta is the learning
rate. Besides them, `clip_by_norm` changes g, and `max_norm` the weights of one layer.
"""

import math

from gpunn.device import Array, namespace
from gpunn.ops._op import op

__all__ = ["adagrad", "adam", "clip_by_norm", "max_norm", "momentum", "nesterov", "rmsprop", "sgd"]


@op
def sgd(w: Array, g: Array, /, *, eta: float) -> None:
    """w <- w - eta g."""
    w -= eta * g


@op
def momentum(w: Array, g: Array, v: Array, /, *, eta: float, mu: float) -> None:
    """v <- mu v + g, w <- w - eta v (Polyak, 1964; in this form in Sutskever et al., 2013, with v scaled by -eta)."""
    v *= mu
    v += g
    w -= eta * v


@op
def nesterov(w: Array, g: Array, v: Array, /, *, eta: float, mu: float) -> None:
    """v <- mu v + g, w <- w - eta (g + mu v): a look ahead along v (Nesterov, 1983; Sutskever et al., 2013)."""
    v *= mu
    v += g
    w -= eta * (g + mu * v)


@op
def adam(
    w: Array, g: Array, m: Array, v: Array, /, *, eta: float, beta1: float, beta2: float, epsilon: float, t: int
) -> None:
    """m <- beta1 m + (1 - beta1) g, v <- beta2 v + (1 - beta2) g^2, w <- w - eta m^ / (sqrt(v^) + epsilon).

    m^ = m / (1 - beta1^t) and v^ = v / (1 - beta2^t) undo the start from zero (Kingma and Ba, 2015, algorithm 1).
    """
    m *= beta1
    m += (1.0 - beta1) * g
    v *= beta2
    v += (1.0 - beta2) * (g * g)
    root = namespace(w).sqrt(v)
    root /= math.sqrt(1.0 - beta2**t)  # sqrt(v^)
    root += epsilon
    step = m / root
    step *= eta / (1.0 - beta1**t)
    w -= step


@op
def rmsprop(w: Array, g: Array, v: Array, /, *, eta: float, rho: float, epsilon: float) -> None:
    """v <- rho v + (1 - rho) g^2, w <- w - eta g / (sqrt(v) + epsilon) (Tieleman and Hinton, 2012)."""
    v *= rho
    v += (1.0 - rho) * (g * g)
    root = namespace(w).sqrt(v)
    root += epsilon
    w -= eta * (g / root)


@op
def adagrad(w: Array, g: Array, v: Array, /, *, eta: float, epsilon: float) -> None:
    """v <- v + g^2, w <- w - eta g / (sqrt(v) + epsilon) (Duchi, Hazan and Singer, 2011)."""
    v += g * g
    root = namespace(w).sqrt(v)
    root += epsilon
    w -= eta * (g / root)


@op
def clip_by_norm(g: Array, /, *, limit: float) -> Array:
    """g <- g min(1, limit / |g|), in place; returns |g|, the Euclidean norm, as a 0-d array (Pascanu et al., 2013).

    The norm stays on the device: nothing waits for it.
    """
    xp = namespace(g)
    norm = xp.sqrt(xp.sum(g * g))
    g *= limit / xp.maximum(norm, limit)
    return norm


@op
def max_norm(w: Array, /, *, limit: float) -> None:
    """w_m <- w_m min(1, limit / |w_m|), in place, for the weights into each output m: all axes of w but the last."""
    xp = namespace(w)
    norm = xp.sqrt(xp.sum(w * w, axis=tuple(range(len(w.shape) - 1)), keepdims=True))
    w *= limit / xp.maximum(norm, limit)
