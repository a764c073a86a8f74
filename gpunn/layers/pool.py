"""Pooling layers: they make images smaller and have no parameters."""

from typing import Any

from gpunn import ops
from gpunn.checks import pair
from gpunn.device import Array
from gpunn.errors import ShapeError
from gpunn.layers.base import Layer, Shape
from gpunn.ops.conv import output_size

__all__ = ["AvgPool2d", "GlobalAvgPool2d", "MaxPool2d"]


class _Pool2d(Layer):
    """What the layers with a moving window share."""

    def __init__(self, window: int | tuple[int, int], stride: int | tuple[int, int] | None = None) -> None:
        self.window = pair(f"{type(self).__name__}: window", window, at_least=1)
        self.stride = pair(f"{type(self).__name__}: stride", self.window if stride is None else stride, at_least=1)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        if len(shape) != 3:
            raise ShapeError(f"{type(self).__name__} expects images of shape (height, width, channels), got {shape}")
        size = output_size(shape[:2], self.window, self.stride)
        if min(size) < 1:
            raise ShapeError(
                f"{type(self).__name__}: a window of {self.window} does not fit on images of {shape[:2]}: "
                "use a smaller one"
            )
        return (*size, shape[2])


class MaxPool2d(_Pool2d):
    """The largest number in each window of the image, channel by channel.

    `window` and `stride` are numbers, or pairs for (rows, columns); without a stride windows lie side by side. x (N, H,
    W, C), y (N, P, Q, C) with P = floor((H - window) / stride) + 1, and Q likewise. Equations in `gpunn.ops.pool`.
    Raises ShapeError for an image smaller than the window.
    """

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, tuple[Array, Array]]:
        self.output_shape(tuple(x.shape[1:]))
        y = ops.max_pool2d(x, window=self.window, stride=self.stride)
        return y, (x, y)

    def backward(self, dy: Array, cache: tuple[Array, Array], *, need_dx: bool = True) -> Array | None:
        return ops.max_pool2d_backward(dy, *cache, window=self.window, stride=self.stride) if need_dx else None


class AvgPool2d(_Pool2d):
    """The mean of each window of the image, channel by channel; arguments and shapes as those of MaxPool2d."""

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, Array]:
        self.output_shape(tuple(x.shape[1:]))
        return ops.avg_pool2d(x, window=self.window, stride=self.stride), x

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        return ops.avg_pool2d_backward(dy, cache, window=self.window, stride=self.stride) if need_dx else None


class GlobalAvgPool2d(Layer):
    """The mean of each channel over the whole image: x (N, H, W, C), y (N, C) (Lin, Chen and Yan, 2014)."""

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, Array]:
        self.output_shape(tuple(x.shape[1:]))
        return ops.global_avg_pool2d(x), x

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        return ops.global_avg_pool2d_backward(dy, cache) if need_dx else None

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is not None and len(shape) != 3:
            raise ShapeError(f"GlobalAvgPool2d expects images of shape (height, width, channels), got {shape}")
        return None if shape is None else shape[2:]
