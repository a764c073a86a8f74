"""Checking gradients, and the list of backends to check them on: for gpunn's own tests and for layers you write."""

import contextlib
import copy
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn import layers, losses
from gpunn.checks import instance
from gpunn.device import Array, Device, device, device_of, namespace, probe_cuda, to_host
from gpunn.errors import NotInitialised, ShapeError
from gpunn.layers import Layer
from gpunn.losses import Loss
from gpunn.rng import generator

__all__ = [
    "Backend",
    "assert_close",
    "backends",
    "gradcheck",
    "gradcheck_cases",
    "layer_cases",
    "loss_cases",
    "slope",
]

H = 1e-5  # the step of the differences: small against the curvature, large against float64's rounding


def gradcheck(layer: Layer | Loss, x: Any, y: Any = None, *, train: bool = False, seed: int = 0) -> dict[str, float]:
    """Compare the backward pass of a layer, network or loss with differences of its forward pass, in float64.

    Returns the relative error for the input "x" (for a loss "z", given its targets y) and each parameter by name. Below
    1e-7 the gradient is right; a wrong one gives about the relative size of the mistake, infinity where there is NaN.
    Works on a copy, with the weights it has or else new ones, on the device of x (NumPy for a list). Raises OptionError
    for what is neither a layer nor a loss.

    Each gradient g is tried along a random direction u: <g, u> against the slope of L = <dy, f> for a random dy, so the
    cost is a few forward passes for each parameter, however large. A point where a function has a kink, such as x = 0
    for ReLU, has no gradient to compare with; draw another x, or change the seed.
    """
    where = device_of(x) if hasattr(x, "dtype") else device("cpu")
    xp, x = where.xp, where.asarray(x, "float64")
    rng = generator(seed, "gradcheck")

    def random(shape: Any) -> Array:
        return where.asarray(rng.standard_normal(shape))

    targets: dict[str, tuple[Array, Array]] = {}  # name: (array to vary, its gradient)
    layer = instance("what gradcheck checks", layer, Layer | Loss)
    if isinstance(layer, Loss):
        loss, y = layer, layer.targets(y, x.shape[-1], where, "float64")
        _, cache = loss.forward(x, y)
        targets["z"] = (xp.asarray(x, copy=True), loss.backward(cache))

        def value() -> float:
            return float(loss.forward(targets["z"][0], y)[0])

    else:
        source: Layer = layer
        net = copy.deepcopy(source)
        net.init(seed, device=where, dtype="float64")
        with contextlib.suppress(NotInitialised):  # it may be a part of a network that has its weights
            net.load_state_dict(source.state_dict())
        key = (seed, 0)
        output, cache = net.forward(x, train=train, key=key)
        dy = random(output.shape)
        dx = net.backward(dy, cache)
        targets["x"] = (xp.asarray(x, copy=True), dx)
        targets |= {name: (param.value, param.grad) for name, param in net.params().items()}

        def value() -> float:
            return float(xp.sum(net.forward(targets["x"][0], train=train, key=key)[0] * dy))

    errors = {}
    for name, (array, gradient) in targets.items():
        found = None if gradient is None else tuple(gradient.shape)
        if found != tuple(array.shape):
            raise ShapeError(f"backward gives a gradient of shape {found} for {name}, expected {tuple(array.shape)}")
        u = random(array.shape)
        start = xp.asarray(array, copy=True)

        def along(t: float, array: Array = array, start: Array = start, u: Array = u) -> float:
            array[...] = start + t * u
            return value()

        numeric, exact = slope(along), float(xp.sum(gradient * u))
        array[...] = start
        typical = math.sqrt(float(xp.sum(gradient * gradient)))  # of <g, u>, where that happens to be near 0
        error = abs(numeric - exact) / (max(abs(numeric), abs(exact), typical) or 1.0)
        errors[name] = math.inf if math.isnan(error) else error
    return errors


