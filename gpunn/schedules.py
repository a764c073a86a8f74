"""Learning rates that change while a network trains.

A schedule is called with the number of steps done so far (0 at the first) and gives the learning rate of the next: a
pure function, so a resumed run goes on where it stopped. Every optimiser takes one in place of a number:
`gn.Adam(gn.schedules.Warmup(100, gn.schedules.Cosine(1e-3, steps=5000)))`. So does the momentum of SGD.

What depends on how well the network does, and not on steps alone, is a callback instead: `gn.Plateau`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from gpunn.checks import instance, number, whole

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Exponential",
    "InverseTime",
    "OneCycle",
    "Polynomial",
    "Schedule",
    "Step",
    "Warmup",
    "schedule",
]

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Constant:
    """eta(t) = eta0."""

    eta0: float

    def __post_init__(self) -> None:
        number("the learning rate", self.eta0, at_least=0.0)

    def __call__(self, t: int) -> float:
        return self.eta0


@dataclass(frozen=True)
class Step:
    """eta(t) = eta0 * factor^floor(t / every): cut by `factor` every so many steps."""

    eta0: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        number("the first value of a schedule", self.eta0, at_least=0.0)
        whole("Step: every", self.every, at_least=1)
        number("Step: factor", self.factor, at_least=0.0, at_most=1.0)

    def __call__(self, t: int) -> float:
        return self.eta0 * self.factor ** (t // self.every)


@dataclass(frozen=True)
class Exponential:
    """eta(t) = eta0 * factor^(t / steps): falls smoothly to eta0 * factor after `steps` steps, and on."""

    eta0: float
    steps: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        number("the first value of a schedule", self.eta0, at_least=0.0)
        whole("Exponential: steps", self.steps, at_least=1)
        number("Exponential: factor", self.factor, at_least=0.0, at_most=1.0)

    def __call__(self, t: int) -> float:
        return self.eta0 * self.factor ** (t / self.steps)


@dataclass(frozen=True)
class InverseTime:
    """eta(t) = eta0 / (1 + t / half): half of eta0 after `half` steps, a third after twice as many."""

    eta0: float
    half: int

    def __post_init__(self) -> None:
        number("the first value of a schedule", self.eta0, at_least=0.0)
        whole("InverseTime: half", self.half, at_least=1)

    def __call__(self, t: int) -> float:
        return self.eta0 / (1.0 + t / self.half)


@dataclass(frozen=True)
class Cosine:
    """eta(t) = low + (eta0 - low) (1 + cos(pi t / steps)) / 2 up to `steps`, then low (Loshchilov and Hutter, 2017)."""

    eta0: float
    steps: int
    low: float = 0.0

    def __post_init__(self) -> None:
        number("the first value of a schedule", self.eta0, at_least=0.0)
        whole("Cosine: steps", self.steps, at_least=1)
        number("Cosine: low", self.low, at_least=0.0, at_most=self.eta0)

    def __call__(self, t: int) -> float:
        return _half_cosine(self.eta0, self.low, min(t / self.steps, 1.0))


@dataclass(frozen=True)
class CosineRestarts:
    """Cosine from eta0 to low over `steps` steps, then from eta0 again over `factor` times as many, and so on.

    The warm restarts of SGDR (Loshchilov and Hutter, 2017, equation 5; factor is their T_mult, a whole number).
    """

    eta0: float
    steps: int
    factor: int = 1
    low: float = 0.0

    def __post_init__(self) -> None:
        number("the first value of a schedule", self.eta0, at_least=0.0)
        whole("CosineRestarts: steps", self.steps, at_least=1)
        whole("CosineRestarts: factor", self.factor, at_least=1)
        number("CosineRestarts: low", self.low, at_least=0.0, at_most=self.eta0)

    def __call__(self, t: int) -> float:
        length = self.steps
        if self.factor == 1:
            t %= length
        while t >= length:  # log t rounds at most
            t, length = t - length, length * self.factor
        return _half_cosine(self.eta0, self.low, t / length)


@dataclass(frozen=True)
class Polynomial:
    """eta(t) = end + (eta0 - end) (1 - t / steps)^power up to `steps`, then end: a straight line for power 1.

    `end` may be above eta0, as for a momentum that rises.
    """

    eta0: float
    steps: int
    power: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        number("the first value of a schedule", self.eta0, at_least=0.0)
        whole("Polynomial: steps", self.steps, at_least=1)
        number("Polynomial: power", self.power, above=0.0)
        number("Polynomial: end", self.end, at_least=0.0)

    def __call__(self, t: int) -> float:
        return self.end + (self.eta0 - self.end) * (1.0 - min(t / self.steps, 1.0)) ** self.power


@dataclass(frozen=True)
class OneCycle:
    """From peak / start up to the peak in the fraction `rise` of `steps` steps, then down to peak / (start * end).

    One cycle with a high peak, and at its end far below where it began (Smith, 2018). Both ways are half a cosine. As
    in PyTorch, they begin and end at steps 0, rise * steps - 1 and steps - 1; after that the last value stays.
    """

    peak: float
    steps: int
    rise: float = 0.3
    start: float = 25.0
    end: float = 1e4

    def __post_init__(self) -> None:
        number("the first value of a schedule", self.peak, at_least=0.0)
        whole("OneCycle: steps", self.steps, at_least=1)
        number("OneCycle: rise", self.rise, at_least=0.0, at_most=1.0)
        number("OneCycle: start", self.start, at_least=1.0)
        number("OneCycle: end", self.end, at_least=1.0)

    def __call__(self, t: int) -> float:
        first, top = self.peak / self.start, max(self.rise * self.steps - 1.0, 0.0)
        if t < top:
            return _half_cosine(first, self.peak, t / top)
        return _half_cosine(self.peak, first / self.end, min((t - top) / max(self.steps - 1 - top, 1e-9), 1.0))


def _half_cosine(a: float, b: float, done: float) -> float:
    return b + (a - b) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Warmup:
    """The schedule `after`, begun gently: during the first `steps` steps its value times (t + 1) / steps.

    (Goyal et al., 2017.) `after` is any schedule, or a number. It runs from t = 0, during the warm-up, too.
    """

    steps: int
    after: Schedule | float

    def __post_init__(self) -> None:
        whole("Warmup: steps", self.steps)
        object.__setattr__(self, "after", schedule(self.after))

    def __call__(self, t: int) -> float:
        return self.after(t) * min((t + 1) / max(self.steps, 1), 1.0)  # type: ignore[operator]


def schedule(eta: Schedule | float) -> Schedule:
    """`eta` as a schedule: a number becomes Constant. Raises OptionError for a negative or infinite one."""
    return instance("a schedule", eta, Callable) if callable(eta) else Constant(eta)
