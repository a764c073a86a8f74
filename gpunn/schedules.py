"""Learning rates that change while a network trains.

A schedule is called with the number of steps done so far (0 at the first) and gives the learning rate of the next: a
pure function, so a resumed run goes on where it stopped. Every optimiser takes one in place of a number:
`gn.Adam(gn.schedules.Warmup(100, gn.schedules.Cosine(1e-3, steps=5000)))`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from gpunn.checks import instance, number, whole

__all__ = ["Constant", "Cosine", "Exponential", "InverseTime", "Schedule", "Step", "Warmup", "schedule"]

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
        number("the learning rate", self.eta0, at_least=0.0)
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
        number("the learning rate", self.eta0, at_least=0.0)
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
        number("the learning rate", self.eta0, at_least=0.0)
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
        number("the learning rate", self.eta0, at_least=0.0)
        whole("Cosine: steps", self.steps, at_least=1)
        number("Cosine: low", self.low, at_least=0.0, at_most=self.eta0)

    def __call__(self, t: int) -> float:
        done = min(t / self.steps, 1.0)
        return self.low + (self.eta0 - self.low) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Warmup:
    """The schedule `after`, begun gently: during the first `steps` steps its value times (t + 1) / steps.

    (Goyal et al., 2017.) `after` is any schedule, or a number. It runs from t = 0, beneath the warm-up.
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
