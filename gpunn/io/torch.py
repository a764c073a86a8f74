"""Weights to and from PyTorch, and a network as PyTorch's own layers.

    model.load_state_dict(to_torch_state_dict(net))         # model: the same layers in torch.nn.Sequential
    from_torch_state_dict(net, model.state_dict())          # and back

Two things differ. Weights of a Linear are (n_in, n_out) here and (n_out, n_in) there, those of a Conv2d (U, V, C, M)
here and (M, C, U, V) there. And images are (N, height, width, channels) here and (N, channels, height, width) there: so
after a Flatten the features come in another order, and the weights that meet them are put in that order.

Keys are those of a torch.nn.Sequential with one module for each layer, counted from 0: "0.weight", "0.bias",
"2.weight" ...; layers within a layer have theirs after its number, "3.0.weight". `torch_code` writes that Sequential.
"""

import functools
import io
import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpunn import layers
from gpunn.checks import instance
from gpunn.device import device, to_host
from gpunn.errors import FileError, OptionError, ShapeError
from gpunn.io.atomic import write_atomic
from gpunn.io.foreign import answer, difference, input_shape, kind_of, library, samples, verified
from gpunn.layers import Layer
from gpunn.params import Buffer, Param

__all__ = ["check_torch", "from_torch_state_dict", "to_torch", "to_torch_state_dict", "torch_code"]

Shape = tuple[int, ...]


def to_torch_state_dict(net: Layer, *, input_shape: Shape | None = None) -> dict[str, Any]:
    """The weights as tensors of PyTorch's, for `load_state_dict` of the same layers there (see `torch_code`).

    `input_shape`, (height, width, channels) of one image, is found out where the first layers tell it. Raises
    OptionError for a layer that has no counterpart, DeviceUnavailable where PyTorch is not installed.
    """
    here = device("torch:cpu")
    return {key: here.asarray(array) for key, array in _arrays(net, input_shape).items()}


def from_torch_state_dict(net: Layer, state: Mapping[str, Any], *, input_shape: Shape | None = None) -> Layer:
    """Take the weights of a PyTorch model with the same layers; returns `net`, with the weights it has now.

    `state` is what `model.state_dict()`, `torch.load(path, weights_only=True)` or `safetensors.torch.load_file(path)`
    gives. Where its keys are not those of a Sequential, such as "conv1.weight", they are taken in their order, which is
    that of the layers in most models: compare an answer of both. Raises ShapeError, changing nothing, that names the
    first key which does not fit.
    """
    entries = _Places(net, input_shape).entries
    state = {str(key): _array(key, value) for key, value in instance("state", state, Mapping).items()}
    state = {key: array for key, array in state.items() if not key.endswith("num_batches_tracked")}
    by_name = {entry.key for entry in entries} == set(state)
    keys = [entry.key for entry in entries] if by_name else list(state)
    for key, entry in zip(keys, entries):  # noqa: B905  looked at below
        found, expected = state[key].shape, entry.shape
        if found != expected or key.rpartition(".")[2] != entry.key.rpartition(".")[2]:
            raise ShapeError(
                f"these weights are of another network: {key!r} of shape {found} stands where this network has "
                f"{entry.name!r}, which in PyTorch is a {entry.key.rpartition('.')[2]!r} of shape {expected}"
            )
    if len(keys) != len(entries):
        which = f"{keys[len(entries)]!r}" if len(keys) > len(entries) else f"none for {entries[len(keys)].name!r}"
        raise ShapeError(
            f"these weights are of another network: there are {len(keys)} arrays for {len(entries)} of this network's, "
            f"{which} among them"
        )
    weights = {entry.name: entry.from_torch(state[key]) for key, entry in zip(keys, entries, strict=True)}
    if not net.initialised:
        net.init()
    net.load_state_dict(weights)
    return net


def _array(key: Any, value: Any) -> np.ndarray:
    if isinstance(value, Mapping) or not hasattr(value, "shape"):
        raise OptionError(
            f"state[{key!r}] is no array but {type(value).__name__}: where this is a checkpoint, with other things "
            "beside the weights, give the part of it that holds the weights"
        )
    if str(value.dtype) == "torch.bfloat16":  # which NumPy has not; each of its numbers is one of float32's
        value = value.float()
    return to_host(value)


