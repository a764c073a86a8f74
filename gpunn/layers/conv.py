"""The convolutional layer."""

from typing import Any

from gpunn.checks import pair
from gpunn.device import Array
from gpunn.errors import OptionError, ShapeError
from gpunn.init import Initializer
from gpunn.layers.base import Layer, Shape
from gpunn.ops import conv2d, conv2d_backward, conv2d_relu
from gpunn.ops.conv import output_size
from gpunn.params import Param

__all__ = ["Conv2d"]


class Conv2d(Layer):
    """A window that moves over the image, with the same weights everywhere: `n_out` features of `n_in` channels.

    x (N, H, W, n_in), W (U, V, n_in, n_out) with kernel = (U, V), b (n_out,), y (N, P, Q, n_out) with
    P = floor((H + 2 padding - U) / stride) + 1, and Q likewise. `kernel`, `stride` and `padding` are numbers, or pairs
    for (rows, columns); padding="same" keeps the size of the image (stride 1, odd kernel). Equations in
    `gpunn.ops.conv`. With `relu` forward gives max(y, 0), which is how Sequential has it do the work of the ReLU that
    comes next. Raises OptionError for sizes out of range, ShapeError for an image smaller than the kernel.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        bias: bool = True,
        init: str | Initializer = "he",
        bias_init: str | Initializer = "zeros",
    ) -> None:
        self.kernel = pair("Conv2d: kernel", kernel, at_least=1)
        self.stride = pair("Conv2d: stride", stride, at_least=1)
        if padding == "same":
            if self.stride != (1, 1) or not all(size % 2 for size in self.kernel):
                raise OptionError(
                    f'Conv2d: padding="same" needs stride 1 and an odd kernel, got {self.stride} and {self.kernel}'
                )
            padding = self.kernel[0] // 2, self.kernel[1] // 2
        if isinstance(padding, str):
            raise OptionError(f"Conv2d: padding must be 'same', a whole number or two of them, got {padding!r}")
        self.padding = pair("Conv2d: padding", padding)
        self.W = Param((*self.kernel, n_in, n_out), init)
        self.b = Param((n_out,), bias_init, decay=False) if bias else None
        (self.n_in, self.n_out), self.bias = self.W.shape[2:], bias

    def forward(self, x: Array, *, train: bool = False, key: Any = None, relu: bool = False) -> tuple[Array, Array]:
        W = self.W.value
        x = self._check_input(x, W, (None, None, self.n_in))
        self.output_shape(tuple(x.shape[1:]))
        f = conv2d_relu if relu else conv2d
        return f(x, W, self.b.value if self.b else None, stride=self.stride, padding=self.padding), x

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        dx, dW, db = conv2d_backward(dy, cache, self.W.value, stride=self.stride, padding=self.padding, need_dx=need_dx)
        self.W.add_grad(dW)
        if self.b:
            self.b.add_grad(db)
        return dx

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        if len(shape) != 3 or shape[2] != self.n_in:
            raise ShapeError(
                f"Conv2d expects images of shape (height, width, {self.n_in}), got {shape}; "
                "gn.Reshape((height, width, channels)) makes images of rows"
            )
        size = output_size(shape[:2], self.kernel, self.stride, self.padding)
        if min(size) < 1:
            raise ShapeError(
                f"Conv2d: a kernel of {self.kernel} does not fit on images of {shape[:2]} with padding {self.padding}: "
                "use a smaller kernel or more padding"
            )
        return (*size, self.n_out)
