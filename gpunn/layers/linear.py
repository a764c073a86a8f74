"""The fully connected layer."""

from typing import Any

from gpunn.device import Array
from gpunn.errors import ShapeError
from gpunn.init import Initializer
from gpunn.layers.base import Layer, Shape
from gpunn.ops import linear, linear_backward, linear_relu, linear_relu_kept, relu_linear_backward
from gpunn.params import Param

__all__ = ["Linear"]


class Linear(Layer):
    """y = x W + b: every output sees every input. x (N, n_in), W (n_in, n_out), b (n_out,), y (N, n_out).

    `init` draws the weights and `bias_init` the biases, as names or initialisers of `gpunn.init`; `bias=False` leaves b
    out. The gradients are derived in `gpunn.ops.linear`. `relu`, `forward_kept` and `kept` are for Sequential, which
    has a Linear do the work of the ReLUs beside it: with `relu` forward gives max(y, 0). Raises OptionError for a size
    below 1.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        bias: bool = True,
        init: str | Initializer = "he",
        bias_init: str | Initializer = "zeros",
    ) -> None:
        self.W = Param((n_in, n_out), init)
        self.b = Param((n_out,), bias_init, decay=False) if bias else None
        (self.n_in, self.n_out), self.bias = self.W.shape, bias

    def forward(self, x: Array, *, train: bool = False, key: Any = None, relu: bool = False) -> tuple[Array, Array]:
        W = self.W.value
        x = self._check_input(x, W, (self.n_in,))
        return (linear_relu if relu else linear)(x, W, self.b.value if self.b else None), x

    def forward_kept(self, x: Array) -> tuple[Array, Array, Array]:
        """(y, kept, cache), y = max(x W + b, 0); `kept` tells where y > 0, see `ops.linear_relu_kept`."""
        W = self.W.value
        x = self._check_input(x, W, (self.n_in,))
        return *linear_relu_kept(x, W, self.b.value if self.b else None), x

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True, kept: Array | None = None) -> Array | None:
        """dx; with `kept`, from `forward_kept` of the Linear that gave x = max(z, 0), it is dL/dz instead."""
        W, b = self.W, self.b
        out = (None, W.grad_out, b.grad_out if b else None)
        if kept is None:
            dx, dW, db = linear_backward(dy, cache, W.value, need_dx=need_dx, out=out)
        else:
            dx, dW, db = relu_linear_backward(dy, cache, W.value, kept, out=out)
        W.add_grad(dW)
        if b:
            b.add_grad(db)
        return dx

    def output_shape(self, shape: Shape | None) -> Shape:
        if shape is not None and shape != (self.n_in,):
            hint = "; put gn.Flatten() before it" if len(shape) > 1 else ""
            raise ShapeError(f"Linear({self.n_in}, {self.n_out}) cannot take inputs of shape {shape}{hint}")
        return (self.n_out,)
