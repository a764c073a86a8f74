"""Layers that change the shape of what passes, not the numbers."""

import math
from typing import Any

from gpunn.device import Array, namespace
from gpunn.layers.base import Layer, Shape

__all__ = ["Flatten"]


class Flatten(Layer):
    """y = x with all axes but the batch laid out in one: (N, 28, 28) becomes (N, 784)."""

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, Shape]:
        return namespace(x).reshape(x, (x.shape[0], math.prod(x.shape[1:]))), tuple(x.shape)

    def backward(self, dy: Array, cache: Shape, *, need_dx: bool = True) -> Array | None:
        return namespace(dy).reshape(dy, cache)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return None if shape is None else (math.prod(shape),)
