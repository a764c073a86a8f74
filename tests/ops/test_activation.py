import math

import numpy as np
import pytest

from gpunn import ops
from gpunn.testing import assert_close, slope

LEAKY, ELU = {"alpha": 0.1}, {"alpha": 1.5}


def _selu_constants():
    """alpha and lambda from what they are for (Klambauer et al., 2017): N(0, 1) keeps its mean and its variance.

    With a = E[e^x - 1; x < 0], b = E[(e^x - 1)^2; x < 0] and x ~ N(0, 1): alpha a + E[x; x > 0] = 0, and
    lambda^2 (alpha^2 b + 1/2) = 1.
    """
    tail = [math.exp(s * s / 2) * math.erfc(s / math.sqrt(2)) / 2 for s in (1, 2)]  # E[e^(s x); x < 0]
    a, b = tail[0] - 0.5, tail[1] - 2 * tail[0] + 0.5
    alpha = -1 / math.sqrt(2 * math.pi) / a
    return alpha, 1 / math.sqrt(alpha**2 * b + 0.5)


SELU_ALPHA, SELU_LAMBDA = _selu_constants()

# name: (constants, the plain formula, whether the derivative takes "x" or "y")
FUNCTIONS = {
    "sigmoid": ({}, lambda x: 1 / (1 + np.exp(-x)), "y"),
    "hard_sigmoid": ({}, lambda x: np.clip(x / 6 + 0.5, 0, 1), "y"),
    "tanh": ({}, lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)), "y"),
    "relu": ({}, lambda x: np.where(x > 0, x, 0), "y"),
    "leaky_relu": (LEAKY, lambda x: np.where(x > 0, x, LEAKY["alpha"] * x), "x"),
    "elu": (ELU, lambda x: np.where(x > 0, x, ELU["alpha"] * np.expm1(np.minimum(x, 0))), "y"),
    "selu": (
        {},
        lambda x: SELU_LAMBDA * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
        "y",
    ),
    "gelu": ({}, lambda x: x * (1 + np.tanh(np.sqrt(2 / np.longdouble(np.pi)) * (x + 0.044715 * x**3))) / 2, "x"),
    "silu": ({}, lambda x: x / (1 + np.exp(-x)), "x"),
    "hard_swish": ({}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1), "x"),
    "mish": ({}, lambda x: x * np.tanh(np.log1p(np.exp(x))), "x"),
    "softplus": ({}, lambda x: np.log1p(np.exp(x)), "y"),
    "exponential": ({}, np.exp, "y"),
}
LIMITS = {  # at -1e4 and 1e4, where the formulas above overflow even in long double
    "sigmoid": (0, 1),
    "hard_sigmoid": (0, 1),
    "tanh": (-1, 1),
    "relu": (0, 1e4),
    "leaky_relu": (-1e3, 1e4),
    "elu": (-1.5, 1e4),
    "selu": (-SELU_ALPHA * SELU_LAMBDA, 1e4 * SELU_LAMBDA),
    "gelu": (0, 1e4),
    "silu": (0, 1e4),
    "hard_swish": (0, 1e4),
    "mish": (0, 1e4),
    "softplus": (0, 1e4),
    "exponential": (0, np.exp(87.0)),
}
X = np.array([-80.0, -30.0, -8.5, -2.0, -0.7, -1e-3, 1e-3, 0.4, 1.0, 3.3, 9.0, 30.0, 80.0])


@pytest.fixture(params=FUNCTIONS)
def name(request):
    return request.param


def call(name, x):
    return getattr(ops, name)(x, **FUNCTIONS[name][0])


def call_backward(name, dy, x):
    constants, _, takes = FUNCTIONS[name]
    return getattr(ops, f"{name}_backward")(dy, x if takes == "x" else call(name, x), **constants)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 2e-6)])
def test_the_function_is_the_plain_formula(backend, name, dtype, rtol):
    exact = FUNCTIONS[name][1](X.astype(np.longdouble)).astype(np.float64)
    x = backend.asarray(X, dtype)
    # Sigmoid and its kin are held at e^-87 in both data types; of a tanh near -1 little is left in 1 + tanh.
    atol = 1e-15 if name == "gelu" else 1e-33 if dtype == "float64" else 1e-30
    assert_close(call(name, x), exact, like=x, rtol=rtol, atol=atol)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_very_large_inputs_give_the_limits(backend, name, dtype):
    x = backend.asarray([-1e4, 1e4], dtype)
    assert_close(call(name, x), LIMITS[name], like=x, rtol=1e-6, atol=1e-30)
    assert np.isfinite(backend.device.to_host(call_backward(name, x * 0.0 + 1.0, x))).all()


def test_the_derivative_is_the_slope_of_the_function(backend, name):
    x, dy = backend.asarray(X), backend.asarray(np.linspace(-2, 2, X.size))
    numeric = np.linspace(-2, 2, X.size) * slope(lambda t: backend.device.to_host(call(name, x + t)))
    assert_close(call_backward(name, dy, x), numeric, like=x, rtol=1e-7, atol=1e-10)


def test_float32_derivatives_are_those_of_float64(backend, name):
    wide, narrow = (backend.asarray(X, dtype) for dtype in ("float64", "float32"))
    exact = backend.device.to_host(call_backward(name, wide * 0 + 1, wide))
    assert_close(call_backward(name, narrow * 0 + 1, narrow), exact, like=narrow, rtol=1e-5, atol=1e-6)


