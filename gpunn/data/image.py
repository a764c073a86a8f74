"""Pictures and drawings for a network that was trained on images. Reading files needs Pillow, the extra "image"."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.checks import number, whole
from gpunn.errors import FileError, OptionError

__all__ = ["centre", "image_shape", "ink_of", "open_picture", "picture_size", "read_image", "scaled", "shrink"]


def image_shape(about: Mapping[str, Any]) -> tuple[int, int, int]:
    """(height, width, channels) of a network's images, as its `about` tells. Raises OptionError unless it does."""
    sizes = about.get("image_shape")
    if not isinstance(sizes, list | tuple) or len(sizes) != 3:
        raise OptionError(f'net.about: "image_shape" must be [height, width, channels], got {sizes!r:.60}')
    height, width, channels = (whole('net.about: "image_shape"', size, at_least=1) for size in sizes)
    return height, width, channels


def ink_of(about: Mapping[str, Any]) -> tuple[float, float | None]:
    """(the value of full ink, how many pixels the ink of an image is long), as a network's `about` tells.

    The second is None where images were not cut out. Raises OptionError for what cannot be.
    """
    white, box = about.get("white", 1.0), about.get("box")
    longer = max(image_shape(about)[:2])
    return (
        number('net.about: "white"', white, above=0.0),
        None if box is None else number('net.about: "box"', box, above=0.0, at_most=longer),
    )


def read_image(path: str | Path, about: Mapping[str, Any]) -> np.ndarray:
    """A picture as one input (D,) of a network, whose `about` gives "image_shape" = (height, width, channels).

    A picture of that size is taken as it is. Any other is brought to it: with "box" among `about` as MNIST was made,
    the ink scaled until its longer side has "box" pixels and moved until its centre of mass is in the middle; without
    it, just scaled, dark ink on light paper inverted. With "ink" false it is any picture, which is scaled and no more.
    Pixels come from 0 to "white" (1 if not said). Raises FileError for what is not a picture, or has no ink on it.
    """
    height, width, channels = image_shape(about)
    if channels not in (1, 3):
        raise FileError(f"{path}: the network expects images of {channels} channels; a picture has 1 or 3")
    picture = open_picture(path).convert("L" if channels == 1 else "RGB")
    white, box = ink_of(about)
    if about.get("ink", True):
        pixels = np.asarray(picture)
        if pixels.min() == pixels.max():
            raise FileError(f"{path}: there is nothing on this picture: all its pixels are the same")
        if channels == 1 and picture.size != (width, height):
            if box is not None:
                return _centred(picture, box, (height, width), path).reshape(-1) * (white / 255)
            if _paper(pixels) > 127:
                from PIL import ImageOps

                picture = ImageOps.invert(picture)
    return np.asarray(scaled(picture, (height, width)), dtype=np.float64).reshape(-1) * (white / 255)


def open_picture(path: str | Path) -> Any:
    """A picture in RGB of 8 bits, as it is to be looked at. Raises FileError for what is none."""
    with _opened(path) as file:
        from PIL import Image, ImageOps

        picture = ImageOps.exif_transpose(file)
        if picture.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
            picture = Image.fromarray(np.clip(np.asarray(picture) / 257, 0, 255).astype(np.uint8))
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            picture = _on_paper(picture.convert("RGBA"))
        return picture.convert("RGB")


def picture_size(path: str | Path) -> tuple[int, int]:
    """(height, width) by the first bytes of the file, before it is turned upright. Raises FileError."""
    with _opened(path) as file:
        return file.height, file.width


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    try:
        from PIL import Image
    except ImportError:
        raise FileError(f"{path}: reading pictures needs Pillow: pip install pillow") from None
    try:
        with warnings.catch_warnings():
            # of a large photograph; beyond twice the size that is warned of Pillow raises an error
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                yield file
    except FileNotFoundError:
        raise FileError(f"{path}: there is no such file; a path begins in the folder you are in") from None
    except Exception as error:  # Pillow raises a dozen kinds over a damaged file
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{path}: cannot be read as a picture: {reason}; use another copy") from None


