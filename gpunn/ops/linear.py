"""The linear map y = x W + b, which layers of neurons are made of.

Symbols: N rows in the batch, D inputs, M outputs.
"""

from gpunn.device import Array, namespace
from gpunn.ops._op import op
from gpunn.ops.activation import relu, relu_backward

__all__ = ["linear", "linear_backward", "linear_relu", "linear_relu_kept", "relu_linear_backward"]


@op
def linear(x: Array, W: Array, b: Array | None = None, *, out: Array | None = None) -> Array:
    """y = x W + b, for x (N, D), W (D, M), b (M,); returns y (N, M).

    Row n of y is y_n = sum_d x_nd W_d + b: the weighted inputs of the neurons for one example (inside the sigma of
    Nielsen, chapter 2, equation 25, where an example is a column instead of a row). `out`: where y may be put.
    """
    xp = namespace(x)
    y = xp.matmul(x, W, out=out)  # (N, M)
    if b is not None:
        y += b
    return y


@op
def linear_backward(
    dy: Array,
    x: Array,
    W: Array,
    *,
    need_dx: bool = True,
    out: tuple[Array | None, Array | None, Array | None] = (None, None, None),
) -> tuple[Array | None, Array, Array]:
    """The gradients (dx, dW, db) of a loss L, given dy = dL/dy (N, M) and what the forward pass saw.

    y_nm = sum_d x_nd W_dm + b_m, so by the chain rule each x_nd collects dy through W, each W_dm through x summed over
    the batch, each b_m the plain sum. dx is None without `need_dx`. `out`: where dx, dW, db may be put.
    """
    xp = namespace(dy)
    out_dx, out_dW, out_db = out
    dx = xp.matmul(dy, W.T, out=out_dx) if need_dx else None  # (N, D)   dL/dx = dy W^T
    dW = xp.matmul(x.T, dy, out=out_dW)  #                      (D, M)   dL/dW = x^T dy
    db = xp.sum(dy, axis=0, out=out_db)  #                      (M,)     dL/db = sum_n dy_n
    return dx, dW, db


@op
def linear_relu(x: Array, W: Array, b: Array | None = None) -> Array:
    """y = max(x W + b, 0), computed in one kernel where one exists; shapes as in `linear`.

    The gradients are those of the two: `linear_backward` of dz, where dz = `relu_backward` of dy and y.
    """
    return relu(linear(x, W, b))


@op
def linear_relu_kept(x: Array, W: Array, b: Array | None = None) -> tuple[Array, Array]:
    """(y, kept): `linear_relu`, and what tells `relu_linear_backward` where y > 0.

    That is y itself, or a mask of bits from a kernel that writes one.
    """
    y = linear_relu(x, W, b)
    return y, y


@op
def relu_linear_backward(
    dy: Array,
    x: Array,
    W: Array,
    kept: Array,
    *,
    out: tuple[Array | None, Array | None, Array | None] = (None, None, None),
) -> tuple[Array, Array, Array]:
    """The gradients (dz, dW, db) for z -> x = max(z, 0) -> y = x W + b: dz = dy W^T where z > 0, else 0.

    `kept` is what `linear_relu_kept` gave with x; z, dz (N, D). dz is computed in one kernel where one exists.
    """
    dx, dW, db = linear_backward(dy, x, W, out=out)
    return relu_backward(dx, kept), dW, db  # dL/dz = dL/dx where z > 0, else 0
