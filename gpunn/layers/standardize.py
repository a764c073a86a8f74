"""Standardisation: features of any size and unit brought to a common scale."""

from typing import Any

from gpunn.device import Array, device
from gpunn.errors import ShapeError
from gpunn.layers.base import Layer, Shape
from gpunn.params import Buffer

__all__ = ["Standardize"]


class Standardize(Layer):
    """y = (x - mean) / std for each feature, x (N, D): as the first layer it makes the scale a part of the network.

    `mean` and `std` (D,) are constants, saved with the weights; `Standardize.of(X)` takes them from data. A feature
    that never changes gets std 1: it is only shifted.
    """

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean, self.std = Buffer(mean), Buffer(std)
        if len(self.mean.initial.shape) != 1 or self.mean.initial.shape != self.std.initial.shape:
            raise ShapeError(
                f"Standardize expects mean and std of one shape (D,), got {self.mean.initial.shape} "
                f"and {self.std.initial.shape}"
            )

    @classmethod
    def of(cls, X: Any) -> "Standardize":
        """The layer that gives each column of X (N, D) mean 0 and standard deviation 1."""
        X = device("cpu").asarray(X, "float64")
        mean, std = X.mean(axis=0), X.std(axis=0)
        return cls(mean, std + (std <= 1e-12 * abs(mean)))  # which is 0 but for the rounding of the mean

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, None]:
        mean = self.mean.value
        if type(x) is not type(mean) or x.dtype != mean.dtype or x.shape[1:] != mean.shape or x.device != mean.device:
            self._check_input(x, mean, tuple(mean.shape))
        return (x - mean) / self.std.value, None

    def backward(self, dy: Array, cache: None, *, need_dx: bool = True) -> Array | None:
        return dy / self.std.value if need_dx else None

    def output_shape(self, shape: Shape | None) -> Shape:
        own = self.mean.initial.shape
        if shape is not None and shape != own:
            raise ShapeError(f"Standardize of {own[0]} features cannot take inputs of shape {shape}")
        return own

    def config(self) -> dict[str, Any]:
        return {name: getattr(self, name).initial.tolist() for name in ("mean", "std")}

    def __repr__(self) -> str:
        return f"Standardize({self.mean.initial.size} features)"
