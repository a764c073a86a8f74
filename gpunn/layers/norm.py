"""Normalisation layers. What they normalise over is in their names; the equations are in `gpunn.ops.norm`.

All but RMSNorm learn a scale gamma and a shift beta for each channel, RMSNorm a scale; weight decay spares them.
"""

import math
from typing import Any

from gpunn.checks import number, whole
from gpunn.device import Array, namespace
from gpunn.errors import DataError, OptionError, ShapeError
from gpunn.init import Constant
from gpunn.layers.base import Layer, Shape
from gpunn.ops import (
    cast,
    normalize,
    normalize_backward,
    rms_normalize,
    rms_normalize_backward,
    scale_shift,
    scale_shift_backward,
)
from gpunn.params import Buffer, Param

__all__ = ["BatchNorm", "GroupNorm", "LayerNorm", "RMSNorm"]


class _Norm(Layer):
    """What all of them share: n channels, the last axis of x, with a scale and a shift for each."""

    shifts = True

    def __init__(self, n: int, epsilon: float = 1e-5) -> None:
        self.n = whole(f"{type(self).__name__}: n", n, at_least=1)
        self.epsilon = number(f"{type(self).__name__}: epsilon", epsilon, above=0.0)
        self.gamma = Param((self.n,), Constant(1.0), decay=False)
        self.beta = Param((self.n,), "zeros", decay=False) if self.shifts else None

    def _scale_shift(self, x_hat: Array) -> Array:
        return scale_shift(x_hat, self.gamma.value, self.beta.value if self.beta else None)

    def _scale_shift_backward(self, dy: Array, x_hat: Array) -> Array:
        dx_hat, dgamma, dbeta = scale_shift_backward(dy, x_hat, self.gamma.value)
        self.gamma.add_grad(dgamma)
        if self.beta:
            self.beta.add_grad(dbeta)
        return dx_hat

    def _check(self, x: Array) -> Array:
        return self._check_input(x, self.gamma.value, (*(None,) * (len(x.shape) - 2), self.n))

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is not None and (not shape or shape[-1] != self.n):
            raise ShapeError(f"{type(self).__name__} of {self.n} channels cannot take inputs of shape {shape}")
        return shape


class BatchNorm(_Norm):
    """Each channel brought to mean 0 and variance 1 over the batch, and over the pixels of images; y = gamma x^ + beta.

    x (N, n) or (N, H, W, n). In training by the batch's own mean and variance; at inference by running ones,
    running <- (1 - momentum) running + momentum (batch's), which are saved with the weights. As is usual, the running
    variance is unbiased: over m - 1, for m numbers a channel (Ioffe and Szegedy, 2015). Raises DataError in training
    where m is 1: that number would always become 0.
    """

    def __init__(self, n: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__(n, epsilon)
        self.momentum = number("BatchNorm: momentum", momentum, above=0.0, at_most=1.0)
        self.mean, self.variance = Buffer(0.0, (self.n,)), Buffer(1.0, (self.n,))

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, tuple[Array, Array, bool]]:
        x = self._check(x)
        if train:
            m = math.prod(x.shape[:-1])
            if m < 2:
                raise DataError(
                    f"BatchNorm takes means over a batch, and one of shape {tuple(x.shape)} has {m} number a channel, "
                    "expected 2 or more: use a larger batch, or drop_last=True if only the last is so small"
                )
            x_hat, r, mean, variance = normalize(x, axes=tuple(range(len(x.shape) - 1)), epsilon=self.epsilon)
            for buffer, new in ((self.mean, mean), (self.variance, variance * (m / (m - 1)))):
                running = buffer.value
                running *= 1.0 - self.momentum
                running += self.momentum * namespace(x).reshape(new, (self.n,))
        else:
            r = 1.0 / namespace(x).sqrt(self.variance.value + self.epsilon)
            x_hat = cast((cast(x, r.dtype) - self.mean.value) * r, x.dtype)
        return self._scale_shift(x_hat), (x_hat, r, train)

    def backward(self, dy: Array, cache: tuple[Array, Array, bool], *, need_dx: bool = True) -> Array | None:
        x_hat, r, train = cache
        dx_hat = self._scale_shift_backward(dy, x_hat)
        if not need_dx:
            return None
        if not train:  # mean and variance were constants
            return dx_hat * r
        return normalize_backward(dx_hat, x_hat, r, axes=tuple(range(len(dy.shape) - 1)))