def slope(f: Callable[[float], float], h: float = H) -> float:
    """f'(0) from four values: (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12h, with an error of order h^4."""
    return (f(-2 * h) - 8 * f(-h) + 8 * f(h) - f(2 * h)) / (12 * h)


@dataclass(frozen=True)
class Backend:
    """An array library on a device, as the tests see it; with `readonly`, inputs that must not be written to."""

    name: str
    device: Device
    readonly: bool = False

    @property
    def xp(self) -> Any:
        """The functions of the array API."""
        return self.device.xp

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """x on this backend."""
        array = self.device.asarray(x, dtype)
        if self.readonly:
            array = np.array(array)
            array.flags.writeable = False
        return array


def backends() -> list[Backend]:
    """Every backend that is present: NumPy, NumPy with read-only inputs, array-api-strict twice, PyTorch, CUDA."""
    found = [Backend("numpy", device("cpu")), Backend("numpy-readonly", device("cpu"), readonly=True)]
    if importlib.util.find_spec("array_api_strict"):
        found += [Backend("strict-cpu", device("strict:cpu")), Backend("strict-device1", device("strict:device1"))]
    if importlib.util.find_spec("torch"):
        found.append(Backend("torch", device("torch:cpu")))
    if probe_cuda(0).available:
        found.append(Backend("cuda", device("cuda")))
    return found


def assert_close(actual: Array, expected: Any, *, like: Array, rtol: float = 1e-12, atol: float = 0.0) -> None:
    """Fail unless `actual` is an array of the library, device and data type of `like`, with the shape and values of
    `expected`.
    """
    assert namespace(actual) is namespace(like), f"{type(actual)} instead of {type(like)}"
    assert actual.device == like.device, f"on {actual.device} instead of {like.device}"
    assert actual.dtype == like.dtype, f"{actual.dtype} instead of {like.dtype}"
    expected = to_host(expected)
    assert tuple(actual.shape) == expected.shape, f"shape {tuple(actual.shape)} instead of {expected.shape}"
    np.testing.assert_allclose(to_host(actual), expected, rtol=rtol, atol=atol)


def layer_cases() -> dict[str, tuple[Callable[[], Layer], tuple[int, ...]]]:
    """Every kind of layer, small: {name: (a function that makes it, the shape of an input for it)}."""
    mean, std = [0.5, -1.0, 2.0, 0.0], [1.0, 2.0, 0.5, 3.0]
    cases: dict[str, tuple[Callable[[], Layer], tuple[int, ...]]] = {
        "Linear": (lambda: layers.Linear(4, 3, bias_init="normal"), (5, 4)),
        "Linear without bias": (lambda: layers.Linear(4, 3, bias=False), (5, 4)),
        "Conv2d": (lambda: layers.Conv2d(2, 3, 3, stride=(2, 1), padding=(1, 0), bias_init="normal"), (2, 6, 5, 2)),
        "Conv2d without bias": (lambda: layers.Conv2d(1, 2, (1, 2), bias=False), (2, 3, 4, 1)),
        "MaxPool2d": (lambda: layers.MaxPool2d(2), (2, 5, 4, 3)),
        "MaxPool2d, overlapping": (lambda: layers.MaxPool2d((3, 2), 1), (2, 5, 4, 3)),
        "AvgPool2d": (lambda: layers.AvgPool2d((2, 3), (2, 1)), (2, 5, 4, 3)),
        "GlobalAvgPool2d": (layers.GlobalAvgPool2d, (2, 5, 4, 3)),
        "Flatten": (layers.Flatten, (5, 2, 3)),
        "Reshape": (lambda: layers.Reshape((2, 3, 1)), (5, 6)),
        "BatchNorm": (lambda: layers.BatchNorm(4), (5, 4)),
        "BatchNorm of images": (lambda: layers.BatchNorm(3), (2, 4, 3, 3)),
        "LayerNorm": (lambda: layers.LayerNorm(4), (5, 4)),
        "RMSNorm": (lambda: layers.RMSNorm(4), (5, 4)),
        "GroupNorm": (lambda: layers.GroupNorm(2, 6), (2, 4, 3, 6)),
        "GaussianNoise": (lambda: layers.GaussianNoise(0.5), (5, 4)),
        "PReLU": (lambda: layers.PReLU(4), (5, 4)),
        "PReLU of images": (lambda: layers.PReLU(3), (2, 4, 3, 3)),
        "Maxout": (lambda: layers.Maxout(2), (5, 4)),
        "Maxout of images": (lambda: layers.Maxout(3), (2, 4, 3, 6)),
        "Dropout": (lambda: layers.Dropout(0.4), (5, 4)),
        "Standardize": (lambda: layers.Standardize(mean, std), (5, 4)),
        "Residual": (lambda: layers.Residual(layers.Linear(4, 4), layers.Tanh()), (5, 4)),
        "Sequential": (lambda: layers.Sequential(layers.Linear(4, 6), layers.Sigmoid(), layers.Linear(6, 2)), (5, 4)),
    }
    for name in (
        *("Identity", "Sigmoid", "HardSigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Mish"),
        *("HardSwish", "Softplus", "Exponential", "Softmax"),
    ):
        cases[name] = (getattr(layers, name), (5, 4))
    return cases


