"""Standardisation: features of any size and unit brought to a common scale."""

import math
from typing import Any

from gpunn.checks import counted
from gpunn.device import Array, device
from gpunn.errors import DataError, ShapeError
from gpunn.layers.base import Layer, Shape
from gpunn.ops import cast
from gpunn.params import Buffer

__all__ = ["Standardize"]


class Standardize(Layer):
    """y = (x - mean) / std for each feature, x (N, D): as the first layer it makes the scale a part of the network.

    `mean` and `std` (D,) are constants, saved with the weights; `Standardize.of(X)` takes them from data. A feature
    that never changes gets std 1: it is only shifted. Numbers that differ in digits that float32 does not have, such as
    times in seconds since 1970, need dtype="float64", or a subtraction beforehand.
    """

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean, self.std = Buffer(mean), Buffer(std)
        m, s = self.mean.initial, self.std.initial
        if len(m.shape) != 1 or m.shape != s.shape:
            raise ShapeError(f"Standardize expects mean and std of one shape (D,), got {m.shape} and {s.shape}")
        if not ((abs(m) < math.inf) & (s > 0.0) & (s < math.inf)).all():
            raise DataError("Standardize expects finite means, and finite standard deviations above 0")

    @classmethod
    def of(cls, X: Any) -> "Standardize":
        """The layer that gives each column of X (N, D) mean 0 and standard deviation 1.

        X as it reaches the layer: bytes (uint8) are taken as numbers from 0 to 1, as the Trainer gives them.
        """
        here = device("cpu")
        X = here.asarray(X)
        X = here.asarray(X, "float64") / (255 if X.dtype == here.dtype("uint8") else 1)
        if len(X.shape) != 2 or X.shape[0] == 0:
            raise ShapeError(f"Standardize.of expects data of shape (N, D) with at least one row, got {X.shape}")
        mean, std = X.mean(axis=0), X.std(axis=0)
        return cls(mean, std + (std <= 1e-12 * abs(mean)))  # std 1 where it is 0 but for rounding

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, Any]:
        mean, dtype = self.mean.value, x.dtype
        x = self._check_input(x, mean, tuple(mean.shape))
        return (x - mean) / self.std.value, dtype

    def backward(self, dy: Array, cache: Any, *, need_dx: bool = True) -> Array | None:
        return cast(cast(dy, self.std.value.dtype) / self.std.value, cache) if need_dx else None

    def output_shape(self, shape: Shape | None) -> Shape:
        own = self.mean.initial.shape
        if shape is not None and shape != own:
            raise ShapeError(f"Standardize of {counted(own[0], 'feature')} cannot take inputs of shape {shape}")
        return own

    def config(self) -> dict[str, Any]:
        return {name: getattr(self, name).initial.tolist() for name in ("mean", "std")}

    def __repr__(self) -> str:
        return f"Standardize({counted(self.mean.initial.size, 'feature')})"
