"""Optimiser updates in one pass over memory, to the bit as in `gpunn.ops.update`.

The floor is the memory: Adam reads four arrays and writes three. On two cores of an AMD EPYC 5.8 million parameters
take 2.6 ms.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.kernels.common import CONSTANTS
from gpunn.kernels.cpu import update
from gpunn.kernels.cpu.fast._jit import plain
from gpunn.kernels.cpu.fast.team import run, shared
from gpunn.kernels.cpu.threads import LINE

__all__ = ["TWINS"]

LEAST = 1 << 15  # elements for each thread

# Each kernel takes the arrays of its op, flat, and its CONSTANTS in an array c of the same type.


@shared
def _sgd(w, g, c, start, stop):
    eta = c[0]
    for i in range(start, stop):
        w[i] -= eta * g[i]


@shared
def _momentum(w, g, v, c, start, stop):
    eta, mu = c[0], c[1]
    for i in range(start, stop):
        v[i] = mu * v[i] + g[i]
        w[i] -= eta * v[i]


@shared
def _nesterov(w, g, v, c, start, stop):
    eta, mu = c[0], c[1]
    for i in range(start, stop):
        v[i] = mu * v[i] + g[i]
        w[i] -= eta * (g[i] + mu * v[i])


@shared
def _adam(w, g, m, v, c, start, stop):
    beta1, rest1, beta2, rest2, epsilon, eta = c[0], c[1], c[2], c[3], c[4], c[5]
    for i in range(start, stop):
        m[i] = beta1 * m[i] + rest1 * g[i]
        v[i] = beta2 * v[i] + rest2 * (g[i] * g[i])
        w[i] -= m[i] / (np.sqrt(v[i]) + epsilon) * eta


@shared
def _nadam(w, g, m, v, c, start, stop):
    beta1, rest1, beta2, rest2, root, epsilon, now, ahead = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
    for i in range(start, stop):
        m[i] = beta1 * m[i] + rest1 * g[i]
        v[i] = beta2 * v[i] + rest2 * (g[i] * g[i])
        w[i] -= (now * g[i] + ahead * m[i]) / (np.sqrt(v[i]) / root + epsilon)


@shared
def _adamax(w, g, m, u, c, start, stop):
    beta1, rest1, beta2, epsilon, eta = c[0], c[1], c[2], c[3], c[4]
    for i in range(start, stop):
        m[i] = beta1 * m[i] + rest1 * g[i]
        u[i] = max(beta2 * u[i], abs(g[i]))
        w[i] -= m[i] / (u[i] + epsilon) * eta


@shared
def _adadelta(w, g, v, d, c, start, stop):
    rho, rest, epsilon, eta = c[0], c[1], c[2], c[3]
    for i in range(start, stop):
        v[i] = rho * v[i] + rest * (g[i] * g[i])
        step = np.sqrt((d[i] + epsilon) / (v[i] + epsilon)) * g[i]
        d[i] = rho * d[i] + rest * (step * step)
        w[i] -= eta * step


@shared
def _lion(w, g, m, c, start, stop):
    beta1, rest1, beta2, rest2, eta = c[0], c[1], c[2], c[3], c[4]
    for i in range(start, stop):
        towards = beta1 * m[i] + rest1 * g[i]
        w[i] -= eta if towards > 0.0 else (-eta if towards < 0.0 else c[5])
        m[i] = beta2 * m[i] + rest2 * g[i]


@shared
def _rmsprop(w, g, v, c, start, stop):
    rho, rest, epsilon, eta = c[0], c[1], c[2], c[3]
    for i in range(start, stop):
        v[i] = rho * v[i] + rest * (g[i] * g[i])
        w[i] -= eta * (g[i] / (np.sqrt(v[i]) + epsilon))


@shared
def _adagrad(w, g, v, c, start, stop):
    epsilon, eta = c[0], c[1]
    for i in range(start, stop):
        v[i] += g[i] * g[i]
        w[i] -= eta * (g[i] / (np.sqrt(v[i]) + epsilon))


@shared
def _l2_decay(g, w, c, start, stop):
    rate = c[0]
    for i in range(start, stop):
        g[i] += rate * w[i]


KERNELS: dict[str, Callable[..., None]] = {
    "sgd": _sgd,
    "momentum": _momentum,
    "nesterov": _nesterov,
    "adam": _adam,
    "nadam": _nadam,
    "adamax": _adamax,
    "adadelta": _adadelta,
    "lion": _lion,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "l2_decay": _l2_decay,
}


def _twin(name: str) -> Callable[..., None]:
    kernel, constants, blocked = KERNELS[name], CONSTANTS[name], update.TWINS[name]

    @functools.wraps(blocked)
    def fused(w: np.ndarray, *arrays: np.ndarray, **named: Any) -> None:
        fit = w.ndim == 1 and plain(w, *arrays)
        for a in arrays:  # a kernel does not look where an array ends
            fit &= a.shape == w.shape
        for a in (w, *arrays[1:]):  # all but the gradient are written to; where one cannot be, NumPy says so
            fit &= a.flags.writeable
        if not fit:
            return blocked(w, *arrays, **named)
        c = np.array(constants(**named), dtype=w.dtype)
        return run(kernel, (w, *arrays, c), w.size, LEAST, align=LINE)

    return fused


TWINS = {name: _twin(name) for name in KERNELS}