def to_torch(net: Layer, path: str | Path, *, input_shape: Shape | None = None) -> Path:
    """Write the weights for PyTorch, and beside them a .py file whose network() makes the layers; returns its path.

    A path that ends in .safetensors is written without PyTorch, and read with safetensors.torch.load_file(path); one
    that ends in .pt or .pth needs PyTorch, and is read with torch.load(path, weights_only=True). Raises OptionError for
    another ending or a layer that has no counterpart, FileError where a file cannot be written.
    """
    path = Path(path)
    code = torch_code(net, input_shape=input_shape)
    if path.suffix == ".safetensors":
        from safetensors.numpy import save

        data = save(_arrays(net, input_shape), metadata={"format": "pt"})
    elif path.suffix in (".pt", ".pth"):
        file = io.BytesIO()
        library("torch", "torch").save(to_torch_state_dict(net, input_shape=input_shape), file)
        data = file.getvalue()
    else:
        raise OptionError(f"{path}: weights for PyTorch are written to a file that ends in .safetensors, .pt or .pth")
    program = path.with_name(path.stem.replace("-", "_") + ".py")  # a name that can be imported
    if program.exists() and not program.read_bytes().startswith(_FIRST_LINE.encode()):
        raise FileError(f"{program}: there is a program of this name, which is not replaced; name another file")
    write_atomic(path, data)
    write_atomic(program, code)
    return program


def check_torch(net: Layer, path: str | Path, *, input_shape: Shape | None = None) -> float:
    """The largest difference between net(x) and what PyTorch makes of the files of `to_torch`, for 7 random inputs.

    Of numbers above 1, the difference as a share of them. Raises OptionError where PyTorch is not installed.
    """
    torch = library("torch", "torch")
    path, dtype = Path(path), getattr(torch, net.store.dtype)
    if path.suffix == ".safetensors":
        state = library("safetensors.torch", "safetensors").load_file(path)
    else:
        state = torch.load(path, weights_only=True)
    names: dict[str, Any] = {}
    exec(torch_code(net, input_shape=input_shape), names)
    model = names["network"]().to(dtype)
    model.load_state_dict(state)
    model.eval()
    places = _Places(net, input_shape)
    x = samples(net, places.input_shape, 7)
    with torch.no_grad():
        y = model(torch.from_numpy(np.moveaxis(x, -1, 1).copy()).to(dtype)).numpy()
    expected = answer(net, x)
    return difference(np.moveaxis(y, 1, -1), expected if places.order is None else expected[:, places.order])


def export(net: Layer, path: Path, input_shape: Shape | None) -> list[str]:
    """What `gpunn export --to torch` does."""
    program = to_torch(net, path, input_shape=input_shape)
    load = "torch.load(FILE, weights_only=True)"
    if path.suffix == ".safetensors":
        load = "safetensors.torch.load_file(FILE)"
    use = f"from {program.stem} import network; model = network(); model.load_state_dict({load})"
    check = functools.partial(check_torch, net, path, input_shape=input_shape)
    return [f"written  {program}", f"read it with {use}", verified("torch", "PyTorch", "torch", check)]


# --- which array is where


@dataclass
class _Entry:
    """An array of gpunn's and its place in a state_dict."""

    key: str
    name: str
    value: Param | Buffer
    axes: Shape  # the order of the axes there
    order: np.ndarray | None  # and of the numbers along the last of them

    @property
    def shape(self) -> Shape:
        here = self.value.shape if isinstance(self.value, Param) else self.value.initial.shape
        return tuple(here[axis] for axis in self.axes)

    def to_torch(self) -> np.ndarray:
        array = to_host(self.value.value).transpose(self.axes)
        return np.array(array if self.order is None else array[..., self.order], order="C")

    def from_torch(self, array: np.ndarray) -> np.ndarray:
        array = array if self.order is None else array[..., np.argsort(self.order)]
        return array.transpose(np.argsort(self.axes))


class _Places:
    """A walk through a network: where each array goes, and the code of each layer."""

    def __init__(self, net: Layer, given: Shape | None) -> None:
        self.input_shape = self.shape = input_shape(net, given)
        self.order: np.ndarray | None = None  # that the features have in PyTorch, where it is another than here
        self.entries: list[_Entry] = []
        self.classes: set[str] = set()
        self._names = {id(entry): name for name, entry in (net.params() | net.buffers()).items()}
        self.code = self.layer(net, "")

    def layer(self, layer: Layer, prefix: str) -> str:
        kind = kind_of(layer, _LAYERS, "PyTorch")
        if len(self.shape) not in (1, 3):
            self.refuse(layer)
        code = _LAYERS[kind](self, layer, prefix)
        shape = layer.output_shape(self.shape)
        assert shape is not None
        self.shape = shape
        return code

    def put(self, key: str, value: Param | Buffer | None, axes: Shape = (0,), *, ordered: bool = True) -> None:
        """Note an array's place; with `ordered`, the last of the `axes` there is that of the features that come in."""
        if value is not None:
            order = self.order if ordered else None
            self.entries.append(_Entry(key, self._names[id(value)], value, axes, order))

    def own(self, name: str) -> str:
        """The name of a class that PyTorch has not; its code is written, too."""
        self.classes.add(name)
        return name

    def refuse(self, layer: Layer) -> None:
        raise OptionError(
            f"{type(layer).__name__} of an input of shape {self.shape} cannot be expressed in PyTorch here: expected "
            "rows of numbers or images (height, width, channels), and after a Flatten a Linear next"
        )


