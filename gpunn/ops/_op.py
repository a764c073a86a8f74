"""The @op decorator: an op called by name runs its twin from `gpunn.kernels` where there is one for these arrays."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["op", "reference"]

F = TypeVar("F", bound=Callable[..., Any])


def op(reference: F) -> F:
    """Let a twin stand in for `reference` when there is one for the type of the first array.

    The look-up is made once for each type. `.reference` is the function as written, whatever twins there are.
    """
    chosen: dict[type, Callable[..., Any]] = {}

    @functools.wraps(reference)
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            function = chosen[type(x)]
        except KeyError:
            from gpunn.kernels import find

            function = chosen[type(x)] = find(reference.__name__, type(x)) or reference
        return function(x, *args, **kwargs)

    call.reference = reference  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def reference(of: Callable[..., Any]) -> Callable[..., Any]:
    """The function of an op as it is written in `gpunn.ops`, for a twin that leaves some arrays to it."""
    return of.reference  # type: ignore[attr-defined]
