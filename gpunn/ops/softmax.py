"""Softmax: from scores to probabilities.

Symbols: N rows, C classes; z (N, C) the scores (logits), y (N, C) the probabilities.
"""

from gpunn.device import Array, namespace
from gpunn.ops._op import op

__all__ = ["softmax", "softmax_backward"]


@op
def softmax(z: Array) -> Array:
    """y_c = e^z_c / sum_k e^z_k along the last axis (Nielsen, chapter 3, equation 78).

    The largest score is taken off first: that changes no ratio, and no exponential can overflow.
    """
    xp = namespace(z)
    y = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    y /= xp.sum(y, axis=-1, keepdims=True)
    return y


@op
def softmax_backward(dy: Array, y: Array) -> Array:
    """dz_c = y_c (dy_c - sum_k dy_k y_k): from the output, since dy_k/dz_c = y_k ((k = c) - y_c)."""
    xp = namespace(y)
    dz = dy - xp.sum(dy * y, axis=-1, keepdims=True)
    dz *= y
    return dz