def _arrays(net: Layer, shape: Shape | None) -> dict[str, np.ndarray]:
    return {entry.key: entry.to_torch() for entry in _Places(net, shape).entries}


# --- each layer: a function of (the walk, the layer, the beginning of its keys) that gives its code


def _module(code: str) -> Callable[[_Places, Any, str], str]:
    """Of a layer without arrays; {} in the code stands for its attributes."""
    return lambda p, layer, prefix: code.format(**vars(layer))


def _own(code: str) -> Callable[[_Places, Any, str], str]:
    """The same, of a class that PyTorch has not."""

    def write(p: _Places, layer: Any, prefix: str) -> str:
        p.own(code.partition("(")[0])
        return code.format(**vars(layer))

    return write


def _sequential(p: _Places, net: layers.Sequential, prefix: str) -> str:
    shape, order = p.shape, p.order
    lines = [f"{p.layer(layer, f'{prefix}{i}.')},\n" for i, layer in enumerate(net.layers)]
    name = "nn.Sequential"
    if isinstance(net, layers.Residual):
        name = p.own("Residual")
        if p.order is not order:
            p.refuse(net)
    if net.output is not None:
        lines.append(f"{p.layer(net.output, '')},  # makes an answer of the logits; leave it out to train on\n")
    p.shape = shape  # the walk takes the whole network's step from here
    return f"{name}(\n{textwrap.indent(''.join(lines), '    ')})"


def _linear(p: _Places, layer: layers.Linear, prefix: str) -> str:
    p.put(f"{prefix}weight", layer.W, (1, 0))
    p.put(f"{prefix}bias", layer.b, ordered=False)
    p.order = None
    return f"nn.Linear({layer.n_in}, {layer.n_out}{'' if layer.b else ', bias=False'})"


def _conv(p: _Places, layer: layers.Conv2d, prefix: str) -> str:
    p.put(f"{prefix}weight", layer.W, (3, 2, 0, 1))
    p.put(f"{prefix}bias", layer.b)
    bias = "" if layer.b else ", bias=False"
    size = f"{layer.n_in}, {layer.n_out}, {layer.kernel}"
    return f"nn.Conv2d({size}, stride={layer.stride}, padding={layer.padding}{bias})"


def _flatten(p: _Places, layer: layers.Flatten, prefix: str) -> str:
    if len(p.shape) == 3:
        places = np.arange(math.prod(p.shape)).reshape(p.shape)
        p.order = np.moveaxis(places, -1, 0).reshape(-1)
    return "nn.Flatten()"


def _reshape(p: _Places, layer: layers.Reshape, prefix: str) -> str:
    if len(p.shape) != 1 or len(layer.shape) != 3 or p.order is not None:
        p.refuse(layer)
    return f"{p.own('ToImage')}{layer.shape}"


def _norm(name: str) -> Callable[[_Places, Any, str], str]:
    def write(p: _Places, layer: Any, prefix: str) -> str:
        p.put(f"{prefix}weight", layer.gamma)
        p.put(f"{prefix}bias", layer.beta)
        of_images = len(p.shape) == 3
        if isinstance(layer, layers.BatchNorm):
            p.put(f"{prefix}running_mean", layer.mean)
            p.put(f"{prefix}running_var", layer.variance)
            return f"nn.{name}{2 if of_images else 1}d({layer.n}, eps={layer.epsilon}, momentum={layer.momentum})"
        if isinstance(layer, layers.GroupNorm):
            if p.order is not None:
                p.refuse(layer)
            return f"nn.GroupNorm({layer.groups}, {layer.n}, eps={layer.epsilon})"
        return f"{p.own(f'Pixel{name}') if of_images else f'nn.{name}'}({layer.n}, eps={layer.epsilon})"

    return write


def _prelu(p: _Places, layer: layers.PReLU, prefix: str) -> str:
    p.put(f"{prefix}weight", layer.a)
    return f"nn.PReLU({layer.n})"


