"""The constants of an optimiser's kernels, for training steps that are captured once and replayed with other ones.

A captured kernel gets the same arguments in every replay. So while a step is captured, `place` gives each update the
address of its constants in the device's memory. What they will be there is worked out beforehand: `constants_of` calls
the optimiser with outlines in place of arrays, which note what it would do with them.
"""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpunn.errors import CaptureError
from gpunn.kernels.common import CONSTANTS

__all__ = ["WIDTH", "Outline", "constants_of", "note", "place", "placed"]

Array = Any
WIDTH = 8  # constants of one update, at most
# Of the updates that a captured step may make: those of flat arrays, each a kernel, and Muon's of a matrix.
KNOWN: dict[str, Callable[..., tuple[float, ...]]] = CONSTANTS | {"muon": lambda *, eta, mu: (eta, mu)}

_now = threading.local()


@contextlib.contextmanager
def placed(constants: Array, names: list[str]) -> Iterator[None]:
    """Inside it, the updates of these names, in this order, take their constants from an array (WIDTH len(names),)."""
    _now.places = [(name, constants[WIDTH * i : WIDTH * (i + 1)]) for i, name in enumerate(names)]
    try:
        yield
        if _now.places:
            raise CaptureError(f"the optimiser left out the update {_now.places[0][0]!r}")
    finally:
        _now.places = None


def place(name: str) -> Array | int:
    """Where the next update finds its constants: 0 for in its arguments."""
    places = getattr(_now, "places", None)
    if places is None:
        return 0
    expected, array = places.pop(0) if places else ("nothing", None)
    if name != expected:
        raise CaptureError(f"the optimiser makes the update {name!r} where it was to make {expected}")
    return array


class Outline:
    """Stands for a flat array: an op on it is noted, and not done. Anything else raises CaptureError."""

    def __init__(self, size: int, notes: list[tuple[str, tuple[float, ...]]]) -> None:
        self.shape, self.notes = (size,), notes

    def __getitem__(self, part: slice) -> "Outline":
        return Outline(len(range(*part.indices(self.shape[0]))), self.notes)

    def __setitem__(self, part: slice, value: Any) -> None:
        if not isinstance(value, Outline):  # as w[part] -= ... ends
            self._refuse()

    def _refuse(self, *_: Any) -> Any:
        raise CaptureError("the optimiser changes arrays otherwise than by gpunn.ops, with numbers that would stay")

    __add__ = __radd__ = __iadd__ = __sub__ = __rsub__ = __isub__ = __neg__ = __abs__ = __bool__ = __float__ = _refuse
    __mul__ = __rmul__ = __imul__ = __truediv__ = __rtruediv__ = __itruediv__ = __pow__ = __rpow__ = __ipow__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __array__ = _refuse


def note(name: str) -> Callable[..., None]:
    """What an op does with outlines."""

    def twin(w: Outline, /, *others: Outline, **named: Any) -> None:
        if name not in KNOWN:
            raise CaptureError(f"the optimiser uses the op {name!r}, whose numbers cannot change in a captured step")
        w.notes.append((name, KNOWN[name](**named)))

    return twin


class _Sketch:
    """A ParamStore to an optimiser's eyes, with outlines in place of its flat arrays."""

    def __init__(self, store: Any, notes: list[Any]) -> None:
        self._store, self._notes = store, notes
        self.values = self.grads = Outline(store.values.shape[0], notes)

    def gradient(self) -> Outline:
        return self.grads

    def next_step(self) -> None:
        pass

    def views(self, flat: Outline) -> dict[str, Outline]:
        return {name: Outline(math.prod(param.shape), self._notes) for name, param in self._store.params.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def constants_of(optimizer: Any, store: Any, done: int) -> tuple[list[str], np.ndarray]:
    """The updates that a step of the optimiser after `done` others makes: names, and constants (WIDTH len(names),).

    Raises CaptureError for an optimiser that does anything to arrays but by ops whose constants are known.
    """
    notes: list[tuple[str, tuple[float, ...]]] = []
    sketch = _Sketch(store, notes)
    optimizer.update(sketch, dict.fromkeys(optimizer.keeps, sketch.values), done)
    values = np.zeros((len(notes), WIDTH))
    for i, (_, constants) in enumerate(notes):
        values[i, : len(constants)] = constants
    return [name for name, _ in notes], values.reshape(-1)
