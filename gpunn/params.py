"""Parameters, and the two flat arrays they live in.

A network of many small arrays would need many small operations for each step. Here all parameters of a network lie one
after another in one array, and their gradients in another; `Param.value` and `Param.grad` are views into the two. So an
optimiser step is one pass over one array, the norm of the gradient is one reduction, and a checkpoint is one array
with a table of names.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.checks import shown, whole
from gpunn.device import Array, Device, device_of, namespace, to_host
from gpunn.errors import NotInitialised, ShapeError
from gpunn.init import Initializer, initializer
from gpunn.rng import generator

__all__ = ["NO_WEIGHTS", "Buffer", "Param", "ParamStore", "draw", "read_state", "write_state"]

ALIGNMENT = 16  # elements, 64 bytes or more: each parameter starts whole cache lines after the start of the array

NO_WEIGHTS = "this network has no weights yet: call net.init(seed=0), or give it to a gn.Trainer"


class Param:
    """A learned array: `value`, and `grad`, the gradient of the loss with respect to it.

    `decay` says whether weight decay applies to it: to weights, not to biases.
    """

    __slots__ = ("_grad", "_step", "_value", "decay", "init", "shape", "store")

    def __init__(self, shape: tuple[int, ...], init: str | Initializer, *, decay: bool = True) -> None:
        sizes = shape if isinstance(shape, tuple | list) else (shape,)
        self.shape = tuple(whole(f"a size in the shape {shown(shape)}", n, at_least=1) for n in sizes)
        self.init = initializer(init)
        self.decay = decay
        self.store: ParamStore | None = None
        self._value: Array = None
        self._grad: Array = None
        self._step = -1  # the store's step in which the gradient was last written

    def __getstate__(self) -> tuple[Any, ...]:
        return self.shape, self.init, self.decay

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        Param.__init__(self, *state[:2], decay=state[2])  # its network's ParamStore gives it a place again

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def value(self) -> Array:
        """The numbers. Raises NotInitialised before `net.init`."""
        if self._value is None:
            raise NotInitialised(NO_WEIGHTS)
        return self._value

    @property
    def grad(self) -> Array:
        """The gradient that the last backward pass to reach this parameter gave it. Raises NotInitialised.

        After a step of the optimiser it is the one the step used: clipped, and with weight decay, where they apply.
        """
        if self._grad is None:
            raise NotInitialised(NO_WEIGHTS)
        return self._grad

    @property
    def grad_out(self) -> Array | None:
        """Where a backward pass may put the gradient directly: a place on the first write of a step, then None."""
        return None if self._step == self.store.step else self._grad  # type: ignore[union-attr]

    def add_grad(self, grad: Array) -> None:
        """Add `grad` to the gradient; the first one of a step replaces what was there.

        So a layer that is used twice collects both contributions, and nothing need be set to zero between steps.
        """
        store = self.store
        if self._step == store.step:  # type: ignore[union-attr]
            self._grad += grad
        else:
            self._step = store.step  # type: ignore[union-attr]
            if grad is not self._grad:  # which it is where it was put in `grad_out`
                self._grad[...] = grad


class Buffer:
    """An array of a layer that is not learned, such as a mean taken over the data; saved with the weights.

    It starts as `initial`, an array, or one number for all of a `shape`.
    """

    __slots__ = ("_value", "initial", "store")

    def __init__(self, initial: Any, shape: tuple[int, ...] | None = None) -> None:
        array = np.asarray(to_host(initial), dtype=np.float64)
        # one number seen as many takes no room, however many a damaged file asks for
        self.initial = array if shape is None else np.broadcast_to(array, shape)
        self.store: ParamStore | None = None
        self._value: Array = None

    @property
    def value(self) -> Array:
        """The numbers. Raises NotInitialised before `net.init`."""
        if self._value is None:
            raise NotInitialised(NO_WEIGHTS)
        return self._value

    def __getstate__(self) -> np.ndarray:
        return self.initial

    def __setstate__(self, initial: np.ndarray) -> None:
        Buffer.__init__(self, initial)


class ParamStore:
    """All parameters of a network in one flat array `values` (P,), and their gradients in `grads` (P,).

    Parameters that decay are laid first: `decaying` is the slice that holds them. Between parameters lie up to 15
    unused zeros, so that each starts a multiple of 64 bytes from the first; they stay zero.
    """

    def __init__(self, params: Mapping[str, Param], buffers: Mapping[str, Buffer], device: Device, dtype: str) -> None:
        self.device, self.dtype = device, dtype
        self.params, self.buffers = dict(params), dict(buffers)
        self.step = 0  # counts optimiser steps: a gradient written in an earlier one is stale
        self._narrow: tuple[Array, dict[str, Array]] | None = None  # a rounded copy of the values, and its views
        self._place: dict[str, slice] = {}
        end = 0
        for decay in (True, False):
            for name, param in self.params.items():
                if param.decay == decay:
                    self._place[name] = slice(end, end + param.size)
                    end += -(-param.size // ALIGNMENT) * ALIGNMENT  # its size, rounded up
            if decay:
                self.decaying = slice(0, end)
        self.values, self.grads = device.zeros(end, dtype), device.zeros(end, dtype)
        values, grads = self.views(self.values), self.views(self.grads)
        self._own = values  # what `rounded` puts back
        for name, param in self.params.items():
            param.store, param._value, param._grad, param._step = self, values[name], grads[name], -1
        for buffer in self.buffers.values():
            buffer.store, buffer._value = self, device.asarray(buffer.initial.copy(), dtype)  # layers write into it

    def __getstate__(self) -> tuple[Any, ...]:
        """What copy and pickle keep: the views are made anew, or they would no longer be views."""
        weights = read_state(self.params), read_state(self.buffers)
        return self.params, self.buffers, self.device, self.dtype, *weights

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *parts, params, buffers = state
        ParamStore.__init__(self, *parts)
        write_state(self.params, params)
        write_state(self.buffers, buffers)

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(param.size for param in self.params.values())

    def views(self, flat: Array) -> dict[str, Array]:
        """The parts of a flat array (P,) that belong to each parameter, by name, in the parameter's shape."""
        reshape = self.device.xp.reshape  # of a part in one piece, which needs no copy
        return {name: reshape(flat[self._place[name]], p.shape) for name, p in self.params.items()}

    def pieces(self, of: Callable[[str], Any]) -> list[tuple[slice, Any]]:
        """The flat arrays cut wherever `of` differs from one parameter's name to the next: (slice, what `of` gave)."""
        firsts: list[tuple[int, Any]] = []
        for name, place in self._place.items():
            value = of(name)
            if not firsts or firsts[-1][1] != value:
                firsts.append((place.start, value))
        ends = [start for start, _ in firsts[1:]] + [self.values.shape[0]]
        return [(slice(start, end), value) for (start, value), end in zip(firsts, ends, strict=True)]

    def gradient(self) -> Array:
        """The flat gradient of this step, with zeros for parameters that no backward pass has reached."""
        for param in self.params.values():
            if param._step != self.step:
                param._step = self.step
                param._grad[...] = 0.0
        return self.grads

    def copy(self, dtype: Any) -> Array:
        """The array that `rounded` fills, of a data type of the library: the same at every call."""
        if self._narrow is None:
            flat = self.device.xp.empty(self.values.shape, dtype=dtype, device=self.device.native)
            self._narrow = flat, self.views(flat)
        return self._narrow[0]

    @contextlib.contextmanager
    def rounded(self, dtype: Any, *, done: bool = False) -> Iterator[None]:
        """Inside it each `Param.value` is a copy, rounded to a data type of the library.

        The copy is made on entering, unless it is `done` already. `values`, which an optimiser changes, the gradients
        and the buffers stay in the network's own type: there many small steps add up, each of which would be lost in a
        type of few digits (Micikevicius et al., "Mixed precision training", 2018).
        """
        flat = self.copy(dtype)
        if not done:
            ops.cast(self.values, dtype, out=flat)
        _, views = self._narrow  # type: ignore[misc]
        try:
            for name, param in self.params.items():
                param._value = views[name]
            yield
        finally:
            for name, param in self.params.items():
                param._value = self._own[name]

    def next_step(self) -> None:
        """Let the next gradients replace those that are there."""
        self.step += 1


