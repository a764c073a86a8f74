"""Initial weights: how the numbers that a network starts from are drawn.

An initialiser is called with a NumPy generator and a shape and returns float64 numbers. Shapes are those of gpunn's
weights, (n_in, n_out) or (height, width, n_in, n_out) for a convolution, so

    fan_in  = inputs a neuron sums over      = product of all axes but the last
    fan_out = outputs an input contributes to = height * width * n_out

A layer takes the initialiser itself or its name: `gn.Linear(784, 100, init="he_uniform")`, `init=gn.init.Normal(0.01)`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpunn.checks import instance, number
from gpunn.errors import OptionError

__all__ = [
    "Constant",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Normal",
    "Orthogonal",
    "Uniform",
    "XavierNormal",
    "XavierUniform",
    "Zeros",
    "initializer",
]

Shape = tuple[int, ...]
Initializer = Callable[[np.random.Generator, Shape], np.ndarray]


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight of this shape; each number of a vector (n,) has one input: (1, n)."""
    receptive = math.prod(shape[:-2])
    return (receptive * shape[-2], receptive * shape[-1]) if len(shape) > 1 else (1, shape[-1])


@dataclass(frozen=True)
class Constant:
    """Every weight equal to `value`."""

    value: float

    def __post_init__(self) -> None:
        number("Constant: value", self.value)

    def __call__(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        return np.full(shape, self.value, dtype=np.float64)


@dataclass(frozen=True)
class Zeros:
    """Every weight 0: for biases. Weights of one layer that start equal stay equal for ever."""

    def __call__(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        return np.zeros(shape)


@dataclass(frozen=True)
class Normal:
    """N(mean, std^2). Nielsen's large weights are Normal(1.0), with biases drawn the same way."""

    std: float = 1.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        number("Normal: std", self.std, at_least=0.0)
        number("Normal: mean", self.mean)

    def __call__(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        return self.mean + self.std * rng.standard_normal(shape)


@dataclass(frozen=True)
class Uniform:
    """Uniform on [low, high)."""

    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        number("Uniform: low", self.low)
        number("Uniform: high", self.high, at_least=self.low)

    def __call__(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        return rng.uniform(self.low, self.high, shape)


class _Scaled:
    """Numbers of variance `self.variance(fan_in, fan_out)`."""

    def variance(self, fan_in: int, fan_out: int) -> float:
        raise NotImplementedError

    def normal(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        return math.sqrt(self.variance(*fans(shape))) * rng.standard_normal(shape)

    def uniform(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        limit = math.sqrt(3.0 * self.variance(*fans(shape)))  # U(-a, a) has variance a^2 / 3
        return rng.uniform(-limit, limit, shape)


class _Lecun(_Scaled):
    def variance(self, fan_in: int, fan_out: int) -> float:
        return 1.0 / fan_in


class _Xavier(_Scaled):
    def variance(self, fan_in: int, fan_out: int) -> float:
        return 2.0 / (fan_in + fan_out)


class _He(_Scaled):
    def variance(self, fan_in: int, fan_out: int) -> float:
        return 2.0 / fan_in


@dataclass(frozen=True)
class LecunNormal(_Lecun):
    """N(0, 1/fan_in): keeps the variance of the signal forward (LeCun et al., 1998). Nielsen's improved weights."""

    __call__ = _Scaled.normal


@dataclass(frozen=True)
class LecunUniform(_Lecun):
    """U(-a, a) with a = sqrt(3/fan_in): the variance of LecunNormal."""

    __call__ = _Scaled.uniform


@dataclass(frozen=True)
class XavierNormal(_Xavier):
    """N(0, 2/(fan_in + fan_out)): a compromise between forward and backward (Glorot and Bengio, 2010)."""

    __call__ = _Scaled.normal


@dataclass(frozen=True)
class XavierUniform(_Xavier):
    """U(-a, a) with a = sqrt(6/(fan_in + fan_out)) (Glorot and Bengio, 2010, equation 16)."""

    __call__ = _Scaled.uniform


@dataclass(frozen=True)
class HeNormal(_He):
    """N(0, 2/fan_in): for ReLU, which passes half of the signal (He et al., 2015)."""

    __call__ = _Scaled.normal


@dataclass(frozen=True)
class HeUniform(_He):
    """U(-a, a) with a = sqrt(6/fan_in): the variance of HeNormal."""

    __call__ = _Scaled.uniform


@dataclass(frozen=True)
class Orthogonal:
    """gain * Q with orthonormal columns, or rows where there are fewer of them (Saxe, McClelland and Ganguli, 2014).

    Q R is a matrix of numbers from N(0, 1), with R's diagonal above 0, which makes Q uniform over all such Q. All axes
    but the last count as rows.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        number("Orthogonal: gain", self.gain)

    def __call__(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diagonal(r))
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


_BY_NAME: dict[str, Callable[[], Initializer]] = {
    "zeros": Zeros,
    "normal": Normal,
    "uniform": Uniform,
    "lecun": LecunNormal,
    "lecun_normal": LecunNormal,
    "lecun_uniform": LecunUniform,
    "xavier": XavierNormal,
    "xavier_normal": XavierNormal,
    "xavier_uniform": XavierUniform,
    "he": HeNormal,
    "he_normal": HeNormal,
    "he_uniform": HeUniform,
    "orthogonal": Orthogonal,
}


def initializer(which: str | Initializer) -> Initializer:
    """The initialiser of that name, or `which` itself where it is one. Raises OptionError for an unknown name."""
    if isinstance(which, str) and which in _BY_NAME:
        return _BY_NAME[which]()
    if not callable(which):
        raise OptionError(f"initialiser {which!r} is not known; expected one of {', '.join(_BY_NAME)}")
    return instance("an initialiser", which, Callable)
