"""One step of each optimiser on flat arrays: parameters w (P,), their gradients g (P,), and what the optimiser keeps.

These ops change w and the arrays after g in place, and leave g as it is; t counts the steps from 1, eta is the learning
rate. Besides them, `l2_decay` and `clip_by_norm` change g, and `shrink`, `max_norm` and `soft_threshold` the weights.
"""

import functools
import math

from gpunn.device import Array, namespace
from gpunn.ops._op import op

__all__ = [
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "clip_by_norm",
    "l2_decay",
    "lion",
    "max_norm",
    "momentum",
    "nadam",
    "nesterov",
    "rmsprop",
    "sgd",
    "shrink",
    "soft_threshold",
]


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

    m^ = m / (1 - beta1^t) and v^ = v / (1 - beta2^t) undo the start from zero (Kingma and Ba, 2015, algorithm 1). Here
    sqrt(1 - beta2^t) is taken out of the fraction, as in their section 2, which saves a pass.
    """
    m *= beta1
    m += (1.0 - beta1) * g
    v *= beta2
    v += (1.0 - beta2) * (g * g)
    c = math.sqrt(1.0 - beta2**t)
    root = namespace(w).sqrt(v)
    root += epsilon * c  # c (sqrt(v^) + epsilon)
    step = m / root
    step *= eta * c / (1.0 - beta1**t)
    w -= step


@op
def nadam(
    w: Array, g: Array, m: Array, v: Array, /, *, eta: float, beta1: float, beta2: float, epsilon: float, t: int
) -> None:
    """Adam with Nesterov's look ahead: w <- w - eta ((1 - mu_t) g / (1 - M_t) + mu_t+1 m / (1 - M_t+1)) / denominator.

    m, v and the denominator sqrt(v^) + epsilon are Adam's; mu_t = beta1 (1 - 0.96^(0.004 t) / 2) rises from about
    beta1 / 2 to beta1, and M_t = mu_1 ... mu_t (Dozat, "Incorporating Nesterov momentum into Adam", 2016).
    """
    m *= beta1
    m += (1.0 - beta1) * g
    v *= beta2
    v += (1.0 - beta2) * (g * g)
    root = namespace(w).sqrt(v)
    root /= math.sqrt(1.0 - beta2**t)  # sqrt(v^)
    root += epsilon
    of_g, of_m = nadam_factors(eta, beta1, t)
    step = of_g * g
    step += of_m * m
    step /= root
    w -= step


def nadam_factors(eta: float, beta1: float, t: int) -> tuple[float, float]:
    """What g and m are multiplied by in `nadam`: (eta (1 - mu_t) / (1 - M_t), eta mu_t+1 / (1 - M_t+1))."""
    now, ahead, product = _nadam_mu(beta1, t), _nadam_mu(beta1, t + 1), _nadam_product(beta1, t)
    return eta * (1.0 - now) / (1.0 - product), eta * ahead / (1.0 - product * ahead)


def _nadam_mu(beta1: float, t: int) -> float:
    return beta1 * (1.0 - 0.5 * 0.96 ** (0.004 * t))


@functools.lru_cache(maxsize=4)  # the blocks of one step ask for the same
def _nadam_product(beta1: float, t: int) -> float:
    """mu_1 ... mu_t. The first 100 are enough: their product is below 1e-29, and counts for nothing beside 1."""
    return math.prod(_nadam_mu(beta1, i) for i in range(1, min(t, 100) + 1))


@op
def adamax(
    w: Array, g: Array, m: Array, u: Array, /, *, eta: float, beta1: float, beta2: float, epsilon: float, t: int
) -> None:
    """m <- beta1 m + (1 - beta1) g, u <- max(beta2 u, |g|), w <- w - eta m^ / (u + epsilon).

    Adam with the largest gradient in place of the root mean square (Kingma and Ba, 2015, algorithm 2, which has no
    epsilon). m^ = m / (1 - beta1^t).
    """
    xp = namespace(w)
    m *= beta1
    m += (1.0 - beta1) * g
    u *= beta2
    u[...] = xp.maximum(u, xp.abs(g))
    step = m / (u + epsilon)
    step *= eta / (1.0 - beta1**t)
    w -= step


@op
def adadelta(w: Array, g: Array, v: Array, d: Array, /, *, eta: float, rho: float, epsilon: float) -> None:
    """v <- rho v + (1 - rho) g^2, s = g sqrt(d + epsilon) / sqrt(v + epsilon), w <- w - eta s.

    d <- rho d + (1 - rho) s^2 afterwards. The step has the units of w, so eta = 1 needs no choice (Zeiler, "ADADELTA:
    an adaptive learning rate method", 2012, algorithm 1).
    """
    xp = namespace(w)
    v *= rho
    v += (1.0 - rho) * (g * g)
    step = xp.sqrt((d + epsilon) / (v + epsilon))
    step *= g
    d *= rho
    d += (1.0 - rho) * (step * step)
    step *= eta
    w -= step


@op
def lion(w: Array, g: Array, m: Array, /, *, eta: float, beta1: float, beta2: float) -> None:
    """w <- w - eta sign(beta1 m + (1 - beta1) g), then m <- beta2 m + (1 - beta2) g.

    Every weight moves by eta (Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2).
    """
    xp = namespace(w)
    c = beta1 * m
    c += (1.0 - beta1) * g
    step = xp.astype(c > 0.0, w.dtype)
    step -= xp.astype(c < 0.0, w.dtype)  # sign(c); see mean_absolute_error_backward
    step *= eta
    w -= step
    m *= beta2
    m += (1.0 - beta2) * g


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
def l2_decay(g: Array, w: Array, /, *, rate: float) -> None:
    """g <- g + rate w, the gradient of the penalty rate/2 |w|^2: weight decay that goes through the gradient."""
    g += rate * w


@op
def shrink(w: Array, /, *, by: float) -> None:
    """w <- (1 - by) w: weight decay apart from the gradient (Loshchilov and Hutter, 2019)."""
    w *= 1.0 - by


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


@op
def soft_threshold(w: Array, /, *, by: float) -> None:
    """w <- sign(w) max(|w| - by, 0), in place: every weight nearer to 0 by `by`, and not beyond (Donoho, 1995)."""
    xp = namespace(w)
    w -= xp.maximum(xp.minimum(w, by), -by)
