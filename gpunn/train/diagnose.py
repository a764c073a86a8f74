"""Finding out what went wrong."""

from gpunn.device import Array, namespace
from gpunn.errors import DataError
from gpunn.layers import Layer, Sequential

__all__ = ["finite", "refuse_gaps", "where_not_finite"]


def where_not_finite(layer: Layer, x: Array, name: str = "") -> str | None:
    """Where NaN or infinity first turns up as x passes through the layers: "the output of linear2", or None."""
    if not finite(x):
        return "the inputs"
    if isinstance(layer, Sequential):
        passing = x
        for child_name, child in layer.children().items():
            found = where_not_finite(child, passing, f"{name}.{child_name}" if name else child_name)
            if found:
                return found
            passing = child.infer(passing)
    for param_name, param in layer.params().items():
        if not finite(param.value):
            return f"the weights {name}.{param_name}" if name else f"the weights {param_name}"
    return None if finite(layer.infer(x)) else f"the output of {name or type(layer).__name__}"


def finite(x: Array) -> bool:
    """Whether all numbers are: none is NaN or infinity."""
    xp = namespace(x)
    return bool(xp.all(xp.isfinite(x)))


def refuse_gaps(x: Array, first: int = 0) -> None:
    """Raise DataError where inputs x (N, ...), of which the first is row `first`, hold NaN or infinity."""
    if finite(x):
        return
    xp = namespace(x)
    bad = xp.any(xp.reshape(~xp.isfinite(x), (x.shape[0], -1)), axis=1)
    row, dtype = first + int(xp.argmax(xp.astype(bad, xp.int32))), str(x.dtype).rpartition(".")[2]
    raise DataError(
        f"the inputs contain NaN or infinity, first in row {row}, in {dtype}: remove such rows, or fill them in"
    )
