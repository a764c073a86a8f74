"""Looking at arguments: each gives the value back, or raises OptionError that names it and what was expected."""

import difflib
import functools
import math
import numbers
import operator
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from gpunn.errors import OptionError

__all__ = ["counted", "instance", "nearest", "number", "pair", "positional", "precision", "several", "shown", "whole"]

P = ParamSpec("P")
R = TypeVar("R")


def shown(value: Any) -> str:
    """How a message of one line writes a value: what has a shape by its kind and shape."""
    if isinstance(shape := getattr(value, "shape", None), tuple) and shape:
        return f"{type(value).__name__} of shape {tuple(shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 300 else f"{text[:300]}..."


def counted(n: int, noun: str) -> str:
    """How a message writes a number of things: 1 row, 2,000 rows."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def positional(most: int, mend: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For a function that is often called with more than `most` positional arguments: OptionError, with the `mend`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            if len(args) > most:
                raise OptionError(f"{mend}; got {', '.join(map(shown, args[most:]))} besides")
            return function(*args, **kwargs)

        return checked

    return decorate


def instance(name: str, value: Any, kind: Any) -> Any:
    """`value` if it is of the class `kind`, or of one of several (A | B); of a class given in its place, an object."""
    if isinstance(value, type):
        try:
            value = value()
        except TypeError:
            raise OptionError(f"{name} must be an object of the class: write {value.__name__}(...)") from None
    if not isinstance(value, kind):
        kinds = " or ".join(each.__name__ for each in getattr(kind, "__args__", (kind,)))
        hint = "; make the object, names are not taken here" if isinstance(value, str) else ""
        raise OptionError(f"{name} must be an instance of {kinds}, got {shown(value)}{hint}")
    return value


def nearest(name: Any, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known: which known one it looks like, if any."""
    near = difflib.get_close_matches(str(name), known, 1)
    return f". Did you mean {near[0]!r}?" if near else ""


def several(name: str, value: Any, kind: Any) -> list[Any]:
    """A list of instances of `kind`, from a single one, from an iterable of them, or from None."""
    single = isinstance(value, kind) or not isinstance(value, Iterable | None)
    return [instance(name, each, kind) for each in ([value] if single else value or ())]


def number(
    name: str,
    value: Any,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> float:
    """`value` as a float, if it is a finite real number within the bounds.

    A float of Python's own: one of NumPy would bring its own precision into every product with it.
    """
    real = isinstance(value, numbers.Real) and math.isfinite(value)
    if not (real and at_least <= value <= at_most and above < value < below):
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (("at least", at_least), ("above", above), ("at most", at_most), ("below", below))
            if math.isfinite(bound)
        ]
        expected = " and ".join(bounds) or "a number"
        if bounds and isinstance(value, str):  # which looks like a number in the message
            expected = f"a number, {expected}"
        raise OptionError(f"{name} must be {expected}, got {shown(value)}")
    return float(value)


def whole(name: str, value: Any, *, at_least: int = 0) -> int:
    """`value` as an int, if it is a whole number and not too small."""
    try:
        result = operator.index(value)
    except TypeError:
        result = None
    if result is None or result < at_least:
        raise OptionError(f"{name} must be a whole number, {at_least} or more, got {shown(value)}")
    return result


def pair(name: str, value: Any, *, at_least: int = 0) -> tuple[int, int]:
    """(rows, columns) from two whole numbers, or from one that is meant for both."""
    both = value if isinstance(value, list | tuple) else (value, value)
    if len(both) != 2:
        raise OptionError(f"{name} must be a whole number or two of them, (rows, columns), got {shown(value)}")
    return whole(name, both[0], at_least=at_least), whole(name, both[1], at_least=at_least)


def precision(dtype: Any) -> str:
    """The name of a data type that networks compute in."""
    name = str(dtype)
    if name not in ("float32", "float64"):
        raise OptionError(f"dtype {name!r} is not known; expected float32 or float64")
    return name
