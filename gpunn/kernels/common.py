"""What the twins for a CPU and those for a GPU share: the constants of the optimisers, and how axes are grouped."""

import math
from collections.abc import Callable

from gpunn.ops.update import nadam_factors

__all__ = ["CONSTANTS", "rows_or_columns"]


def _adam(*, eta: float, beta1: float, beta2: float, epsilon: float, t: int) -> tuple[float, ...]:
    root = math.sqrt(1.0 - beta2**t)
    return beta1, 1.0 - beta1, beta2, 1.0 - beta2, epsilon * root, eta * root / (1.0 - beta1**t)


def _nadam(*, eta: float, beta1: float, beta2: float, epsilon: float, t: int) -> tuple[float, ...]:
    now, ahead = nadam_factors(eta, beta1, t)
    return beta1, 1.0 - beta1, beta2, 1.0 - beta2, math.sqrt(1.0 - beta2**t), epsilon, now, ahead


def _adamax(*, eta: float, beta1: float, beta2: float, epsilon: float, t: int) -> tuple[float, ...]:
    return beta1, 1.0 - beta1, beta2, epsilon, eta / (1.0 - beta1**t)


# What a kernel takes of the arguments of its op, in its order, so that it is rounded where the reference rounds it.
CONSTANTS: dict[str, Callable[..., tuple[float, ...]]] = {
    "sgd": lambda *, eta: (eta,),
    "momentum": lambda *, eta, mu: (eta, mu),
    "nesterov": lambda *, eta, mu: (eta, mu),
    "adam": _adam,
    "nadam": _nadam,
    "adamax": _adamax,
    "adadelta": lambda *, eta, rho, epsilon: (rho, 1.0 - rho, epsilon, eta),
    "lion": lambda *, eta, beta1, beta2: (beta1, 1.0 - beta1, beta2, 1.0 - beta2, eta, 0.0),
    "rmsprop": lambda *, eta, rho, epsilon: (rho, 1.0 - rho, epsilon, eta),
    "adagrad": lambda *, eta, epsilon: (epsilon, eta),
    "l2_decay": lambda *, rate: (rate,),
    "shrink": lambda *, by: (1.0 - by,),
}


def rows_or_columns(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[str, int]:
    """("rows", their number) where the last axes are taken together, ("columns", theirs) where the first are.

    Otherwise ("other", a number without meaning).
    """
    n = len(shape)
    axes = tuple(sorted(axis % n for axis in axes))
    if axes == tuple(range(n - len(axes), n)):
        return "rows", math.prod(shape[: n - len(axes)])
    return ("columns" if axes == tuple(range(len(axes))) else "other"), math.prod(shape[len(axes) :])
