"""Examples and their targets, side by side."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpunn.errors import DataError
from gpunn.rng import generator

__all__ = ["Dataset"]


@dataclass(frozen=True)
class Dataset:
    """Inputs x (N, D) and targets y (N,) or (N, C), in any array type; `x, y = dataset` takes them out.

    `image_shape` is the (height, width, channels) of a row of x where rows are images, `classes` the names of the
    classes 0, 1, ... where the targets are class numbers.
    """

    x: Any
    y: Any
    image_shape: tuple[int, int, int] | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise DataError(f"{len(self.x)} inputs but {len(self.y)} targets: each input needs one")

    def __len__(self) -> int:
        return len(self.x)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.x, self.y))

    def __getitem__(self, rows: Any) -> "Dataset":
        """The rows that a slice or an array of row numbers names, such as `train[:1000]`."""
        return Dataset(self.x[rows], self.y[rows], self.image_shape, self.classes)

    @property
    def images(self) -> Any:
        """x as images (N, height, width, channels). Raises DataError where the rows are not images."""
        if self.image_shape is None:
            raise DataError("the rows of this data set are not images")
        return self.x.reshape((-1, *self.image_shape))

    def split(self, fraction: float, seed: int = 0) -> tuple["Dataset", "Dataset"]:
        """(rest, part): `fraction` of the rows, drawn at random by the seed, and all others."""
        rest, part = split_rows(len(self), fraction, seed)
        return self[rest], self[part]


def split_rows(n: int, fraction: float, seed: int) -> tuple[Any, Any]:
    """Row numbers of (rest, part) for a random part of n rows. Raises DataError unless both have at least one row."""
    size = round(fraction * n)
    if not 0 < size < n:
        raise DataError(f"a part of {fraction:g} of {n} rows has {size}: it and the rest must each have at least one")
    order = generator(seed, "split").permutation(n)
    return order[size:], order[:size]
