"""Networks as files: the layers and the weights, enough to predict with."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpunn import layers
from gpunn.device import Device
from gpunn.errors import FileError, GpunnError
from gpunn.io.tensors import read_tensors, write_tensors
from gpunn.layers import Layer

__all__ = ["load", "save"]

_KNOWN = {name: kind for name in layers.__all__ if isinstance(kind := getattr(layers, name), type)}


def save(path: str | Path, net: Layer) -> None:
    """Write a network, its layers and its weights, to a safetensors file, whole or not at all. Raises FileError.

    `net.about`, a dict of what else there is to say (in JSON's types), is kept with it.
    """
    about = {"dtype": net.store.dtype, "layers": describe(net), "about": dict(net.about)}
    write_tensors(path, "network", net.state_dict(), about)


def load(path: str | Path, *, device: str | Device | None = "cpu", custom: Iterable[type[Layer]] = ()) -> Layer:
    """The network that `save` wrote, on a device. `custom` names classes of your own that it is made of.

    Nothing in the file is run: it names classes of gpunn and their arguments. Raises FileError for a damaged file.
    """
    tensors, about = read_tensors(path, "network")
    try:
        net = build(about["layers"], _KNOWN | {kind.__name__: kind for kind in custom})
        net.init(device=device, dtype=about["dtype"])
        net.load_state_dict(tensors)
        net.about = dict(about["about"])
    except (GpunnError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{path}: does not describe a network: {error}") from error
    return net


def describe(layer: Any) -> Any:
    """A layer as JSON: {"type": "Linear", "n_in": 784, ...}, layers within layers likewise."""
    if isinstance(layer, Layer):
        return {"type": type(layer).__name__} | {name: describe(value) for name, value in layer.config().items()}
    if isinstance(layer, list | tuple):
        return [describe(item) for item in layer]
    return layer.item() if hasattr(layer, "item") else layer


def build(described: Any, known: dict[str, type[Layer]]) -> Any:
    """The layer that `describe` described."""
    if isinstance(described, list):
        return [build(item, known) for item in described]
    if not isinstance(described, dict):
        return described
    arguments = {name: build(value, known) for name, value in described.items()}
    name = arguments.pop("type")
    if name not in known:
        raise FileError(f"the layer {name!r} is not one of gpunn's; name its class in gn.load(path, custom=[...])")
    kind = known[name]
    return kind(*arguments.pop("layers", ()), **arguments) if issubclass(kind, layers.Sequential) else kind(**arguments)
