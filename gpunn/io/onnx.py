"""Networks as ONNX files, which onnxruntime and many other programs compute (https://onnx.ai; the extra "onnx").

    to_onnx(net, "net.onnx")

    import onnxruntime
    (y,) = onnxruntime.InferenceSession("net.onnx").run(None, {"input": x})  # x (N, ...) float32; y as net(x)

Images go in and come out as gpunn has them, (N, height, width, channels). ONNX's own convolutions want the channels
first; where the one meets the other a Transpose is put between.
"""

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpunn import layers
from gpunn.data.image import image_shape, ink_of
from gpunn.device import to_host
from gpunn.errors import OptionError
from gpunn.io.atomic import write_atomic
from gpunn.io.foreign import (
    answer,
    class_names,
    difference,
    gives_probabilities,
    kind_of,
    library,
    samples,
    verified,
)
from gpunn.io.foreign import input_shape as shape_of  # since functions here have an argument of that name
from gpunn.layers import Layer

__all__ = ["check_onnx", "to_onnx"]

_OPSET, _IR = 17, 8  # of 2022: old enough for every program, new enough for every layer here


def to_onnx(net: Layer, path: str | Path, *, input_shape: tuple[int, ...] | None = None) -> None:
    """Write a network as it answers at inference, `net(x)`, to an ONNX file with opset 17. Needs the extra "onnx".

    The file takes "input" (N, *input_shape), for any N, and gives "output"; both are float32, also for a network of
    float64, whose weights are rounded: most programs compute convolutions in float32 only. `input_shape` is found out
    where the first layers tell it. What the network takes for an input, and the classes, are said in the file's
    doc_string and, in JSON, in its metadata: "classes", "image_shape", "white" and what else is in `net.about`.

    Raises OptionError for a layer of your own, which it names, and FileError where the file cannot be written.
    """
    onnx = library("onnx", "gpunn[onnx]")
    shape = shape_of(net, input_shape)
    try:
        about = {name: json.dumps(value) for name, value in net.about.items()}
    except (TypeError, ValueError) as error:
        raise OptionError(f"net.about must be made of JSON's types, numbers, text, lists and dicts: {error}") from None
    graph = Graph(onnx.helper, shape)
    y = graph.layer(net, "input")
    if net.output is not None:
        y = graph.layer(net.output, y)
    graph.add("Identity", graph.channels_last(y), name="output")
    kind, out = onnx.TensorProto.FLOAT, answer(net, np.zeros((1, *shape))).shape[1:]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "gpunn",
            [onnx.helper.make_tensor_value_info("input", kind, ["N", *shape])],
            [onnx.helper.make_tensor_value_info("output", kind, ["N", *out])],
            [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
        ),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        producer_name="gpunn",
        doc_string=_description(net, shape, out),
    )
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    write_atomic(path, model.SerializeToString())


def check_onnx(net: Layer, path: str | Path, *, input_shape: tuple[int, ...] | None = None) -> float:
    """The largest difference between net(x) and what onnxruntime makes of the file, for 1 and for 7 random inputs.

    Of numbers above 1, the difference as a share of them. Raises OptionError where onnxruntime is not installed.
    """
    onnxruntime = library("onnxruntime", "gpunn[onnx]")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for n in (1, 7):
        x = samples(net, shape_of(net, input_shape), n)
        (y,) = session.run(None, {"input": x.astype(np.float32)})
        worst = max(worst, difference(y, answer(net, x)))
    return worst


def export(net: Layer, path: Path, input_shape: tuple[int, ...] | None) -> list[str]:
    """What `gpunn export --to onnx` does."""
    onnx = library("onnx", "gpunn[onnx]")
    to_onnx(net, path, input_shape=input_shape)
    check = functools.partial(check_onnx, net, path, input_shape=input_shape)
    said = onnx.load(path).doc_string.splitlines()
    return [*said, verified("onnxruntime", "onnxruntime", "gpunn[onnx]", check)]


def _description(net: Layer, shape: tuple[int, ...], out: tuple[int, ...]) -> str:
    names = class_names(net)
    takes = f"input    float32 (N, {', '.join(map(str, shape))})"
    if "image_shape" in net.about:
        white, _ = ink_of(net.about)
        takes += f": images (height, width, channels) = {image_shape(net.about)}, pixels from 0 to {white:g}"
        takes += ", which are bytes / 255" if white == 1.0 else ""
    gives = f"output   float32 (N, {', '.join(map(str, out))})"
    if names:
        what = "the probability" if gives_probabilities(net) else "a score"
        of = f"each of {len(names)} classes" if out == (len(names),) else str(names[-1])
        gives += f": {what} of {of}"
    return f"{takes}\n{gives}"


