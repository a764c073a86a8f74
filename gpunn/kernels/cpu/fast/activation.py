"""Activations and their derivatives in one pass. Those with exponentials are for float32."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.kernels.cpu import activation
from gpunn.kernels.cpu.fast._jit import plain, positive
from gpunn.kernels.cpu.fast.exp import exp
from gpunn.kernels.cpu.fast.team import run, shared
from gpunn.kernels.cpu.memory import empty
from gpunn.kernels.cpu.threads import LINE
from gpunn.ops._op import reference

__all__ = ["TWINS"]

LEAST = 1 << 13  # elements for each thread
FEW = 1 << 11  # elements for which one or three calls of NumPy take less time than one of compiled code
F = np.float32
ONE, TWO, HALF = F(1.0), F(2.0), F(0.5)
A, B = F(math.sqrt(2.0 / math.pi)), F(0.044715)

# Each kernel takes flat arrays; the one it fills is the last but for constants.


@shared
def _relu(x, y, start, stop):
    for i in range(start, stop):
        y[i] = positive(x[i])


@shared
def _sigmoid(x, y, start, stop):
    for i in range(start, stop):
        y[i] = ONE / (ONE + exp(-x[i]))


@shared
def _silu(x, y, start, stop):
    for i in range(start, stop):
        y[i] = x[i] / (ONE + exp(-x[i]))


@shared
def _silu_backward(dy, x, dx, start, stop):
    for i in range(start, stop):
        s = ONE / (ONE + exp(-x[i]))
        dx[i] = ((ONE - s) * x[i] + ONE) * s * dy[i]


@shared
def _gelu(x, y, start, stop):
    """With (1 + tanh u) / 2 = sigmoid(2 u)."""
    for i in range(start, stop):
        u = A * (x[i] + B * (x[i] * x[i] * x[i]))
        y[i] = x[i] / (ONE + exp(-TWO * u))


@shared
def _gelu_backward(dy, x, dx, start, stop):
    """With s = sigmoid(2 u): dx = dy (s + x 2 s (1 - s) u')."""
    for i in range(start, stop):
        x2 = x[i] * x[i]
        s = ONE / (ONE + exp(-TWO * A * (x[i] + B * (x2 * x[i]))))
        slope = A * (ONE + F(3.0) * B * x2)
        dx[i] = (s + TWO * x[i] * s * (ONE - s) * slope) * dy[i]


@shared
def _sigmoid_backward(dy, y, dx, start, stop):
    one = y.dtype.type(1.0)
    for i in range(start, stop):
        dx[i] = (one - y[i]) * y[i] * dy[i]


@shared
def _tanh_backward(dy, y, dx, start, stop):
    one = y.dtype.type(1.0)
    for i in range(start, stop):
        dx[i] = (one - y[i] * y[i]) * dy[i]


@shared
def _relu_backward(dy, y, dx, start, stop):
    zero, one = y.dtype.type(0.0), y.dtype.type(1.0)
    for i in range(start, stop):
        dx[i] = dy[i] * (one if y[i] > zero else zero)


@shared
def _leaky_relu_backward(dy, x, dx, alpha, start, stop):
    one, alpha = x.dtype.type(1.0), x.dtype.type(alpha)
    for i in range(start, stop):
        dx[i] = dy[i] * (one if x[i] > 0.0 else alpha)


@shared
def _elu_backward(dy, y, dx, alpha, start, stop):
    one, alpha = y.dtype.type(1.0), y.dtype.type(alpha)
    for i in range(start, stop):
        dx[i] = dy[i] * (one if y[i] > 0.0 else alpha + y[i])


def _twin(
    kernel: Callable[..., None], op: Any, *, single: bool = False, few: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """The twin of an op on one array, or two of one shape; `single`: for float32 alone; `few`: for fewer than FEW."""
    written = reference(op)

    @functools.wraps(written)
    def fused(x: np.ndarray, *second: np.ndarray, **constants: float) -> Any:
        if few is not None and x.size < FEW:
            return few(x, *second, **constants)
        shape, dtype, size = x.shape, x.dtype, x.size
        if not plain(x, *second) or (single and dtype != F) or (second and second[0].shape != shape):
            return written(x, *second, **constants)
        out = empty(shape, dtype)
        # views, because all are in one piece
        arrays = (x.ravel(), second[0].ravel(), out.ravel()) if second else (x.ravel(), out.ravel())
        run(kernel, (*arrays, *constants.values()), size, LEAST, align=LINE)
        return out

    return fused


TWINS: dict[str, Callable[..., Any]] = {
    "relu": _twin(_relu, ops.relu, few=activation.relu),
    "sigmoid": _twin(_sigmoid, ops.sigmoid, single=True),
    "silu": _twin(_silu, ops.silu, single=True),
    "silu_backward": _twin(_silu_backward, ops.silu_backward, single=True),
    "gelu": _twin(_gelu, ops.gelu, single=True),
    "gelu_backward": _twin(_gelu_backward, ops.gelu_backward, single=True),
    "sigmoid_backward": _twin(_sigmoid_backward, ops.sigmoid_backward, few=reference(ops.sigmoid_backward)),
    "tanh_backward": _twin(_tanh_backward, ops.tanh_backward, few=reference(ops.tanh_backward)),
    "relu_backward": _twin(_relu_backward, ops.relu_backward),
    "leaky_relu_backward": _twin(_leaky_relu_backward, ops.leaky_relu_backward),
    "elu_backward": _twin(_elu_backward, ops.elu_backward),
}