def test_inputs_are_left_alone_and_may_be_strided(backend, name):
    host = np.linspace(-3, 3, 24).reshape(4, 6)
    x = backend.asarray(host)
    strided = x[::2, 1::2]
    dy = strided * 0 + 1
    assert_close(call(name, strided), FUNCTIONS[name][1](host[::2, 1::2]), like=x, rtol=1e-12, atol=1e-15)
    dx = call_backward(name, dy, strided)
    assert_close(dx, call_backward(name, np.ones((2, 3)), np.array(host[::2, 1::2])), like=x, atol=1e-15)
    assert_close(x, host, like=x)
    assert_close(dy, np.ones((2, 3)), like=x)


@pytest.mark.parametrize(
    ("kinked", "left", "right"),
    [
        ("relu", 0.0, 1.0),
        ("leaky_relu", LEAKY["alpha"], 1.0),
        ("elu", ELU["alpha"], 1.0),
        ("selu", SELU_ALPHA * SELU_LAMBDA, SELU_LAMBDA),
    ],
)
def test_at_a_kink_the_slope_is_that_of_the_left(backend, kinked, left, right):
    x = backend.asarray([0.0, 2.0])
    assert_close(call_backward(kinked, x * 0 + 3, x), [3 * left, 3 * right], like=x)


def test_nan_comes_through_and_is_not_hidden(backend, name):
    assert np.isnan(backend.device.to_host(call(name, backend.asarray([np.nan])))).all()


def test_at_the_ends_of_their_slope_the_hard_functions_are_flat_or_straight(backend):
    x = backend.asarray([-3.0, 3.0])
    assert_close(call_backward("hard_sigmoid", x * 0 + 2, x), [0.0, 0.0], like=x)
    assert_close(call_backward("hard_swish", x * 0 + 2, x), [0.0, 2.0], like=x)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("hard_sigmoid", "hardsigmoid"), ("hard_swish", "hardswish"), ("mish", "mish"), ("selu", "selu")],
)
def test_values_and_slopes_are_pytorchs(name, theirs):
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, requires_grad=True)
    y = getattr(torch.nn.functional, theirs)(x)
    y.backward(torch.ones_like(y))
    np.testing.assert_allclose(call(name, X), y.detach().numpy(), rtol=1e-13, atol=1e-30)
    np.testing.assert_allclose(
        call_backward(name, np.ones_like(X), X), x.grad.numpy(), rtol=1e-7, atol=1e-14
    )  # its 1/6 is of float32


# --- those that are not elementwise

SLOPES = np.array([0.25, -0.5, 1.5])


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 2, 3)])
def test_prelu_has_a_slope_for_each_channel(backend, shape):
    host, dy = np.random.default_rng(0).standard_normal((2, *shape))
    x, a = backend.asarray(host), backend.asarray(SLOPES)
    assert_close(ops.prelu(x, a), np.where(host > 0, host, SLOPES * host), like=x)
    dx, da = ops.prelu_backward(backend.asarray(dy), x, a)
    assert_close(dx, np.where(host > 0, dy, SLOPES * dy), like=x)
    sums = [sum(d * v for d, v in zip(dy[..., c].flat, host[..., c].flat, strict=True) if v < 0) for c in range(3)]
    assert_close(da, sums, like=x, rtol=1e-12)
    nothing, again = ops.prelu_backward(backend.asarray(dy), x, a, need_dx=False)
    assert nothing is None
    assert_close(again, backend.device.to_host(da), like=x)
    assert_close(x, host, like=x)


def test_prelu_is_pytorchs():
    torch = pytest.importorskip("torch")
    host, dy = np.random.default_rng(1).standard_normal((2, 7, 3))
    x, a = torch.tensor(host, requires_grad=True), torch.tensor(SLOPES, requires_grad=True)
    y = torch.nn.functional.prelu(x, a)
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(ops.prelu(host, SLOPES), y.detach().numpy(), rtol=1e-14)
    dx, da = ops.prelu_backward(dy, host, SLOPES)
    np.testing.assert_allclose(dx, x.grad.numpy(), rtol=1e-14)
    np.testing.assert_allclose(da, a.grad.numpy(), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_prelu_and_maxout_of_very_large_inputs(backend, dtype):
    x, a = backend.asarray([[-1e4, 1e4]], dtype), backend.asarray([0.5, 0.5], dtype)
    assert_close(ops.prelu(x, a), [[-5e3, 1e4]], like=x)
    assert_close(ops.maxout(x, pieces=2), [[1e4]], like=x)


def test_maxout_takes_the_largest_of_neighbours(backend):
    x = backend.asarray([[1.0, 3.0, 2.0, -5.0, -7.0, -6.0], [0.0, 0.0, 0.0, 1.0, 2.0, 2.0]])
    dy = backend.asarray([[10.0, 20.0], [30.0, 40.0]])
    assert_close(ops.maxout(x, pieces=3), [[3.0, -5.0], [0.0, 2.0]], like=x)
    # of several that are the largest, the first
    assert_close(ops.maxout_backward(dy, x, pieces=3), [[0.0, 10.0, 0, 20.0, 0, 0], [30.0, 0, 0, 0, 40.0, 0]], like=x)
    assert_close(ops.maxout(x, pieces=2), [[3.0, 2.0, -6.0], [0.0, 1.0, 2.0]], like=x)


def test_maxout_of_images_goes_along_the_channels(backend):
    host, dy = np.random.default_rng(2).standard_normal((2, 3, 2, 4)), np.arange(24.0).reshape(2, 3, 2, 2)
    x = backend.asarray(host)
    assert_close(ops.maxout(x, pieces=2), np.maximum(host[..., ::2], host[..., 1::2]), like=x)
    dx = np.stack([dy * (host[..., ::2] >= host[..., 1::2]), dy * (host[..., ::2] < host[..., 1::2])], axis=-1)
    assert_close(ops.maxout_backward(backend.asarray(dy), x, pieces=2), dx.reshape(host.shape), like=x)
