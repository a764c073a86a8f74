"""What a layer is: parameters, a forward pass, and the backward pass derived from it.

To write one, subclass Layer, put `Param`s (and other layers) on it as attributes, and give `forward` and `backward`:

    class Scale(gn.Layer):                                  # y = x * g, a learned factor for each feature
        def __init__(self, n):
            self.n = n
            self.g = gn.Param((n,), init=gn.init.Constant(1.0))

        def forward(self, x, *, train=False, key=None):
            return x * self.g.value, x

        def backward(self, dy, cache, *, need_dx=True):
            x = cache
            self.g.add_grad(gn.namespace(x).sum(dy * x, axis=0))    # dL/dg_d = sum over the batch of dy_nd x_nd
            return dy * self.g.value                                # dL/dx = dy * g

Then `gn.gradcheck(Scale(5), x)` tells whether the backward pass is the derivative of the forward pass.
"""

import inspect
import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self

from gpunn.checks import precision
from gpunn.device import Array, Device, device, device_of
from gpunn.errors import DeviceMismatch, DtypeError, GpunnError, NotInitialised, OptionError, ShapeError
from gpunn.ops import cast
from gpunn.params import NO_WEIGHTS, Buffer, Param, ParamStore, draw, read_state, write_state

__all__ = ["Layer"]

Shape = tuple[int, ...]
Key = tuple[Any, ...]  # (seed, step, *names of the layers down to this one): what random numbers are drawn from