class Graph:
    """The nodes that compute a network, one added after another.

    `shape` is that of one example of what passes just now, as gpunn has it; `channels_first` whether its last axis was
    moved to the place behind the batch, where ONNX's convolutions want it.
    """

    def __init__(self, helper: Any, shape: tuple[int, ...]) -> None:
        self.helper = helper
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.shape, self.channels_first = shape, False

    def layer(self, layer: Layer, x: str) -> str:
        """The nodes of a layer that takes x; returns the name of its output, as all of these do."""
        write = _LAYERS[kind_of(layer, _LAYERS, "ONNX")]
        after = layer.output_shape(self.shape)
        assert after is not None
        y = write(self, layer, x)
        self.shape = after
        return y

    def add(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """One node of ONNX's, such as "Relu"; returns the name of its output."""
        name = name or f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """Numbers that are a part of the file."""
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.asarray(to_host(value), dtype=dtype, order="C")
        return name

    def reshape(self, x: str, *shape: int) -> str:
        """X with each example in another shape; -1 leaves the size of the batch to be found out, also where it is 0."""
        return self.add("Reshape", x, self.constant([-1, *shape], np.int64))

    def per_channel(self, value: Any) -> str:
        """One number (C,) for each channel, laid out to be combined with the array that passes."""
        array = to_host(value)
        return self.constant(array.reshape(-1, *[1] * (self.rank - 2)) if self.channels_first else array)

    @property
    def rank(self) -> int:
        """The number of axes, the batch among them."""
        return 1 + len(self.shape)

    @property
    def channel_axis(self) -> int:
        """Where the channels are."""
        return 1 if self.channels_first else self.rank - 1

    def channels_last(self, x: str) -> str:
        """X as gpunn has it, (N, height, width, channels)."""
        if not self.channels_first:
            return x
        self.channels_first = False
        return self.add("Transpose", x, perm=[0, *range(2, self.rank), 1])

    def to_channels_first(self, x: str) -> str:
        """X with the channels behind the batch, (N, channels, height, width)."""
        if self.channels_first or self.rank < 3:
            return x
        self.channels_first = True
        return self.add("Transpose", x, perm=[0, self.rank - 1, *range(1, self.rank - 1)])


# --- each layer: a function of (the graph, the layer, the name of its input) that gives the name of its output


def _as_it_is(g: Graph, layer: Layer, x: str) -> str:
    return x


def _node(op: str, **attributes: Any) -> Callable[[Graph, Any, str], str]:
    """Of a layer that is one node of ONNX's; its constants have the same names there."""
    return lambda g, layer, x: g.add(op, x, **attributes, **getattr(layer, "constants", {}))


def _sequential(g: Graph, net: layers.Sequential, x: str) -> str:
    for layer in net.layers:
        x = g.layer(layer, x)
    return x


def _residual(g: Graph, net: layers.Residual, x: str) -> str:
    first = g.channels_first
    y = _sequential(g, net, x)
    return g.add("Add", x, g.to_channels_first(y) if first else g.channels_last(y))


def _linear(g: Graph, layer: layers.Linear, x: str) -> str:
    b = [g.constant(layer.b.value)] if layer.b else []
    return g.add("Gemm", x, g.constant(layer.W.value), *b)


def _conv(g: Graph, layer: layers.Conv2d, x: str) -> str:
    x = g.to_channels_first(x)
    W = g.constant(to_host(layer.W.value).transpose(3, 2, 0, 1))  # (U, V, C, M) to (M, C, U, V)
    b = [g.constant(layer.b.value)] if layer.b else []
    pads = [*layer.padding, *layer.padding]  # above, left, below, right
    return g.add("Conv", x, W, *b, kernel_shape=layer.kernel, strides=layer.stride, pads=pads)


def _pool(op: str) -> Callable[[Graph, Any, str], str]:
    return lambda g, layer, x: g.add(
        op, g.to_channels_first(x), kernel_shape=list(layer.window), strides=list(layer.stride)
    )


def _global_avg_pool(g: Graph, layer: layers.GlobalAvgPool2d, x: str) -> str:
    axes = [2, 3] if g.channels_first else [1, 2]
    g.channels_first = False
    return g.add("ReduceMean", x, axes=axes, keepdims=0)


def _flatten(g: Graph, layer: layers.Flatten, x: str) -> str:
    return g.add("Flatten", g.channels_last(x), axis=1)


def _reshape(g: Graph, layer: layers.Reshape, x: str) -> str:
    return g.reshape(g.channels_last(x), *layer.shape)


def _standardize(g: Graph, layer: layers.Standardize, x: str) -> str:
    return g.add("Div", g.add("Sub", x, g.constant(layer.mean.value)), g.constant(layer.std.value))


def _batch_norm(g: Graph, layer: layers.BatchNorm, x: str) -> str:
    x = g.to_channels_first(x)
    entries: list[Any] = [layer.gamma, layer.beta, layer.mean, layer.variance]
    numbers = [g.constant(entry.value) for entry in entries]
    return g.add("BatchNormalization", x, *numbers, epsilon=layer.epsilon)


def _divide_by_root_mean_square(g: Graph, x: str, axes: list[int], epsilon: float) -> str:
    mean_square = g.add("ReduceMean", g.add("Mul", x, x), axes=axes)
    return g.add("Div", x, g.add("Sqrt", g.add("Add", mean_square, g.constant(epsilon))))


def _scale_shift(g: Graph, layer: Any, x: str) -> str:
    y = g.add("Mul", x, g.per_channel(layer.gamma.value))
    return g.add("Add", y, g.per_channel(layer.beta.value)) if layer.beta else y


def _rms_norm(g: Graph, layer: layers.RMSNorm, x: str) -> str:
    return _scale_shift(g, layer, _divide_by_root_mean_square(g, x, [g.channel_axis], layer.epsilon))


def _layer_norm(g: Graph, layer: layers.LayerNorm, x: str) -> str:
    centred = g.add("Sub", x, g.add("ReduceMean", x, axes=[g.channel_axis]))
    return _scale_shift(g, layer, _divide_by_root_mean_square(g, centred, [g.channel_axis], layer.epsilon))


def _group_norm(g: Graph, layer: layers.GroupNorm, x: str) -> str:
    x = g.to_channels_first(x)
    groups = g.reshape(x, layer.groups, math.prod(g.shape) // layer.groups)
    centred = g.add("Sub", groups, g.add("ReduceMean", groups, axes=[2]))
    normal = _divide_by_root_mean_square(g, centred, [2], layer.epsilon)
    return _scale_shift(g, layer, g.add("Reshape", normal, g.add("Shape", x)))


def _prelu(g: Graph, layer: layers.PReLU, x: str) -> str:
    return g.add("PRelu", x, g.per_channel(layer.a.value))


def _maxout(g: Graph, layer: layers.Maxout, x: str) -> str:
    x = g.channels_last(x)
    *axes, n = g.shape
    pieces = g.reshape(x, *axes, n // layer.pieces, layer.pieces)
    return g.add("ReduceMax", pieces, axes=[g.rank], keepdims=0)


def _softmax(g: Graph, layer: Layer, x: str) -> str:
    return g.add("Softmax", x, axis=g.channel_axis)


def _silu(g: Graph, layer: Layer, x: str) -> str:
    return g.add("Mul", x, g.add("Sigmoid", x))


def _mish(g: Graph, layer: Layer, x: str) -> str:
    return g.add("Mul", x, g.add("Tanh", g.add("Softplus", x)))


def _gelu(g: Graph, layer: Layer, x: str) -> str:
    cube = g.add("Mul", x, g.add("Mul", x, x))
    u = g.add("Add", x, g.add("Mul", cube, g.constant(0.044715)))
    t = g.add("Tanh", g.add("Mul", u, g.constant(math.sqrt(2.0 / math.pi))))
    return g.add("Mul", g.add("Mul", x, g.constant(0.5)), g.add("Add", t, g.constant(1.0)))


def _exponential(g: Graph, layer: Layer, x: str) -> str:
    return g.add("Exp", g.add("Min", x, g.constant(87.0)))


_LAYERS: dict[type[Layer], Callable[[Graph, Any, str], str]] = {
    layers.AvgPool2d: _pool("AveragePool"),
    layers.BatchNorm: _batch_norm,
    layers.Conv2d: _conv,
    layers.Dropout: _as_it_is,
    layers.ELU: _node("Elu"),
    layers.Exponential: _exponential,
    layers.Flatten: _flatten,
    layers.GELU: _gelu,
    layers.GaussianNoise: _as_it_is,
    layers.GlobalAvgPool2d: _global_avg_pool,
    layers.GroupNorm: _group_norm,
    layers.HardSigmoid: _node("HardSigmoid", alpha=1.0 / 6.0, beta=0.5),
    layers.HardSwish: _node("HardSwish"),
    layers.Identity: _as_it_is,
    layers.LayerNorm: _layer_norm,
    layers.LeakyReLU: _node("LeakyRelu"),
    layers.Linear: _linear,
    layers.MaxPool2d: _pool("MaxPool"),
    layers.Maxout: _maxout,
    layers.Mish: _mish,
    layers.PReLU: _prelu,
    layers.RMSNorm: _rms_norm,
    layers.ReLU: _node("Relu"),
    layers.Reshape: _reshape,
    layers.Residual: _residual,
    layers.SELU: _node("Selu"),
    layers.Sequential: _sequential,
    layers.SiLU: _silu,
    layers.Sigmoid: _node("Sigmoid"),
    layers.Softmax: _softmax,
    layers.Softplus: _node("Softplus"),
    layers.Standardize: _standardize,
    layers.Tanh: _node("Tanh"),
}