def draw(params: Mapping[str, Param], seed: int) -> dict[str, np.ndarray]:
    """Initial values by name: each drawn from its own generator, seeded by the seed and the parameter's name.

    They are made on the host in float64, and only then rounded and moved, so that every device starts alike. Raises
    ShapeError for an initialiser that makes numbers of another shape.
    """
    values = {name: param.init(generator(seed, f"init/{name}"), param.shape) for name, param in params.items()}
    for name, param in params.items():
        if np.shape(values[name]) != param.shape:
            raise ShapeError(
                f"the initialiser of {name} made numbers of shape {np.shape(values[name])}, expected {param.shape}"
            )
    return values


def read_state(entries: Mapping[str, Param | Buffer]) -> dict[str, np.ndarray]:
    """Copies of all values as NumPy arrays, by name."""
    return {name: np.array(to_host(entry.value)) for name, entry in entries.items()}


def write_state(entries: Mapping[str, Param | Buffer], state: Mapping[str, Array]) -> None:
    """Take all values from arrays by name; nothing is changed unless every name and shape fits.

    Raises ShapeError that names the first one that is missing, unknown, or of another shape.
    """
    new = {}
    for name in [*entries, *state]:
        if name not in state:
            raise ShapeError(f"these weights are of another network: they have no {name!r}, only {_names(state)}")
        if name not in entries:
            raise ShapeError(f"these weights are of another network: {name!r} is not among its {_names(entries)}")
        value, host = entries[name].value, to_host(state[name])
        if host.shape != tuple(value.shape):
            raise ShapeError(
                f"these weights are of another network: {name!r} has shape {host.shape}, "
                f"this network expects {tuple(value.shape)}"
            )
        new[name] = device_of(value).asarray(host)
    for name, array in new.items():
        value = entries[name].value
        value[...] = namespace(value).astype(array, value.dtype)


def _names(some: Mapping[str, object]) -> str:
    return ", ".join(some) or "nothing"
