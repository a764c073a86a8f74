"""What a network is computed in: the data type of its weights, or on a CUDA GPU one of two that are faster."""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

from gpunn import ops
from gpunn.device import Array, Device
from gpunn.errors import OptionError
from gpunn.layers import Layer, Standardize
from gpunn.losses import Loss

__all__ = ["FASTER", "Precision", "computes_in"]

FASTER = "tf32", "bfloat16"  # than float32, which the network itself is in
AS_IT_IS: contextlib.AbstractContextManager[None] = contextlib.nullcontext()


def computes_in(dtype: str | None, device: Device) -> bool:
    """Whether a network on this device can be computed in this `dtype`."""
    return dtype not in FASTER or (device.backend == "cupy" and os.environ.get("GPUNN_FAST") != "0")


class Precision:
    """How to compute `net` in `dtype`, one of those of a Trainer: `entering` and `leaving` it, inside `computing()`.

    With `tune` the algorithms for its products and convolutions are chosen by their times, on a CUDA GPU. Raises
    OptionError where the device has no such precision, or a package is missing.
    """

    tf32 = tune = False  # as in trainers from older pickles

    def __init__(self, dtype: str | None, net: Layer, device: Device, tune: bool = False) -> None:
        if not computes_in(dtype, device):
            raise OptionError(
                f"dtype {dtype!r} needs gpunn's kernels for CUDA GPUs, and the device is {device}: "
                "choose dtype='float32', or device='cuda' without GPUNN_FAST=0"
            )
        self.net, self.tf32, self.tune = net, dtype == "tf32", tune and device.backend == "cupy"
        self.of_weights = "float32" if dtype in FASTER else dtype
        self.enters: Any = None  # the data type of what enters the network, where it is not that of the weights
        if dtype == "bfloat16":
            from gpunn.kernels.cuda.module import bfloat16

            self._narrow = bfloat16()
            # Features to be standardised may differ in later digits only: they are rounded once that is done.
            standardizes = any(isinstance(layer, Standardize) for _, layer in net.walk())
            self.enters = device.dtype("float32") if standardizes else self._narrow

    def computing(self, *, rounded: bool = False) -> contextlib.AbstractContextManager[None]:
        """Inside it the network is computed so. `rounded`: the copy in `rounds` is up to date, not to be made."""
        if self.enters is None:
            return self._tuned(_product().tf32() if self.tf32 else AS_IT_IS)
        return self._tuned(self.net.store.rounded(self._narrow, done=rounded))

    def updating(self) -> contextlib.AbstractContextManager[None]:
        """Inside it the optimiser takes its step: products, which Muon makes, need no more than TF32 in either."""
        return self._tuned(_product().tf32() if self.tf32 or self.enters is not None else AS_IT_IS)

    def _tuned(self, inside: contextlib.AbstractContextManager[None]) -> contextlib.AbstractContextManager[None]:
        return _tuning(inside) if self.tune else inside

    def rounds(self) -> tuple[Array, Array] | None:
        """(copy, weights), where the network meets a copy of its weights in bfloat16; else None."""
        return None if self.enters is None else (self.net.store.copy(self._narrow), self.net.store.values)

    def entering(self, x: Array) -> Array:
        """The inputs, as the network takes them."""
        return x if self.enters is None else ops.cast(x, self.enters)

    def leaving(self, z: Array) -> Array:
        """The network's last numbers, in the type of the weights."""
        return z if self.enters is None else ops.cast(z, self.net.store.values.dtype)

    def gradient(self, loss: Loss, z: Array, y: Array, share: float = 1.0) -> tuple[Array, Array]:
        """(L, dz) times `share` for these numbers, L in the type of the weights, dz in that of z."""
        as_it_is = self.enters is None or (share == 1.0 and loss.fused(y))
        value, dz = loss.both(z if as_it_is else self.leaving(z), y)
        if share != 1.0:  # * 1 would be a kernel of its own
            value, dz = value * share, dz * share
        return value, dz if as_it_is else ops.cast(dz, z.dtype)


@contextlib.contextmanager
def _tuning(inside: contextlib.AbstractContextManager[None]) -> Iterator[None]:
    with _product().tuning(), inside:
        yield


@functools.cache
def _product() -> Any:
    from gpunn.kernels.cuda import product  # not for a CPU

    return product