def _maxout(p: _Places, layer: layers.Maxout, prefix: str) -> str:
    if p.order is not None:
        p.refuse(layer)
    return f"{p.own('Maxout')}({layer.pieces})"


def _standardize(p: _Places, layer: layers.Standardize, prefix: str) -> str:
    p.put(f"{prefix}mean", layer.mean)
    p.put(f"{prefix}std", layer.std)
    return f"{p.own('Standardize')}({layer.mean.initial.size})"


_LAYERS: dict[type[Layer], Callable[[_Places, Any, str], str]] = {
    layers.AvgPool2d: _module("nn.AvgPool2d({window}, {stride})"),
    layers.BatchNorm: _norm("BatchNorm"),
    layers.Conv2d: _conv,
    layers.Dropout: _module("nn.Dropout({rate})"),
    layers.ELU: _module("nn.ELU({alpha})"),
    layers.Exponential: _own("Exponential()"),
    layers.Flatten: _flatten,
    layers.GELU: _module("nn.GELU('tanh')"),
    layers.GaussianNoise: _own("GaussianNoise({std})"),
    layers.GlobalAvgPool2d: _own("GlobalAvgPool2d()"),
    layers.GroupNorm: _norm("GroupNorm"),
    layers.HardSigmoid: _module("nn.Hardsigmoid()"),
    layers.HardSwish: _module("nn.Hardswish()"),
    layers.Identity: _module("nn.Identity()"),
    layers.LayerNorm: _norm("LayerNorm"),
    layers.LeakyReLU: _module("nn.LeakyReLU({alpha})"),
    layers.Linear: _linear,
    layers.MaxPool2d: _module("nn.MaxPool2d({window}, {stride})"),
    layers.Maxout: _maxout,
    layers.Mish: _module("nn.Mish()"),
    layers.PReLU: _prelu,
    layers.RMSNorm: _norm("RMSNorm"),
    layers.ReLU: _module("nn.ReLU()"),
    layers.Reshape: _reshape,
    layers.Residual: _sequential,
    layers.SELU: _module("nn.SELU()"),
    layers.Sequential: _sequential,
    layers.SiLU: _module("nn.SiLU()"),
    layers.Sigmoid: _module("nn.Sigmoid()"),
    layers.Softmax: _module("nn.Softmax(1)"),
    layers.Softplus: _module("nn.Softplus()"),
    layers.Standardize: _standardize,
    layers.Tanh: _module("nn.Tanh()"),
}


# --- the network as code

_FIRST_LINE = '"""A network of gpunn as layers of PyTorch; its weights lie beside this file."""'


def torch_code(net: Layer, *, input_shape: Shape | None = None) -> str:
    """A Python program whose function network() makes the same layers in PyTorch, still without their weights."""
    places = _Places(net, input_shape)
    classes = "".join(f"{_CLASSES[name]}\n\n" for name in sorted(places.classes))
    shape = places.input_shape
    takes = ", ".join(map(str, shape if len(shape) == 1 else (shape[2], *shape[:2])))
    first = "import torch\n" if "torch." in classes else ""
    return (
        f"{_FIRST_LINE}\n\n{first}from torch import nn\n\n\n{classes}"
        f'def network():\n    """Takes (N, {takes})."""\n{textwrap.indent(f"return {places.code}", "    ")}\n'
    )


_CLASSES = {
    "Exponential": """class Exponential(nn.Module):
    def forward(self, x):
        return x.clamp(max=87.0).exp()
""",
    "GaussianNoise": """class GaussianNoise(nn.Module):
    def __init__(self, std):
        super().__init__()
        self.std = std

    def forward(self, x):
        return x + self.std * torch.randn_like(x) if self.training else x
""",
    "GlobalAvgPool2d": """class GlobalAvgPool2d(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))
""",
    "Maxout": """class Maxout(nn.Module):
    def __init__(self, pieces):
        super().__init__()
        self.pieces = pieces

    def forward(self, x):
        return x.unflatten(1, (-1, self.pieces)).amax(2)
""",
    "PixelLayerNorm": """class PixelLayerNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
""",
    "PixelRMSNorm": """class PixelRMSNorm(nn.RMSNorm):
    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
""",
    "Residual": """class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)
""",
    "Standardize": """class Standardize(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("std", torch.ones(n))

    def forward(self, x):
        return (x - self.mean) / self.std
""",
    "ToImage": """class ToImage(nn.Module):
    def __init__(self, height, width, channels):
        super().__init__()
        self.shape = height, width, channels

    def forward(self, x):
        return x.unflatten(1, self.shape).movedim(-1, 1)
""",
}
