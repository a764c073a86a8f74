"""Activation functions as layers, and the names they go by.

PReLU, which learns, and Maxout, which changes the shape, have no name: they are put among the layers as any other.
"""

from collections.abc import Callable
from typing import Any

from gpunn import ops
from gpunn.checks import instance, nearest, number, shown, whole
from gpunn.device import Array
from gpunn.errors import OptionError, ShapeError
from gpunn.init import Constant
from gpunn.layers.base import Layer, Shape
from gpunn.params import Param

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "Exponential",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyReLU",
    "Maxout",
    "Mish",
    "PReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "activation",
]


class Activation(Layer):
    """The base of the activation layers: a function of each number (or row), and its derivative.

    `keeps` says whether the derivative takes the input "x" or the output "y": that one array is the cache.
    """

    f: Callable[..., Array]
    f_backward: Callable[..., Array]
    keeps = "y"
    constants: dict[str, float] = {}  # noqa: RUF012  shared because it is never changed

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, Array]:
        y = self.f(x, **self.constants)
        return y, (y if self.keeps == "y" else x)

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        return self.f_backward(dy, cache, **self.constants)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return shape


class Identity(Layer):
    """y = x, the output that goes with losses on real numbers: MeanSquaredError, MeanAbsoluteError, Huber."""

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, None]:
        return x, None

    def backward(self, dy: Array, cache: None, *, need_dx: bool = True) -> Array | None:
        return dy

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return shape


class Sigmoid(Activation):
    """y = 1 / (1 + e^-x): between 0 and 1. As an output it goes with SigmoidCrossEntropy and Quadratic."""

    f = staticmethod(ops.sigmoid)
    f_backward = staticmethod(ops.sigmoid_backward)


class Tanh(Activation):
    """y = tanh x: between -1 and 1."""

    f = staticmethod(ops.tanh)
    f_backward = staticmethod(ops.tanh_backward)


class ReLU(Activation):
    """y = max(x, 0), the rectified linear unit."""

    f = staticmethod(ops.relu)
    f_backward = staticmethod(ops.relu_backward)


class LeakyReLU(Activation):
    """y = x where x > 0, else alpha x: a ReLU that never stops learning. 0 <= alpha <= 1, otherwise OptionError."""

    f = staticmethod(ops.leaky_relu)
    f_backward = staticmethod(ops.leaky_relu_backward)
    keeps = "x"

    def __init__(self, alpha: float = 0.01) -> None:
        self.alpha = number("LeakyReLU: alpha", alpha, at_least=0.0, at_most=1.0)
        self.constants = {"alpha": self.alpha}


class ELU(Activation):
    """y = x where x > 0, else alpha (e^x - 1): the exponential linear unit. alpha > 0, otherwise OptionError."""

    f = staticmethod(ops.elu)
    f_backward = staticmethod(ops.elu_backward)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number("ELU: alpha", alpha, above=0.0)
        self.constants = {"alpha": self.alpha}


class GELU(Activation):
    """y = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2: the Gaussian error linear unit, as in GPT-2."""

    f = staticmethod(ops.gelu)
    f_backward = staticmethod(ops.gelu_backward)
    keeps = "x"


class SiLU(Activation):
    """y = x sigmoid(x), also called swish."""

    f = staticmethod(ops.silu)
    f_backward = staticmethod(ops.silu_backward)
    keeps = "x"


class Softplus(Activation):
    """y = log(1 + e^x), a smooth ReLU."""

    f = staticmethod(ops.softplus)
    f_backward = staticmethod(ops.softplus_backward)


class SELU(Activation):
    """y = lambda x where x > 0, else lambda alpha (e^x - 1): an ELU that keeps mean 0 and variance 1 by itself.

    It does so for weights drawn with init="lecun" and standardised inputs; with dropout or other weights it does not.
    """

    f = staticmethod(ops.selu)
    f_backward = staticmethod(ops.selu_backward)


class HardSigmoid(Activation):
    """y = max(0, min(x/6 + 1/2, 1)): a sigmoid without an exponential."""

    f = staticmethod(ops.hard_sigmoid)
    f_backward = staticmethod(ops.hard_sigmoid_backward)


