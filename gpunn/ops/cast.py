"""The same numbers in another data type."""

from typing import Any

from gpunn.device import Array, namespace
from gpunn.ops._op import op

__all__ = ["cast"]


@op
def cast(x: Array, dtype: Any, *, out: Array | None = None) -> Array:
    """x in a data type of its library, each number rounded to the nearest; x itself where it is of that type.

    `out`, where it is given, is an array of that type and shape, and takes the numbers.
    """
    y = namespace(x).astype(x, dtype, copy=False)
    if out is None:
        return y
    out[...] = y
    return out
