"""Activation functions, each with its derivative right below it.

All but `maxout` are elementwise: any shape in, the same shape out.

A backward pass takes dy = dL/dy and returns dx = dL/dx = dy * f'(x). Where f' can be written with y = f(x) it is,
because y is at hand and needs no second exponential: those take y. The others take x.

e^x is only taken of x up to 87: e^87 and e^-87 are both ordinary numbers in float32, so nothing overflows. Below -87 a
sigmoid is held at e^-87 = 1.6e-38, which is 0 for every purpose.
"""

import math

from gpunn.device import Array, namespace
from gpunn.ops._op import op

__all__ = [
    "elu",
    "elu_backward",
    "exponential",
    "exponential_backward",
    "gelu",
    "gelu_backward",
    "hard_sigmoid",
    "hard_sigmoid_backward",
    "hard_swish",
    "hard_swish_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "maxout",
    "maxout_backward",
    "mish",
    "mish_backward",
    "prelu",
    "prelu_backward",
    "relu",
    "relu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]


@op
def sigmoid(x: Array) -> Array:
    """y = 1 / (1 + e^-x), between 0 and 1 (Nielsen, chapter 1, equation 3)."""
    xp = namespace(x)
    y = xp.exp(xp.minimum(-x, 87.0))
    y += 1.0
    return 1.0 / y


@op
def sigmoid_backward(dy: Array, y: Array) -> Array:
    """dx = dy * y (1 - y): from the output."""
    dx = 1.0 - y
    dx *= y
    dx *= dy
    return dx


@op
def hard_sigmoid(x: Array) -> Array:
    """y = max(0, min(x/6 + 1/2, 1)): the sigmoid in three straight pieces, with the slope that PyTorch gives it.

    The idea is Courbariaux, Bengio and David's (2015), with slope 1/2; 1/6 is that of Howard et al. (2019).
    """
    xp = namespace(x)
    return xp.maximum(xp.minimum(x * (1.0 / 6.0) + 0.5, 1.0), 0.0)


@op
def hard_sigmoid_backward(dy: Array, y: Array) -> Array:
    """dx = dy / 6 where 0 < y < 1, else 0: from the output."""
    dx = namespace(y).astype((y > 0.0) & (y < 1.0), y.dtype)
    dx *= 1.0 / 6.0
    dx *= dy
    return dx


@op
def tanh(x: Array) -> Array:
    """y = tanh x = (e^x - e^-x) / (e^x + e^-x), between -1 and 1."""
    return namespace(x).tanh(x)


@op
def tanh_backward(dy: Array, y: Array) -> Array:
    """dx = dy * (1 - y^2): from the output."""
    dx = 1.0 - y * y
    dx *= dy
    return dx


@op
def relu(x: Array) -> Array:
    """y = max(x, 0) (Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010)."""
    return namespace(x).maximum(x, 0.0)


@op
def relu_backward(dy: Array, y: Array) -> Array:
    """dx = dy where y > 0, else 0: from the output. At the kink the derivative is taken as 0."""
    return dy * namespace(y).astype(y > 0.0, y.dtype)


@op
def leaky_relu(x: Array, *, alpha: float) -> Array:
    """y = x where x > 0, else alpha x, for 0 <= alpha <= 1 (Maas, Hannun and Ng, 2013)."""
    return namespace(x).maximum(x, alpha * x)


@op
def leaky_relu_backward(dy: Array, x: Array, *, alpha: float) -> Array:
    """dx = dy where x > 0, else alpha dy."""
    slope = namespace(x).astype(x > 0.0, x.dtype)  # 1 or 0
    slope *= 1.0 - alpha
    slope += alpha  # 1 or alpha
    slope *= dy
    return slope


@op
def prelu(x: Array, a: Array) -> Array:
    """y = x where x > 0, else a x, with a slope a (C,) for each channel, the last axis of x (He et al., 2015)."""
    xp = namespace(x)
    y = xp.minimum(x, 0.0)
    y *= a
    y += xp.maximum(x, 0.0)
    return y


@op
def prelu_backward(dy: Array, x: Array, a: Array, *, need_dx: bool = True) -> tuple[Array | None, Array]:
    """(dx, da): dx = dy where x > 0, else a dy; da_c = sum of dy min(x, 0) over all axes but the last."""
    xp = namespace(x)
    da = xp.sum(xp.reshape(dy * xp.minimum(x, 0.0), (-1, a.shape[0])), axis=0)
    if not need_dx:
        return None, da
    right = xp.astype(x > 0.0, x.dtype)  # 1 or 0
    slope = (1.0 - right) * a
    slope += right  # 1 or a
    slope *= dy
    return slope, da


@op
def elu(x: Array, *, alpha: float) -> Array:
    """y = x where x > 0, else alpha (e^x - 1) (Clevert, Unterthiner and Hochreiter, 2016)."""
    xp = namespace(x)
    y = xp.expm1(xp.minimum(x, 0.0))
    y *= alpha
    y += xp.maximum(x, 0.0)
    return y


@op
def elu_backward(dy: Array, y: Array, *, alpha: float) -> Array:
    """dx = dy where y > 0, else dy (y + alpha): from the output, since alpha e^x = y + alpha."""
    xp = namespace(y)
    slope = xp.astype(y > 0.0, y.dtype)  # 1 or 0
    slope *= 1.0 - alpha
    slope += alpha  # 1 or alpha
    slope += xp.minimum(y, 0.0)  # 1 or alpha + y
    slope *= dy
    return slope


# The fixed point of Klambauer et al., equation 14: numbers of mean 0 and variance 1 stay so through layer upon layer.
_SELU_ALPHA, _SELU_LAMBDA = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@op
def selu(x: Array) -> Array:
    """y = lambda x where x > 0, else lambda alpha (e^x - 1), lambda = 1.0507..., alpha = 1.6733...

    (Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks", 2017.)
    """
    y = elu(x, alpha=_SELU_ALPHA)
    y *= _SELU_LAMBDA
    return y


@op
def selu_backward(dy: Array, y: Array) -> Array:
    """dx = lambda dy where y > 0, else dy (y + lambda alpha): from the output, as for `elu`."""
    xp = namespace(y)
    slope = xp.astype(y > 0.0, y.dtype)  # 1 or 0
    slope *= _SELU_LAMBDA - _SELU_LAMBDA * _SELU_ALPHA
    slope += _SELU_LAMBDA * _SELU_ALPHA  # lambda or lambda alpha
    slope += xp.minimum(y, 0.0)
    slope *= dy
    return slope


@op
def softplus(x: Array) -> Array:
    """y = log(1 + e^x), a smooth max(x, 0) (Dugas et al., 2001), as max(x, 0) + log(1 + e^-|x|)."""
    xp = namespace(x)
    y = xp.log1p(xp.exp(-xp.abs(x)))
    y += xp.maximum(x, 0.0)
    return y


@op
def softplus_backward(dy: Array, y: Array) -> Array:
    """dx = dy * (1 - e^-y): from the output, since the derivative is sigmoid(x) = e^x / (1 + e^x) and 1 + e^x = e^y."""
    return dy * -namespace(y).expm1(-y)


@op
def silu(x: Array) -> Array:
    """y = x sigmoid(x), also called swish (Elfwing, Uchibe and Doya, 2018)."""
    return x * sigmoid(x)


@op
def silu_backward(dy: Array, x: Array) -> Array:
    """dx = dy * (s + x s (1 - s)), where s = sigmoid(x)."""
    s = sigmoid(x)
    dx = 1.0 - s
    dx *= x
    dx += 1.0
    dx *= s  # s (1 + x (1 - s))
    dx *= dy
    return dx


@op
def hard_swish(x: Array) -> Array:
    """y = x hard_sigmoid(x) = x max(0, min(x/6 + 1/2, 1)): SiLU without an exponential (Howard et al., 2019)."""
    y = hard_sigmoid(x)
    y *= x
    return y


@op
def hard_swish_backward(dy: Array, x: Array) -> Array:
    """dx = dy * (h + x h'), where h = hard_sigmoid(x), h' = 1/6 where 0 < h < 1, else 0."""
    h = hard_sigmoid(x)
    dx = hard_sigmoid_backward(x, h)  # x h'
    dx += h
    dx *= dy
    return dx


@op
def mish(x: Array) -> Array:
    """y = x tanh(softplus(x)) = x tanh(log(1 + e^x)) (Misra, 2019)."""
    y = namespace(x).tanh(softplus(x))
    y *= x
    return y


@op
def mish_backward(dy: Array, x: Array) -> Array:
    """dx = dy * (t + x (1 - t^2) sigmoid(x)), where t = tanh(softplus(x)), since softplus' = sigmoid."""
    t = namespace(x).tanh(softplus(x))
    dx = 1.0 - t * t
    dx *= sigmoid(x)
    dx *= x
    dx += t
    dx *= dy
    return dx


@op
def exponential(x: Array) -> Array:
    """y = e^x, held at e^87 from x = 87 on."""
    xp = namespace(x)
    return xp.exp(xp.minimum(x, 87.0))


@op
def exponential_backward(dy: Array, y: Array) -> Array:
    """dx = dy * y: from the output."""
    return dy * y


_A, _B = math.sqrt(2.0 / math.pi), 0.044715


@op
def gelu(x: Array) -> Array:
    """y = x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3) (Hendrycks and Gimpel, 2016; as in GPT-2).

    This is their tanh form of x Phi(x), Phi the normal distribution; it differs from it by at most 5e-4.
    """
    y = namespace(x).tanh(_A * (x + _B * (x * x * x)))
    y += 1.0
    y *= x
    y *= 0.5
    return y


@op
def gelu_backward(dy: Array, x: Array) -> Array:
    """dx = dy * ((1 + t) + x (1 - t^2) u') / 2, where t = tanh u and u' = sqrt(2/pi) (1 + 3 * 0.044715 x^2)."""
    x2 = x * x
    t = namespace(x).tanh(_A * (x + _B * (x2 * x)))
    dx = 1.0 - t * t
    dx *= _A * (1.0 + (3.0 * _B) * x2)
    dx *= x
    dx += 1.0 + t
    dx *= 0.5
    dx *= dy
    return dx


@op
def maxout(x: Array, *, pieces: int) -> Array:
    """y_d = max_k x_(d pieces + k): the largest of each `pieces` neighbours along the last axis.

    (..., D) becomes (..., D / pieces). After a linear layer it can be any convex function of that many straight pieces
    (Goodfellow, Warde-Farley, Mirza, Courville and Bengio, "Maxout networks", 2013).
    """
    xp = namespace(x)
    return xp.max(xp.reshape(x, (*x.shape[:-1], x.shape[-1] // pieces, pieces)), axis=-1)


@op
def maxout_backward(dy: Array, x: Array, *, pieces: int) -> Array:
    """dx = dy for the number that was the largest of its group, 0 for the others; in a tie the first counts."""
    xp = namespace(x)
    first = xp.argmax(xp.reshape(x, (*x.shape[:-1], x.shape[-1] // pieces, pieces)), axis=-1)  # (..., D / pieces)
    places = xp.arange(pieces, dtype=first.dtype, device=x.device)
    chosen = xp.astype(first[..., None] == places, x.dtype)  # (..., D / pieces, pieces)
    chosen *= dy[..., None]
    return xp.reshape(chosen, x.shape)