def loss_cases() -> dict[str, tuple[Loss, np.ndarray, np.ndarray]]:
    """Every loss, with each kind of targets it takes: {name: (loss, z (6, 4), targets)}."""
    rng = generator(0, "loss cases")
    z, numbers, labels = rng.standard_normal((6, 4)), rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    shares = rng.dirichlet(np.ones(4), 6)
    return {
        "SoftmaxCrossEntropy": (losses.SoftmaxCrossEntropy(), z, labels),
        "SoftmaxCrossEntropy, probabilities": (losses.SoftmaxCrossEntropy(), z, shares),
        "SoftmaxCrossEntropy, smoothed": (losses.SoftmaxCrossEntropy(label_smoothing=0.1), z, labels),
        "SigmoidCrossEntropy": (losses.SigmoidCrossEntropy(), z, labels),
        "SigmoidCrossEntropy, numbers 0 to 1": (losses.SigmoidCrossEntropy(), z, shares),
        "Quadratic": (losses.Quadratic(), z, labels),
        "MeanSquaredError": (losses.MeanSquaredError(), z, numbers),
        "MeanAbsoluteError": (losses.MeanAbsoluteError(), z, numbers),
        "Huber": (losses.Huber(delta=0.5), z, numbers),
        "FocalLoss": (losses.FocalLoss(), z, labels),
        "FocalLoss, probabilities": (losses.FocalLoss(gamma=0.5), z, shares),
        "KLDivergence": (losses.KLDivergence(), z, shares),
        "Hinge": (losses.Hinge(), z, labels),
        "Hinge, squared": (losses.Hinge(squared=True), z, np.eye(4)[labels]),
        "PoissonLoss": (losses.PoissonLoss(), z, np.floor(8.0 * shares)),
    }


Case = Callable[[Backend], tuple[Any, ...]]


def gradcheck_cases() -> dict[str, Case]:
    """All layers and losses: {name: a function of a backend that gives the arguments for gradcheck}."""
    rng = generator(0, "gradcheck cases")

    def of_layer(make: Callable[[], Layer], x: np.ndarray) -> Case:
        return lambda backend: (make(), backend.asarray(x))

    def of_loss(loss: Loss, z: np.ndarray, y: np.ndarray) -> Case:
        return lambda backend: (loss, backend.asarray(z), backend.asarray(y))

    def weighted(backend: Backend) -> tuple[Any, ...]:
        loss, z, y = loss_cases()["SoftmaxCrossEntropy"]
        return losses.Weighted(loss), backend.asarray(z), (backend.asarray(y), backend.asarray(np.arange(6.0)))

    cases = {name: of_layer(make, rng.standard_normal(shape)) for name, (make, shape) in layer_cases().items()}
    return cases | {name: of_loss(*case) for name, case in loss_cases().items()} | {"Weighted": weighted}
