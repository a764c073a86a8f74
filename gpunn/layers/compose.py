"""Layers made of layers."""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from gpunn.checks import shown
from gpunn.device import Array
from gpunn.errors import OptionError, ShapeError, SpentCache
from gpunn.layers.activation import Identity, ReLU, activation
from gpunn.layers.base import Layer, Shape
from gpunn.layers.conv import Conv2d
from gpunn.layers.linear import Linear

__all__ = ["Residual", "Sequential"]


class Sequential(Layer):
    """y = f_n(... f_2(f_1(x))): layers one after another, f_1 first. A network, or a part of one.

    `output` is what turns the last layer's numbers z (the logits) into an answer: `output="softmax"` makes
    probabilities of them. It is kept apart from the layers because training goes by z: forward and backward stop
    there, the losses take z, and calling the network, `net(x)`, applies it.

    The layers are named by their class and a count, "linear1", "relu1", "linear2". Raises OptionError for what is not a
    layer, ShapeError for two layers that do not fit each other.

    A Linear or Conv2d also does the work of a ReLU right after it, whose own forward is then not called: this saves a
    pass over memory. Where the ReLU lies between two Linears, the second one also does its backward pass, at the end of
    the product dy W^T, so that neither pass of the ReLU itself is called.
    """

    def __init__(self, *layers: Layer, output: str | Layer | type[Layer] | None = None) -> None:
        self.layers = layers
        self.output = None if output is None else activation(output)
        self.output_shape(None)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers. Others may be put in their place, new ones get weights from `init`. Raises OptionError."""
        return vars(self)["layers"]

    @layers.setter
    def layers(self, layers: Iterable[Layer]) -> None:
        layers = tuple(layers)
        for layer in layers:
            if not isinstance(layer, Layer):
                hint = f"; write {layer.__name__}()" if isinstance(layer, type) else ""
                if isinstance(layer, list | tuple):
                    hint = f"; write them one after another, or {type(self).__name__}(*layers)"
                raise OptionError(f"{type(self).__name__} takes layers, got {shown(layer)}{hint}")
            if layer.output is not None:
                raise OptionError(
                    f"a network with output={type(layer.output).__name__} cannot be a layer of another, which "
                    "would not use that output: give output= to the outermost network alone"
                )
        vars(self)["layers"] = layers
        vars(self).pop("_computed", None)  # of those before
        with_params = [i for i, layer in enumerate(layers) if layer.params()]
        self._names = _names(layers)
        self._lowest = with_params[0] if with_params else len(layers)

    @functools.cached_property  # on first use, because networks from older pickles do not have it
    def _computed(self) -> list[Layer]:
        """The layers, some replaced by one that also does the work of a ReLU beside it, and that ReLU by a stand-in."""
        layers, kinds = list(self.layers), [None, None, *map(type, self.layers), None, None]
        for i, layer in enumerate(self.layers):
            before, kind, after = kinds[i : i + 2], kinds[i + 2], kinds[i + 3 : i + 5]
            if kind not in (Linear, Conv2d):  # no subclass: it may do otherwise
                continue
            relu_before = kind is Linear and before == [Linear, ReLU]
            relu_after, hands_on = after[0] is ReLU, kind is Linear and after == [ReLU, Linear]
            if relu_before or relu_after:
                layers[i] = _WithReLU(layer, relu_before, relu_after, hands_on)
            if relu_after:
                layers[i + 1] = Identity() if hands_on else _Done()
        return layers

    def children(self) -> dict[str, Layer]:
        return dict(zip(self._names, self.layers, strict=True))

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, list[Any]]:
        caches = []
        for layer, name in zip(self._computed, self._names):  # noqa: B905  strict would take time in every step
            x, cache = layer.forward(x, train=train, key=key and (*key, name))
            caches.append(cache)
        return x, caches

    def backward(self, dy: Array, cache: list[Any], *, need_dx: bool = True) -> Array | None:
        """dx = dL/dx by the chain rule, layer after layer from the last (Nielsen, equation BP2).

        Each layer's cache is dropped once it has been used. Raises SpentCache if this is not a whole cache of forward.
        """
        if len(cache) != len(self.layers):
            raise SpentCache(
                "this cache has been used already: backward takes that of one forward pass once; call forward again"
            )
        end = 0 if need_dx else self._lowest  # below it nothing learns
        dx: Array | None = dy
        for i in range(len(cache) - 1, -1, -1):
            c = cache.pop()
            if i >= end:
                dx = self._computed[i].backward(dx, c, need_dx=need_dx or i > end)
        return dx if need_dx else None

    def infer(self, x: Array) -> Array:
        for layer in self._computed:
            x = layer.infer(x)
        return x

    def output_shape(self, shape: Shape | None) -> Shape | None:
        previous = None
        for layer in self.layers:
            try:
                shape = layer.output_shape(shape)
            except ShapeError as error:
                after = f", which comes after {previous!r}" if previous else ""
                raise ShapeError(f"{error}{after}") from None
            previous = layer
        return shape

    def __repr__(self) -> str:
        parts = [repr(layer) for layer in self.layers]
        if self.output is not None:
            parts.append(f"output={self.output!r}")
        return f"{type(self).__name__}({', '.join(parts)})"


class _WithReLU(Layer):
    """A Linear or Conv2d that also does work of the ReLUs beside it.

        linear1                  relu1      linear2                     as written
        linear1, relu1 forward   Identity   relu1 backward, linear2     as computed

    With `relu_after` forward gives max(y, 0). With `relu_before` backward gives dL/dz for the input z of that ReLU, not
    dx. With `hands_on` the next Linear does that: forward gives the pair (y, kept), which passes the Identity, and
    `kept` tells where y > 0.
    """

    def __init__(self, layer: Any, relu_before: bool, relu_after: bool, hands_on: bool) -> None:
        self.layer, self.relu_before, self.relu_after, self.hands_on = layer, relu_before, relu_after, hands_on

    def forward(self, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, tuple[Array, Array | None]]:
        x, kept = x if self.relu_before else (x, None)
        if self.hands_on:
            y, kept_of_y, cache = self.layer.forward_kept(x)
            return (y, kept_of_y), (cache, kept)
        y, cache = self.layer.forward(x, relu=self.relu_after)
        return y, (cache, kept)

    def backward(self, dy: Array, cache: tuple[Array, Array | None], *, need_dx: bool = True) -> Array | None:
        x, kept = cache
        if self.relu_before:
            return self.layer.backward(dy, x, kept=kept)
        return self.layer.backward(dy, x, need_dx=need_dx)

    def infer(self, x: Array) -> Array:
        return self.layer.forward(x, relu=self.relu_after)[0]


class _Done(ReLU):
    """A ReLU whose forward pass has been done already."""

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, Array]:
        return x, x


class Residual(Sequential):
    """y = x + f(x), where f is the layers one after another (He et al., 2016): f learns what to add to x.

    So dL/dx = dy + f's own dx: the gradient reaches x undiminished whatever f does. f must keep the shape of x.
    """

    def __init__(self, *layers: Layer) -> None:
        super().__init__(*layers)

    def forward(self, x: Array, *, train: bool = False, key: Any = None) -> tuple[Array, list[Any]]:
        y, caches = super().forward(x, train=train, key=key)
        self._check_shapes(tuple(x.shape[1:]), tuple(y.shape[1:]))
        return x + y, caches

    def backward(self, dy: Array, cache: list[Any], *, need_dx: bool = True) -> Array | None:
        dx = super().backward(dy, cache, need_dx=need_dx)
        return dy + dx if need_dx else None

    def infer(self, x: Array) -> Array:
        y = super().infer(x)
        self._check_shapes(tuple(x.shape[1:]), tuple(y.shape[1:]))
        return x + y

    def output_shape(self, shape: Shape | None) -> Shape | None:
        out = super().output_shape(shape)
        if shape is not None and out is not None:
            self._check_shapes(shape, out)
        return shape if out is None else out

    def _check_shapes(self, before: Shape, after: Shape) -> None:
        if before != after:
            raise ShapeError(f"Residual adds x to f(x), but f makes {after} of an input of shape {before}")


def _names(layers: Sequence[Layer]) -> list[str]:
    counts: Counter[str] = Counter()
    names = []
    for layer in layers:
        kind = type(layer).__name__.lower()
        counts[kind] += 1
        names.append(f"{kind}{counts[kind]}")
    return names