class HardSwish(Activation):
    """y = x max(0, min(x/6 + 1/2, 1)): a SiLU without an exponential, as in MobileNetV3."""

    f = staticmethod(ops.hard_swish)
    f_backward = staticmethod(ops.hard_swish_backward)
    keeps = "x"


class Mish(Activation):
    """y = x tanh(log(1 + e^x)): smooth, and a little below 0 where x < 0, much like SiLU."""

    f = staticmethod(ops.mish)
    f_backward = staticmethod(ops.mish_backward)
    keeps = "x"


class Exponential(Activation):
    """y = e^x, at most e^87: above 0. As an output it goes with PoissonLoss, and y is the expected count."""

    f = staticmethod(ops.exponential)
    f_backward = staticmethod(ops.exponential_backward)


class PReLU(Layer):
    """y = x where x > 0, else a x, with a learned slope a for each of n channels, the last axis of x (N, ..., n).

    All slopes start as `alpha`; weight decay spares them, since it would pull them to those of a ReLU (He, Zhang, Ren
    and Sun, "Delving deep into rectifiers", 2015). Raises OptionError for n below 1.
    """

    def __init__(self, n: int, alpha: float = 0.25) -> None:
        self.n = whole("PReLU: n", n, at_least=1)
        self.alpha = number("PReLU: alpha", alpha)
        self.a = Param((self.n,), Constant(alpha), decay=False)

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, Array]:
        x = self._check_input(x, self.a.value, (*(None,) * (len(x.shape) - 2), self.n))
        return ops.prelu(x, self.a.value), x

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        dx, da = ops.prelu_backward(dy, cache, self.a.value, need_dx=need_dx)
        self.a.add_grad(da)
        return dx

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is not None and (not shape or shape[-1] != self.n):
            raise ShapeError(f"PReLU of {self.n} channels cannot take inputs of shape {shape}")
        return shape


class Maxout(Layer):
    """The largest of each `pieces` neighbouring features: (N, ..., D) becomes (N, ..., D / pieces).

    After Linear(n_in, pieces * n) each of n outputs is the maximum of `pieces` straight functions of the input: an
    activation function that is learned (Goodfellow et al., 2013). The gradient goes to the largest, in a tie to the
    first. Raises OptionError for fewer than 2 pieces, ShapeError where they do not divide D.
    """

    def __init__(self, pieces: int) -> None:
        self.pieces = whole("Maxout: pieces", pieces, at_least=2)

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, Array]:
        self.output_shape(tuple(x.shape[1:]))
        return ops.maxout(x, pieces=self.pieces), x

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        return ops.maxout_backward(dy, cache, pieces=self.pieces) if need_dx else None

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        if not shape or shape[-1] % self.pieces:
            raise ShapeError(
                f"Maxout({self.pieces}) cannot take inputs of shape {shape}: the last size must be a multiple of "
                f"{self.pieces}"
            )
        return (*shape[:-1], shape[-1] // self.pieces)


class Softmax(Activation):
    """y_c = e^x_c / sum_k e^x_k along the last axis: probabilities. As an output it goes with SoftmaxCrossEntropy."""

    f = staticmethod(ops.softmax)
    f_backward = staticmethod(ops.softmax_backward)


_BY_NAME: dict[str, type[Layer]] = {
    "identity": Identity,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "selu": SELU,
    "gelu": GELU,
    "silu": SiLU,
    "mish": Mish,
    "hard_sigmoid": HardSigmoid,
    "hard_swish": HardSwish,
    "softplus": Softplus,
    "exponential": Exponential,
    "softmax": Softmax,
}


def activation(which: str | Layer | type[Layer]) -> Layer:
    """The activation layer of that name, a new one of that class, or `which` itself where it is a layer.

    Raises OptionError for an unknown name, and for a layer with parameters, which is no activation.
    """
    if isinstance(which, str) and which in _BY_NAME:
        which = _BY_NAME[which]
    elif not isinstance(which, Layer | type):
        raise OptionError(
            f"activation {shown(which)} is not known; expected one of {', '.join(_BY_NAME)}{nearest(which, _BY_NAME)}"
        )
    layer = instance("an activation", which, Layer)
    if layer.params():
        raise OptionError(f"{layer!r} has parameters: it is a layer to be put among the others, not an activation")
    return layer