def scaled(picture: Any, size: tuple[int, int]) -> Any:
    """A picture of this (height, width), whatever proportions it had."""
    from PIL import Image

    height, width = size
    return picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.BOX)


def _on_paper(picture: Any) -> Any:
    """A picture with transparent parts on white paper; on black if it is light strokes on little else."""
    from PIL import Image

    pixels = np.asarray(picture, dtype=np.float64)
    light = np.average(pixels[..., :3].mean(axis=-1), weights=pixels[..., 3] + 1e-9) > 127
    strokes = pixels[..., 3].mean() < 127
    return Image.alpha_composite(Image.new("RGBA", picture.size, "black" if light and strokes else "white"), picture)


def _paper(pixels: np.ndarray) -> float:
    """How light the edge of a picture (height, width) is."""
    return float(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))


def _centred(picture: Any, box: float, size: tuple[int, int], path: str | Path) -> np.ndarray:
    """The picture's ink, `box` pixels long and centred by mass, from 0 to 255 in an array of `size` = (h, w)."""
    from PIL import Image

    picture.thumbnail((1024, 1024), Image.Resampling.BOX)  # so that a photograph needs little time
    pixels = np.asarray(picture, dtype=np.float64)
    ink = abs(pixels - _paper(pixels))
    if ink.max() < 16:
        raise FileError(f"{path}: there is nothing on this picture: its pixels hardly differ")
    ink *= 255 / ink.max()
    ink = np.where(ink > 0.2 * 255, ink, 0.0)  # paper is never quite even
    return centre(ink, box, size)


def centre(ink: np.ndarray, box: float, size: tuple[int, int]) -> np.ndarray:
    """A drawing (H, W) as the images of MNIST were made: an array of `size` = (h, w), ink in the middle of it.

    The ink is scaled until its longer side has `box` pixels, and moved until its centre of mass is in the middle. `ink`
    is 0 where there is none, and must not be 0 everywhere.
    """
    sums = ink.sum(axis=1), ink.sum(axis=0)  # of the rows, of the columns
    spans = [(int(np.flatnonzero(s)[0]), int(np.flatnonzero(s)[-1]) + 1) for s in sums]
    scale = max(end - start for start, end in spans) / box  # pixels of the drawing to one of the result
    frame = []
    for s, (start, end), n in zip(sums, spans, size, strict=True):
        # MNIST's centre of mass lies half a pixel beyond the middle: on pixel 14 of 0 ... 27, whose centre is at 14.5
        middle = n / 2 + 0.5 if box < n else n / 2
        mass = (s @ (np.arange(len(s)) + 0.5)) / s.sum()
        first = mass - middle * scale
        first = min(max(first, end - n * scale), start)  # but all the ink stays inside
        frame.append((first, first + n * scale))
    return shrink(ink, frame, size)


def shrink(image: np.ndarray, frame: Sequence[tuple[float, float]], size: tuple[int, int]) -> np.ndarray:
    """The means of an image (H, W) over the cells of a grid of `size` = (h, w) laid over a part of it: y = A x B^T.

    A_ij is the share of row j in row i of the grid, B the same for columns. The grid reaches over `frame` = ((top,
    bottom), (left, right)), in pixels; outside the image all is 0.
    """
    A, B = (_shares(*ends, n, N) for ends, n, N in zip(frame, size, image.shape, strict=True))
    return A @ image @ B.T


def _shares(first: float, last: float, n: int, N: int) -> np.ndarray:
    """(n, N): what part of each of n equal cells between `first` and `last` lies on each of the pixels 0 ... N - 1."""
    edges = np.linspace(first, last, n + 1)[:, None]
    pixels = np.arange(N)
    overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return np.maximum(overlap, 0.0) / ((last - first) / n)
