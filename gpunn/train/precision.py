"""What a network is computed in: the data type of its weights, or on a CUDA GPU one of two that are faster."""

import contextlib
import os
from collections.abc import Callable
from typing import Any

from gpunn import ops
from gpunn.device import Array, Device
from gpunn.errors import OptionError
from gpunn.layers import Layer, Standardize

__all__ = ["FASTER", "Precision", "computes_in"]

FASTER = "tf32", "bfloat16"  # than float32, which the network itself is in


def computes_in(dtype: str | None, device: Device) -> bool:
    """Whether a network on this device can be computed in this `dtype`."""
    return dtype not in FASTER or (device.backend == "cupy" and os.environ.get("GPUNN_FAST") != "0")


class Precision:
    """How to compute `net` in `dtype`, one of those of a Trainer: `entering` and `leaving` it, and while in `within()`.

    Raises OptionError where the device has no such precision, or a package is missing.
    """

    def __init__(self, dtype: str | None, net: Layer, device: Device) -> None:
        if not computes_in(dtype, device):
            raise OptionError(
                f"dtype {dtype!r} needs gpunn's kernels for CUDA GPUs, and the device is {device}: "
                "choose dtype='float32', or device='cuda' without GPUNN_FAST=0"
            )
        self.net = net
        self.of_weights = "float32" if dtype in FASTER else dtype
        self.enters: Any = None  # the data type of what enters the network, where it is not that of the weights
        self.within: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        if dtype == "tf32":
            from gpunn.kernels.cuda.product import tf32

            self.within = tf32
        elif dtype == "bfloat16":
            from gpunn.kernels.cuda.module import bfloat16

            self._narrow = bfloat16()
            self.within = self._rounded
            # Features to be standardised may differ in later digits only: they are rounded once that is done.
            standardizes = any(isinstance(layer, Standardize) for _, layer in net.walk())
            self.enters = device.dtype("float32") if standardizes else self._narrow

    def _rounded(self) -> contextlib.AbstractContextManager[None]:
        return self.net.store.rounded(self._narrow)

    def entering(self, x: Array) -> Array:
        """The inputs, as the network takes them."""
        return x if self.enters is None else ops.cast(x, self.enters)

    def leaving(self, z: Array) -> Array:
        """The network's last numbers, in the type of the weights."""
        return z if self.enters is None else ops.cast(z, self.net.store.values.dtype)

    def returning(self, dz: Array, dtype: Any) -> Array:
        """The gradient of those numbers, in the type that they had before."""
        return dz if self.enters is None else ops.cast(dz, dtype)
