"""Networks as files: the layers and the weights, enough to predict with."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpunn import layers
from gpunn.device import Device
from gpunn.device import device as find_device
from gpunn.errors import FileError, OptionError
from gpunn.io.tensors import read_tensors, write_tensors
from gpunn.layers import Layer

__all__ = ["KNOWN", "load", "model_file", "save"]

# the layers of gpunn, by name
KNOWN = {name: kind for name in layers.__all__ if isinstance(kind := getattr(layers, name), type)}


def save(path: str | Path, net: Layer) -> None:
    """Write a network, its layers and its weights, to a safetensors file, whole or not at all. Raises FileError.

    `net.about`, a dict of what else there is to say (in JSON's types), is kept with it.
    """
    if not isinstance(net, Layer):
        raise OptionError(f"save takes a path and a network, save(path, net); got {type(net).__name__} as the network")
    about = {"dtype": net.store.dtype, "layers": describe(net), "about": dict(net.about)}
    write_tensors(path, "network", net.state_dict(), about)


def load(path: str | Path, *, device: str | Device | None = "cpu", custom: Iterable[type[Layer]] = ()) -> Layer:
    """The network that `save` wrote, on a device. `custom` names classes of your own that it is made of.

    Nothing in the file is run: it names classes of gpunn and their arguments. Raises FileError for a damaged file.
    """
    where = find_device(device)
    known = KNOWN | {kind.__name__: kind for kind in custom}
    tensors, about = read_tensors(path, "network")
    try:
        net = build(about["layers"], known)
        if not isinstance(net, Layer):
            raise FileError(f"expected a layer, found {about['layers']!r:.60}")
        _check_shapes(net, tensors)
        net.init(device=where, dtype=about["dtype"])
        net.load_state_dict(tensors)
        net.about = dict(about["about"])
    except Exception as error:  # whatever a constructor makes of arguments that nobody would write
        raise FileError(f"{path}: does not describe a network: {error}") from error
    return net


def model_file(run: str | Path) -> Path:
    """The file with the network of a run folder; of what is no folder, itself. Raises FileError where there is none."""
    path = Path(run)
    if not path.is_dir():
        return path
    if not (path / "model.safetensors").is_file():
        stopped = (path / "checkpoint.safetensors").is_file()  # before its end, by a crash, say
        mend = f"; gpunn train --resume {shlex.quote(str(run))} goes on to it" if stopped else ""
        raise FileError(f"{run}: there is no network in this folder: it has no model.safetensors{mend}")
    return path / "model.safetensors"


def _check_shapes(net: Layer, tensors: Mapping[str, np.ndarray]) -> None:
    """Raise FileError unless the layers need just these arrays: before room is made for what a damaged file asks."""
    shapes = {name: tuple(param.shape) for name, param in net.params().items()}
    shapes |= {name: buffer.initial.shape for name, buffer in net.buffers().items()}
    for name in [*shapes, *tensors]:
        expected, found = shapes.get(name), tensors[name].shape if name in tensors else None
        if expected != found:
            raise FileError(f"the layers expect {name!r} of shape {expected}, the file has {found}")


def describe(layer: Any, seen: dict[int, int] | None = None) -> Any:
    """A layer as JSON: {"type": "Linear", "n_in": 784, ...}, layers within layers likewise.

    A layer that occurs again is {"same": number}, counted in the order in which `build` makes them.
    """
    seen = {} if seen is None else seen
    if isinstance(layer, Layer):
        if id(layer) in seen:
            return {"same": seen[id(layer)]}
        described = {"type": type(layer).__name__} | describe(layer.config(), seen)
        seen[id(layer)] = len(seen)
        return described
    if isinstance(layer, Mapping):
        return {name: describe(value, seen) for name, value in layer.items()}
    if isinstance(layer, list | tuple):
        return [describe(item, seen) for item in layer]
    return layer.tolist() if hasattr(layer, "tolist") else layer


def build(described: Any, known: dict[str, type[Layer]], made: list[Layer] | None = None) -> Any:
    """The layer that `describe` described."""
    made = [] if made is None else made
    if isinstance(described, list):
        return [build(item, known, made) for item in described]
    if not isinstance(described, dict):
        return described
    if "same" in described:
        return made[described["same"]]
    arguments = {name: build(value, known, made) for name, value in described.items()}
    if "type" not in arguments:
        return arguments
    name = arguments.pop("type")
    if name not in known:
        raise FileError(f"the layer {name!r} is not one of gpunn's; name its class in gn.load(path, custom=[...])")
    kind = known[name]
    layer = (
        kind(*arguments.pop("layers", ()), **arguments) if issubclass(kind, layers.Sequential) else kind(**arguments)
    )
    made.append(layer)
    return layer