class LayerNorm(_Norm):
    """The features of each example (or of each pixel) brought to mean 0 and variance 1, then y = gamma x^ + beta.

    x (N, ..., n). The same in training and at inference (Ba, Kiros and Hinton, 2016).
    """

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, tuple[Array, Array]]:
        x = self._check(x)
        x_hat, r, _, _ = normalize(x, axes=(-1,), epsilon=self.epsilon)
        return self._scale_shift(x_hat), (x_hat, r)

    def backward(self, dy: Array, cache: tuple[Array, Array], *, need_dx: bool = True) -> Array | None:
        x_hat, r = cache
        dx_hat = self._scale_shift_backward(dy, x_hat)
        return normalize_backward(dx_hat, x_hat, r, axes=(-1,)) if need_dx else None


class RMSNorm(_Norm):
    """The features of each example (or of each pixel) brought to mean square 1, then y = gamma x^.

    x (N, ..., n). LayerNorm without the mean and the shift: cheaper, and as good (Zhang and Sennrich, 2019).
    """

    shifts = False

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, tuple[Array, Array]]:
        x = self._check(x)
        x_hat, r = rms_normalize(x, axes=(-1,), epsilon=self.epsilon)
        return self._scale_shift(x_hat), (x_hat, r)

    def backward(self, dy: Array, cache: tuple[Array, Array], *, need_dx: bool = True) -> Array | None:
        x_hat, r = cache
        dx_hat = self._scale_shift_backward(dy, x_hat)
        return rms_normalize_backward(dx_hat, x_hat, r, axes=(-1,)) if need_dx else None


class GroupNorm(_Norm):
    """Channels in groups; each group of one image is brought to mean 0 and variance 1, then y = gamma x^ + beta.

    x (N, ..., n); `groups` must divide n, otherwise OptionError. The same in training and at inference, so it suits
    batches that are too small for BatchNorm (Wu and He, 2018). With as many groups as channels it is instance
    normalisation.
    """

    def __init__(self, groups: int, n: int, epsilon: float = 1e-5) -> None:
        super().__init__(n, epsilon)
        self.groups = whole("GroupNorm: groups", groups, at_least=1)
        if self.n % self.groups:
            raise OptionError(f"GroupNorm: {self.n} channels cannot be divided into {self.groups} groups of one size")

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, tuple[Array, Array]]:
        x = self._check(x)
        x_hat, r, _, _ = normalize(self._grouped(x), axes=self._axes(x), epsilon=self.epsilon)
        x_hat = namespace(x).reshape(x_hat, x.shape)
        return self._scale_shift(x_hat), (x_hat, r)

    def backward(self, dy: Array, cache: tuple[Array, Array], *, need_dx: bool = True) -> Array | None:
        x_hat, r = cache
        dx_hat = self._scale_shift_backward(dy, x_hat)
        if not need_dx:
            return None
        dx = normalize_backward(self._grouped(dx_hat), self._grouped(x_hat), r, axes=self._axes(dy))
        return namespace(dx).reshape(dx, dy.shape)

    def _grouped(self, x: Array) -> Array:  # (N, ..., groups, n / groups)
        return namespace(x).reshape(x, (*x.shape[:-1], self.groups, self.n // self.groups))

    def _axes(self, x: Array) -> tuple[int, ...]:  # of the grouped array: all but the batch and the groups
        return (*range(1, len(x.shape) - 1), -1)
