"""Examples and their targets, side by side."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpunn.checks import counted
from gpunn.device import device_of, namespace, to_host
from gpunn.errors import DataError
from gpunn.rng import generator

__all__ = ["Dataset"]


@dataclass(frozen=True)
class Dataset:
    """Inputs x (N, D) and targets y (N,) or (N, C), in any array type; `x, y = dataset` takes them out.

    `image_shape` is the (height, width, channels) of a row of x where rows are images, `classes` the names of the
    classes 0, 1, ... where the targets are class numbers, `table` the columns of the table that the rows come from,
    `note` what was done to the data on the way.
    """

    x: Any
    y: Any
    image_shape: tuple[int, int, int] | None = None
    classes: tuple[str, ...] = ()
    table: Any = None  # a gpunn.data.Table
    note: str = ""

    def __post_init__(self) -> None:
        for name, array in (("x", self.x), ("y", self.y)):
            namespace(array)  # raises DtypeError for what is no array
            if not array.shape:
                raise DataError(f"{name} is a single number, expected an array with a row for each example")
        if self.x.shape[0] != self.y.shape[0]:
            raise DataError(f"{self.x.shape[0]} inputs but {self.y.shape[0]} targets: each input needs one")

    def __len__(self) -> int:
        return self.x.shape[0]

    def __repr__(self) -> str:
        parts = [f"{name}={array.dtype} {tuple(array.shape)}" for name, array in (("x", self.x), ("y", self.y))]
        if self.classes:
            parts.append(f"{len(self.classes)} classes")
        return f"Dataset({', '.join(parts)})"

    def __iter__(self) -> Iterator[Any]:
        return iter((self.x, self.y))

    def __getitem__(self, rows: Any) -> "Dataset":
        """A copy of the rows that a slice, row numbers or a mask name: `train[:1000]`, `train[train.y == 3]`."""
        try:
            chosen = np.arange(len(self))[rows if isinstance(rows, slice) else to_host(rows)].reshape(-1)
        except IndexError as error:
            raise DataError(f"no such rows of a data set of {len(self)}: {error}") from None
        x, y = (namespace(a).take(a, device_of(a).asarray(chosen), axis=0) for a in self)
        return replace(self, x=x, y=y)

    @property
    def images(self) -> Any:
        """x as images (N, height, width, channels). Raises DataError where the rows are not images."""
        if self.image_shape is None:
            raise DataError("the rows of this data set are not images: image_shape is None")
        return namespace(self.x).reshape(self.x, (-1, *self.image_shape))

    def split(self, fraction: float, seed: int = 0) -> tuple["Dataset", "Dataset"]:
        """(rest, part): `fraction` of the rows, drawn at random by the seed, and all others."""
        rest, part = split_rows(len(self), fraction, seed)
        return self[rest], self[part]


def split_rows(n: int, fraction: float, seed: int) -> tuple[Any, Any]:
    """Row numbers of (rest, part) for a random part of n rows. Raises DataError unless both have at least one row."""
    size = round(fraction * n) if 0 < fraction < 1 else 0
    if not 0 < size < n:
        raise DataError(
            f"a part of {fraction:g} of {counted(n, 'row')} cannot be set aside: name a fraction between 0 and 1 that "
            "leaves at least one row on each side"
        )
    order = generator(seed, "split").permutation(n)
    return order[size:], order[:size]
