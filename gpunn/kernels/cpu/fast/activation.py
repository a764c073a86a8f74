"""Activations and their derivatives in one pass. Those with exponentials are for float32."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.kernels.cpu.fast._jit import jit, plain
from gpunn.kernels.cpu.fast.exp import exp
from gpunn.kernels.cpu.threads import split

__all__ = ["TWINS"]

LEAST = 1 << 18  # elements for each thread
F = np.float32
ONE, TWO, HALF = F(1.0), F(2.0), F(0.5)
A, B = F(math.sqrt(2.0 / math.pi)), F(0.044715)

# Each kernel takes flat arrays; the one it fills is the last but for constants.


@jit
def _sigmoid(x, y):
    for i in range(x.size):
        y[i] = ONE / (ONE + exp(-x[i]))


@jit
def _silu(x, y):
    for i in range(x.size):
        y[i] = x[i] / (ONE + exp(-x[i]))


@jit
def _silu_backward(dy, x, dx):
    for i in range(x.size):
        s = ONE / (ONE + exp(-x[i]))
        dx[i] = ((ONE - s) * x[i] + ONE) * s * dy[i]


@jit
def _gelu(x, y):
    """With (1 + tanh u) / 2 = sigmoid(2 u)."""
    for i in range(x.size):
        u = A * (x[i] + B * (x[i] * x[i] * x[i]))
        y[i] = x[i] / (ONE + exp(-TWO * u))


@jit
def _gelu_backward(dy, x, dx):
    """With s = sigmoid(2 u): dx = dy (s + x 2 s (1 - s) u')."""
    for i in range(x.size):
        x2 = x[i] * x[i]
        s = ONE / (ONE + exp(-TWO * A * (x[i] + B * (x2 * x[i]))))
        slope = A * (ONE + F(3.0) * B * x2)
        dx[i] = (s + TWO * x[i] * s * (ONE - s) * slope) * dy[i]


@jit
def _sigmoid_backward(dy, y, dx):
    one = y.dtype.type(1.0)
    for i in range(y.size):
        dx[i] = (one - y[i]) * y[i] * dy[i]


@jit
def _tanh_backward(dy, y, dx):
    one = y.dtype.type(1.0)
    for i in range(y.size):
        dx[i] = (one - y[i] * y[i]) * dy[i]


@jit
def _relu_backward(dy, y, dx):
    zero, one = y.dtype.type(0.0), y.dtype.type(1.0)
    for i in range(y.size):
        dx[i] = dy[i] * (one if y[i] > zero else zero)


@jit
def _leaky_relu_backward(dy, x, dx, alpha):
    one, alpha = x.dtype.type(1.0), x.dtype.type(alpha)
    for i in range(x.size):
        dx[i] = dy[i] * (one if x[i] > 0.0 else alpha)


@jit
def _elu_backward(dy, y, dx, alpha):
    one, alpha = y.dtype.type(1.0), y.dtype.type(alpha)
    for i in range(y.size):
        dx[i] = dy[i] * (one if y[i] > 0.0 else alpha + y[i])


def _twin(kernel: Callable[..., None], op: Any, single: bool = False) -> Callable[..., Any]:
    """The twin of an op on one array, or two of one shape; `single`: for float32 alone."""
    reference = op.reference

    @functools.wraps(reference)
    def fused(x: np.ndarray, *second: np.ndarray, **constants: float) -> Any:
        shape, dtype, size = x.shape, x.dtype, x.size
        if not plain(x, *second) or (single and dtype != F) or (second and second[0].shape != shape):
            return reference(x, *second, **constants)
        out = np.empty(shape, dtype)
        # views, because all are in one piece
        arrays = (x.ravel(), second[0].ravel(), out.ravel()) if second else (x.ravel(), out.ravel())
        if size < 2 * LEAST:
            kernel(*arrays, *constants.values())
        else:
            split(lambda part: kernel(*(a[part] for a in arrays), *constants.values()), size, LEAST)
        return out

    return fused


TWINS: dict[str, Callable[..., Any]] = {
    "sigmoid": _twin(_sigmoid, ops.sigmoid, single=True),
    "silu": _twin(_silu, ops.silu, single=True),
    "silu_backward": _twin(_silu_backward, ops.silu_backward, single=True),
    "gelu": _twin(_gelu, ops.gelu, single=True),
    "gelu_backward": _twin(_gelu_backward, ops.gelu_backward, single=True),
    "sigmoid_backward": _twin(_sigmoid_backward, ops.sigmoid_backward),
    "tanh_backward": _twin(_tanh_backward, ops.tanh_backward),
    "relu_backward": _twin(_relu_backward, ops.relu_backward),
    "leaky_relu_backward": _twin(_leaky_relu_backward, ops.leaky_relu_backward),
    "elu_backward": _twin(_elu_backward, ops.elu_backward),
}
