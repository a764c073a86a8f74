"""Layers that disturb what passes while a network is trained, so that it does not come to rely on any one number."""

import functools

from gpunn.checks import number, whole
from gpunn.device import Array, on_host
from gpunn.errors import OptionError
from gpunn.layers.base import Key, Layer, Shape
from gpunn.ops import dropout, dropout_backward, gaussian_noise
from gpunn.rng import generator

__all__ = ["Dropout", "GaussianNoise"]


class Dropout(Layer):
    """In training each number is 0 with probability `rate`, else x / (1 - rate); at inference y = x.

    (Srivastava et al., 2014.) Which numbers are dropped follows from the seed, the step and the layer's name in the
    network alone, on every device. Raises OptionError unless 0 <= rate < 1.
    """

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = number("Dropout: rate", rate, at_least=0.0, below=1.0)

    def forward(self, x: Array, *, train: bool = False, key: Key | None = None) -> tuple[Array, Array | None]:
        if not (train and self.rate):
            return x, None
        words, step = random_key(self, key)
        return dropout(x, rate=self.rate, key=words, step=step)

    def backward(self, dy: Array, cache: Array | None, *, need_dx: bool = True) -> Array | None:
        return dy if cache is None else dropout_backward(dy, cache) if need_dx else None

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return shape


class GaussianNoise(Layer):
    """In training y = x + noise from N(0, std^2), drawn anew for each number; at inference y = x.

    What is drawn follows from the seed, the step and the layer's name, as with Dropout. Raises OptionError unless
    std >= 0.
    """

    def __init__(self, std: float = 0.1) -> None:
        self.std = number("GaussianNoise: std", std, at_least=0.0)

    def forward(self, x: Array, *, train: bool = False, key: Key | None = None) -> tuple[Array, None]:
        if not (train and self.std):
            return x, None
        words, step = random_key(self, key)
        return gaussian_noise(x, std=self.std, key=words, step=step), None

    def backward(self, dy: Array, cache: None, *, need_dx: bool = True) -> Array | None:
        return dy

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return shape


def random_key(layer: Layer, key: Key | None) -> tuple[tuple[int, int], int]:
    """(two words of 32 bits from the seed and the layer's name, the step) of the key that forward was given.

    The step is a whole number; in a captured training step it is a 0-d array of int64 on the GPU.
    """
    if not isinstance(key, tuple) or len(key) < 2:
        raise OptionError(
            f"{type(layer).__name__} draws random numbers in training: give net.forward(x, train=True, "
            "key=(seed, step)) another step each time, or use a gn.Trainer"
        )
    seed, step, *name = key
    if not hasattr(step, "device") or on_host(step):
        step = whole("the step in key", step)
    return _words(seed, ".".join(name)), step


@functools.cache
def _words(seed: int, name: str) -> tuple[int, int]:
    low, high = generator(seed, f"mask/{name}").integers(2**32, size=2).tolist()
    return low, high
