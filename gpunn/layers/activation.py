"""Activation functions as layers, and the names they go by."""

from collections.abc import Callable
from typing import Any

from gpunn import ops
from gpunn.checks import instance, number
from gpunn.device import Array
from gpunn.errors import OptionError
from gpunn.layers.base import Layer, Shape

__all__ = [
    "ELU",
    "GELU",
    "Activation",
    "Identity",
    "LeakyReLU",
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
    "gelu": GELU,
    "silu": SiLU,
    "softplus": Softplus,
    "softmax": Softmax,
}


def activation(which: str | Layer | type[Layer]) -> Layer:
    """The activation layer of that name, a new one of that class, or `which` itself where it is a layer.

    Raises OptionError for an unknown name, and for a layer with parameters, which is no activation.
    """
    if isinstance(which, str) and which in _BY_NAME:
        which = _BY_NAME[which]
    elif not isinstance(which, Layer | type):
        raise OptionError(f"activation {which!r} is not known; expected one of {', '.join(_BY_NAME)}")
    layer = instance("an activation", which, Layer)
    if layer.params():
        raise OptionError(f"{layer!r} has parameters: it is a layer to be put among the others, not an activation")
    return layer
