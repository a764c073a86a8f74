"""More examples from those there are: images moved, turned, bent and cut, which are still images of the same thing.

`trainer.fit(train, augment=[RandomAffine(shift=2), CutOut(8)])` changes each batch anew. What is drawn follows from the
seed, the epoch and the number of the batch alone, so it is the same on every device and in a run that is resumed.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpunn.checks import number, whole
from gpunn.data.dataset import Dataset
from gpunn.device import Array, device_of, namespace

__all__ = ["Augmentation", "CutOut", "Elastic", "RandomAffine", "expand_by_shifts"]

# From images (N, H, W, C), as numbers from 0 to 1, and a generator to changed images of the same shape.
Augmentation = Callable[[Array, np.random.Generator], Array]


@dataclass(frozen=True)
class RandomAffine:
    """Each image moved, turned and scaled about its middle, by amounts drawn evenly for each image.

    `shift` is the most in pixels down or across, `rotate` in degrees either way, `scale` the largest change of size:
    0.1 for 0.9 to 1.1. What comes in at the edge is 0; between pixels the values are mixed (bilinear).
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0

    def __post_init__(self) -> None:
        number("RandomAffine: shift", self.shift, at_least=0.0)
        number("RandomAffine: rotate", self.rotate, at_least=0.0, at_most=180.0)
        number("RandomAffine: scale", self.scale, at_least=0.0, below=1.0)

    def __call__(self, images: Array, rng: np.random.Generator) -> Array:
        n, h, w, _ = images.shape
        down, right = rng.uniform(-self.shift, self.shift, (2, n, 1, 1))
        angle = math.radians(1.0) * rng.uniform(-self.rotate, self.rotate, (n, 1, 1))
        size = 1.0 + rng.uniform(-self.scale, self.scale, (n, 1, 1))
        row, column = np.meshgrid(np.arange(h) - (h - 1) / 2, np.arange(w) - (w - 1) / 2, indexing="ij")
        cos, sin = np.cos(angle) / size, np.sin(angle) / size
        # the place in the old image that each new pixel comes from: the change undone
        return _sampled(
            images,
            cos * (row - down) - sin * (column - right) + (h - 1) / 2,
            sin * (row - down) + cos * (column - right) + (w - 1) / 2,
        )


@dataclass(frozen=True)
class Elastic:
    """Each image bent like rubber: every pixel comes from a place near it, and neighbours from neighbouring places.

    Displacements are drawn evenly from -1 to 1 for each pixel, smoothed with a Gaussian of `sigma` pixels and
    multiplied by `alpha` (Simard, Steinkraus and Platt, "Best practices for convolutional neural networks", 2003, who
    use 34 and 4 for digits of 29x29).
    """

    alpha: float = 34.0
    sigma: float = 4.0

    def __post_init__(self) -> None:
        number("Elastic: alpha", self.alpha, at_least=0.0)
        number("Elastic: sigma", self.sigma, above=0.0)

    def __call__(self, images: Array, rng: np.random.Generator) -> Array:
        n, h, w, _ = images.shape
        field = rng.uniform(-1.0, 1.0, (2, n, h, w))
        down, right = self.alpha * (self._blur(h) @ field @ self._blur(w).T)
        return _sampled(images, np.arange(h)[:, None] + down, np.arange(w) + right)

    def _blur(self, size: int) -> np.ndarray:
        """The Gaussian along one axis, as a matrix; each row sums to 1 far from the edges, beyond which all is 0."""
        away = np.arange(size)[:, None] - np.arange(size)
        return np.exp(-0.5 * (away / self.sigma) ** 2) / (self.sigma * math.sqrt(2.0 * math.pi))


@dataclass(frozen=True)
class CutOut:
    """A square of `size` pixels of each image set to 0, its middle anywhere in the image (DeVries and Taylor, 2017)."""

    size: int

    def __post_init__(self) -> None:
        whole("CutOut: size", self.size, at_least=1)

    def __call__(self, images: Array, rng: np.random.Generator) -> Array:
        n, h, w, _ = images.shape
        top, left = rng.integers(h, size=(n, 1)) - self.size // 2, rng.integers(w, size=(n, 1)) - self.size // 2
        rows = (np.arange(h) >= top) & (np.arange(h) < top + self.size)
        columns = (np.arange(w) >= left) & (np.arange(w) < left + self.size)
        kept = ~(rows[:, :, None] & columns[:, None, :])
        return images * namespace(images).astype(device_of(images).asarray(kept), images.dtype)[..., None]


def _sampled(images: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    """Images (N, H, W, C) whose pixels come from the places (rows, columns), each (N, H, W), between pixels of the old.

    The value between four pixels is their mean, weighted by nearness (bilinear); outside the image there is 0.
    """
    where, xp = device_of(images), namespace(images)
    n, h, w, c = images.shape
    top, left = np.floor(rows), np.floor(columns)
    flat = xp.reshape(images, (n * h * w, c))
    first = np.arange(n)[:, None, None] * (h * w)
    out = xp.zeros_like(flat)
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        weight = (1 - abs(rows - row)) * (1 - abs(columns - column))
        weight *= (row >= 0) & (row < h) & (column >= 0) & (column < w)
        place = first + np.clip(row, 0, h - 1) * w + np.clip(column, 0, w - 1)
        pixels = xp.take(flat, where.asarray(place.ravel().astype(np.int64)), axis=0)
        out += pixels * xp.astype(where.asarray(weight.ravel()), images.dtype)[:, None]
    return xp.reshape(out, images.shape)


def expand_by_shifts(data: Dataset) -> Dataset:
    """Five times as many images: each as it is, and moved by one pixel down, up, right and left.

    As Nielsen does in chapter 6. What comes in at the edge is 0. Raises DataError where the rows are not images.
    """
    xp, images = namespace(data.x), data.images
    n, h, w, c = images.shape
    framed = xp.zeros((n, h + 2, w + 2, c), dtype=images.dtype, device=device_of(images).native)
    framed[:, 1:-1, 1:-1, :] = images
    corners = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))  # as it is, down, up, right, left
    moved = xp.concat([framed[:, top : top + h, left : left + w, :] for top, left in corners], axis=0)
    x = xp.reshape(moved, (-1, *data.x.shape[1:]))
    y = namespace(data.y).concat([data.y] * len(corners), axis=0)
    return dataclasses.replace(data, x=x, y=y)