class Layer:
    """The base of all layers and networks.

    Parameters live on the layer, activations never do: what the backward pass needs is in the cache that forward
    returns and the caller carries. So one layer may be used twice in a network, each use with a cache of its own, and
    two threads may ask one network for answers.
    """

    _store: ParamStore | None = None
    output: "Layer | None" = None  # what turns the network's numbers into an answer; see Sequential
    about: Mapping[str, Any] = MappingProxyType({})  # what else a file should say of the network, such as its classes

    # --- to be written by each layer

    def forward(self, x: Array, *, train: bool = False, key: Key | None = None) -> tuple[Array, Any]:
        """(y, cache) for a batch x (N, ...).

        `train` tells a training pass from inference; `key` = (seed, step) is what a layer draws its random numbers
        from. A layer that holds others gives each its own, with the name of that layer added: key=(*key, "dropout1").
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward pass")

    def backward(self, dy: Array, cache: Any, *, need_dx: bool = True) -> Array | None:
        """dx = dL/dx, given dy = dL/dy and the cache of the forward pass; adds to the gradients of the parameters.

        `need_dx` is False where nobody will look at dx; a layer may then return None and save the work. A cache is good
        for one backward pass.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward pass")

    def output_shape(self, shape: Shape | None) -> Shape | None:
        """The shape of one output, given that of one input (without the batch axis); None stands for unknown.

        With it, layers that do not fit are found when a network is built, and `summary` knows more. Raises ShapeError
        where the layer cannot take such an input.
        """
        return None

    # --- what every layer can do

    def infer(self, x: Array) -> Array:
        """y for a batch x, at inference: what forward gives, with nothing kept for a backward pass."""
        return self.forward(x)[0]

    def __call__(self, x: Array) -> Array:
        """The answer for a batch x: `infer`, with the network's output function applied where it has one."""
        y = self.infer(x)
        return y if self.output is None else self.output.infer(y)

    def children(self) -> dict[str, "Layer"]:
        """The layers directly inside this one, by name: those in its attributes, or in lists that are attributes."""
        return self._inside(Layer)

    def walk(self) -> Iterator[tuple[str, "Layer"]]:
        """This layer and all inside it, each once, with its full name such as "residual1.linear2"."""
        seen: set[int] = set()

        def visit(layer: Layer, name: str) -> Iterator[tuple[str, Layer]]:
            if id(layer) not in seen:
                seen.add(id(layer))
                yield name, layer
                for child, inner in layer.children().items():
                    yield from visit(inner, f"{name}.{child}" if name else child)

        return visit(self, "")

    def params(self) -> dict[str, Param]:
        """All parameters by full name such as "linear1.W", each once, in the order of the layers."""
        return self._owned(Param)

    def buffers(self) -> dict[str, Buffer]:
        """All buffers by full name: arrays that are saved with the parameters but not learned."""
        return self._owned(Buffer)

    def _owned(self, kind: type) -> dict[str, Any]:
        found, seen = {}, set()
        for prefix, layer in self.walk():
            for name, value in layer._inside(kind).items():
                if id(value) not in seen:
                    seen.add(id(value))
                    found[f"{prefix}.{name}" if prefix else name] = value
        return found

    def _inside(self, kind: type) -> dict[str, Any]:
        """All of this kind in the attributes, or in lists that are attributes, by name."""
        found: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, list | tuple):
                found |= {f"{name}{i}": item for i, item in enumerate(value, start=1) if isinstance(item, kind)}
            elif isinstance(value, kind):
                found[name] = value
        return found

    @property
    def store(self) -> ParamStore:
        """The flat arrays that hold the parameters. Raises NotInitialised before `init`."""
        if self._store is None:
            raise NotInitialised(NO_WEIGHTS)
        return self._store

    @property
    def initialised(self) -> bool:
        """Whether the network has its weights."""
        return self._store is not None

    def init(self, seed: int = 0, *, device: str | Device | None = "cpu", dtype: str = "float32") -> Self:
        """Draw the initial weights and place them on a device; returns the layer itself.

        The numbers depend on the seed and the parameters' names alone: every device starts alike, and a layer without
        parameters may be added anywhere without changing the weights of the others. Raises OptionError for another
        dtype than "float32" or "float64", DeviceUnavailable where the device cannot be had.
        """
        params = self.params()
        values = draw(params, seed)  # first, so that what fails leaves the weights that are there
        self._place(device, dtype)
        write_state(params, values)
        return self

    def to(self, device: str | Device | None, dtype: str | None = None) -> Self:
        """Move the weights to a device, and to another data type where one is named; returns the layer itself."""
        dtype = dtype or self.store.dtype
        weights = self.state_dict()
        self._place(device, dtype)
        self.load_state_dict(weights)
        return self

    def _place(self, where: str | Device | None, dtype: str) -> None:
        dtype = precision(dtype)
        params, buffers = self.params(), self.buffers()
        for name, entry in (params | buffers).items():
            if entry.store is not None and entry.store is not self._store:
                raise GpunnError(
                    f"{name} has its weights already, as part of another network: build a new layer, or load its "
                    "state_dict() into this network once this one is initialised"
                )
        self._store = ParamStore(params, buffers, device(where), dtype)

    def state_dict(self) -> dict[str, Array]:
        """All parameters and buffers as NumPy arrays, copies, by full name."""
        return read_state(self._entries())

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take all parameters and buffers from arrays by name. Raises ShapeError, changing nothing, unless all fit."""
        write_state(self._entries(), state)

    def _entries(self) -> dict[str, Param | Buffer]:
        return self.params() | self.buffers()

    def zero_grad(self) -> None:
        """Begin a new step: the next backward pass replaces the gradients that are there."""
        self.store.next_step()

    def config(self) -> dict[str, Any]:
        """The arguments this layer was made with, so that a file can describe it: {"n_in": 784, "n_out": 100 ...}.

        As in scikit-learn, a constructor keeps each argument under its own name. How weights were drawn is left out: a
        file has the weights.
        """
        arguments = [p for p in inspect.signature(type(self)).parameters if p not in ("init", "bias_init")]
        try:
            return {name: getattr(self, name) for name in arguments}
        except AttributeError as error:
            raise OptionError(
                f"{type(self).__name__} cannot be described: {error}. Keep each argument of its constructor under "
                "its own name, or override config()"
            ) from None

    def __repr__(self) -> str:
        try:
            arguments = self.config().items()
        except OptionError:
            return f"{type(self).__name__}(...)"
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in arguments)})"

    def summary(self, input_shape: Shape | None = None) -> None:
        """Print a table: each layer, the shape of its output (N is the batch), how many parameters it has.

        `input_shape` is that of one input, without the batch axis; a network that begins with a Linear knows it.
        """
        print(self._summary(input_shape))

    def _summary(self, input_shape: Shape | None = None) -> str:
        rows = [("layer", "output", "parameters")]
        shape = None if input_shape is None else tuple(input_shape)
        counted: set[int] = set()
        for name, layer in self.children().items() or {type(self).__name__.lower(): self}.items():
            shape = layer.output_shape(shape)
            params = {id(param): param.size for param in layer.params().values() if id(param) not in counted}
            counted |= params.keys()  # one that is used again counts once
            text = "?" if shape is None else "(" + ", ".join(["N", *map(str, shape)]) + ")"
            rows.append((f"{name} ({type(layer).__name__})", text, f"{sum(params.values()):,}"))
        if self.output is not None:
            rows.append((f"output ({type(self.output).__name__})", rows[-1][1], "0"))
        total = sum(param.size for param in self.params().values())
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in rows]
        rule = "-" * (sum(widths) + 4)
        return "\n".join([lines[0], rule, *lines[1:], rule, f"{total:,} parameters"])

    def _check_input(self, x: Array, value: Array, shape: tuple[int | None, ...]) -> Array:
        """x, a batch that can be used with `value`, a parameter; otherwise an error that says why not.

        It must be of the same library, device and data type, and of shape (N, *shape), where None stands for any size.
        Where one of the two is in bfloat16, x is given in the type of `value`.
        """
        fits = type(x) is type(value) and (x.shape[1:] == shape or _is_of(x.shape[1:], shape))
        if fits and x.dtype == value.dtype and x.device == value.device:
            return x
        where = type(self).__name__
        here, there = device_of(value), device_of(x)  # the second raises DtypeError for what is no array
        if here != there:
            raise DeviceMismatch(
                f"{where} has its weights on {here} and was given an array on {there}: move the one with "
                f"gn.device({here.name!r}).asarray(x), or the network with net.to({there.name!r})"
            )
        if x.dtype != value.dtype:
            if "bfloat16" not in (str(x.dtype), str(value.dtype)):
                raise DtypeError(
                    f"{where} computes in {value.dtype} and was given {x.dtype}: convert the input, or choose the "
                    "network's data type with net.init(dtype=...)"
                )
            x = cast(x, value.dtype)
        if not _is_of(x.shape[1:], shape):
            flat = len(shape) == 1 and x.ndim > 2 and math.prod(x.shape[1:]) == shape[0]
            hint = "; put gn.Flatten() before it" if flat else ""
            expected = ", ".join(["N", *("any" if size is None else str(size) for size in shape)])
            raise ShapeError(f"{where} expects inputs of shape ({expected}), got {tuple(x.shape)}{hint}")
        return x


def _is_of(shape: Shape, expected: tuple[int | None, ...]) -> bool:
    same = len(shape) == len(expected)
    for a, b in zip(shape, expected, strict=False):  # a generator for all() would take longer
        same = same and b in (None, a)
    return same
