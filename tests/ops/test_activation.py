import numpy as np
import pytest

from gpunn import ops
from gpunn.testing import assert_close, slope

LEAKY, ELU = {"alpha": 0.1}, {"alpha": 1.5}

# name: (constants, the plain formula, whether the derivative takes "x" or "y")
FUNCTIONS = {
    "sigmoid": ({}, lambda x: 1 / (1 + np.exp(-x)), "y"),
    "tanh": ({}, lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)), "y"),
    "relu": ({}, lambda x: np.where(x > 0, x, 0), "y"),
    "leaky_relu": (LEAKY, lambda x: np.where(x > 0, x, LEAKY["alpha"] * x), "x"),
    "elu": (ELU, lambda x: np.where(x > 0, x, ELU["alpha"] * np.expm1(np.minimum(x, 0))), "y"),
    "gelu": ({}, lambda x: x * (1 + np.tanh(np.sqrt(2 / np.longdouble(np.pi)) * (x + 0.044715 * x**3))) / 2, "x"),
    "silu": ({}, lambda x: x / (1 + np.exp(-x)), "x"),
    "softplus": ({}, lambda x: np.log1p(np.exp(x)), "y"),
}
LIMITS = {  # at -1e4 and 1e4, where the formulas above overflow even in long double
    "sigmoid": (0, 1),
    "tanh": (-1, 1),
    "relu": (0, 1e4),
    "leaky_relu": (-1e3, 1e4),
    "elu": (-1.5, 1e4),
    "gelu": (0, 1e4),
    "silu": (0, 1e4),
    "softplus": (0, 1e4),
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
    # 1e-33: sigmoid and its kin are held at e^-87 in both data types
    assert_close(call(name, x), exact, like=x, rtol=rtol, atol=1e-33 if dtype == "float64" else 1e-30)


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


@pytest.mark.parametrize(("kinked", "left"), [("relu", 0.0), ("leaky_relu", LEAKY["alpha"]), ("elu", ELU["alpha"])])
def test_at_a_kink_the_slope_is_that_of_the_left(backend, kinked, left):
    x = backend.asarray([0.0, 2.0])
    assert_close(call_backward(kinked, x * 0 + 3, x), [3 * left, 3.0], like=x)


def test_nan_comes_through_and_is_not_hidden(backend, name):
    assert np.isnan(backend.device.to_host(call(name, backend.asarray([np.nan])))).all()
