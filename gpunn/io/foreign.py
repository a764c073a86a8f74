"""What every format of another program asks of a network."""

import importlib
import math
from collections.abc import Callable, Container
from typing import Any

import numpy as np

from gpunn.checks import instance, whole
from gpunn.data.image import image_shape, ink_of
from gpunn.device import to_host
from gpunn.errors import OptionError
from gpunn.layers import (
    Activation,
    BatchNorm,
    Dropout,
    GaussianNoise,
    GroupNorm,
    Identity,
    Layer,
    LayerNorm,
    Linear,
    PReLU,
    Reshape,
    Residual,
    RMSNorm,
    Sequential,
    Sigmoid,
    Softmax,
    Standardize,
)
from gpunn.rng import generator

__all__ = [
    "answer",
    "class_names",
    "difference",
    "gives_probabilities",
    "input_shape",
    "kind_of",
    "library",
    "samples",
    "told_shape",
    "verdict",
    "verified",
]

_KEEP_SHAPE = Activation | BatchNorm | Dropout | GaussianNoise | GroupNorm | Identity | LayerNorm | PReLU | RMSNorm


def library(name: str, install: str) -> Any:
    """The module of that name. Raises OptionError with the command that installs it where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise OptionError(f'this needs {name}, which cannot be imported ({error}): pip install "{install}"') from None


def kind_of(layer: Layer, known: Container[type[Layer]], program: str) -> type[Layer]:
    """The class of a layer, if it is among `known`; of a Sequential of one's own that computes as such, Sequential.

    Raises OptionError that names a layer which a program does not know.
    """
    kind = type(layer)
    for container in (Residual, Sequential):
        own = kind.forward is not container.forward or kind.infer is not container.infer
        if isinstance(layer, container) and not own:
            kind = container
    if kind not in known:
        raise OptionError(
            f"{kind.__name__} cannot be expressed in {program}: export a network without it, or the layers around it"
        )
    return kind


def input_shape(net: Layer, given: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """The shape of one input: `given`, or what the first layers and `net.about` tell.

    Raises OptionError where they do not tell it, ShapeError where it does not fit the network.
    """
    instance("net", net, Layer)
    if given is not None:
        sizes = given if isinstance(given, list | tuple) else (given,)
        shape: tuple[int, ...] | None = tuple(whole("input_shape", size, at_least=1) for size in sizes)
    else:
        shape = told_shape(net)
    if shape is None:
        raise OptionError(
            "the first layers do not tell the shape of the network's input: give input_shape=(height, width, "
            "channels), or --input-shape"
        )
    net.output_shape(shape)
    return shape


def class_names(net: Layer) -> list[Any] | None:
    """The classes that a network tells apart, as `net.about` names them; None if it names none. Raises OptionError."""
    names = net.about.get("classes")
    if names is not None and not isinstance(names, list | tuple):
        raise OptionError(f'net.about: "classes" must be a list of names, got {names!r:.60}')
    return list(names) if names else None


def gives_probabilities(net: Layer) -> bool:
    """Whether the numbers of net(x) are probabilities, as a softmax or sigmoid makes them."""
    last = net.output
    if last is None and isinstance(net, Sequential) and not isinstance(net, Residual) and net.layers:
        last = net.layers[-1]
    return isinstance(last, Softmax | Sigmoid)


def _leaves(net: Layer) -> list[Layer]:
    return [layer for _, layer in net.walk() if not layer.children()]


def told_shape(net: Layer) -> tuple[int, ...] | None:
    """The shape of one input, as the first layers and `net.about` tell it; None where they do not."""
    for layer in _leaves(net):
        if isinstance(layer, Linear):
            return (layer.n_in,)
        if isinstance(layer, Standardize):
            return layer.mean.initial.shape
        if isinstance(layer, Reshape):
            return (math.prod(layer.shape),)
        if not isinstance(layer, _KEEP_SHAPE):
            return image_shape(net.about) if "image_shape" in net.about else None
    return None


def samples(net: Layer, shape: tuple[int, ...], n: int) -> np.ndarray:
    """n random inputs (n, *shape) of the size that the network expects, always the same ones."""
    rng, first = generator(0, "samples"), _leaves(net)[0]
    if "image_shape" in net.about:
        return rng.uniform(0.0, ink_of(net.about)[0], (n, *shape))
    x = rng.standard_normal((n, *shape))
    return x * first.std.initial + first.mean.initial if isinstance(first, Standardize) else x


def answer(net: Layer, x: np.ndarray) -> np.ndarray:
    """net(x) from and to the host."""
    return to_host(net(net.store.device.asarray(x, net.store.dtype)))


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of two arrays; of numbers above 1, as a share of them."""
    if found.shape != expected.shape:
        return math.inf
    return float(np.max(np.abs(found - expected) / np.maximum(1.0, np.abs(expected))))


def verified(name: str, title: str, install: str, compare: Callable[[], float]) -> str:
    """What `compare` finds the largest difference from another program to be, or that this is not installed."""
    try:
        program = library(name, install)
    except OptionError as error:
        return f"not verified: {error}"
    return verdict(f"{title} {program.__version__}", compare())


def verdict(program: str, worst: float) -> str:
    """What to say of the largest difference from the answers of another program."""
    if worst <= 1e-5:
        return f"verified with {program}: largest difference {worst:.1e}"
    return f"WARNING  the answers of {program} differ by up to {worst:.1e}, more than rounding should make of them"
