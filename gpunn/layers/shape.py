"""Layers that change the shape of what passes, not the numbers."""

import math
from typing import Any

from gpunn.checks import whole
from gpunn.device import Array, namespace
from gpunn.errors import ShapeError
from gpunn.layers.base import Layer, Shape

__all__ = ["Flatten", "Reshape"]


class Flatten(Layer):
    """y = x with all axes but the batch laid out in one: (N, 28, 28) becomes (N, 784)."""

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, Shape]:
        return namespace(x).reshape(x, (x.shape[0], math.prod(x.shape[1:]))), tuple(x.shape)

    def backward(self, dy: Array, cache: Shape, *, need_dx: bool = True) -> Array | None:
        return namespace(dy).reshape(dy, cache)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return None if shape is None else (math.prod(shape),)


class Reshape(Layer):
    """y = x with the axes of each example laid out anew: Reshape((28, 28, 1)) makes images of rows of 784 numbers.

    Raises OptionError for a size below 1, ShapeError for inputs with more or fewer numbers than the shape has.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        sizes = shape if isinstance(shape, tuple | list) else (shape,)
        self.shape = tuple(whole("Reshape: a size", size, at_least=1) for size in sizes)

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, Shape]:
        self.output_shape(tuple(x.shape[1:]))
        return namespace(x).reshape(x, (x.shape[0], *self.shape)), tuple(x.shape)

    def backward(self, dy: Array, cache: Shape, *, need_dx: bool = True) -> Array | None:
        return namespace(dy).reshape(dy, cache)

    def output_shape(self, shape: Shape | None) -> Shape:
        if shape is not None and math.prod(shape) != math.prod(self.shape):
            raise ShapeError(f"Reshape cannot lay out inputs of shape {shape} as {self.shape}: their sizes differ")
        return self.shape
