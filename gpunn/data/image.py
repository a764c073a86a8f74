"""Reading pictures for a network that was trained on images (needs Pillow, the extra "image")."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.errors import FileError

__all__ = ["read_image"]


def read_image(path: str | Path, about: Mapping[str, Any]) -> np.ndarray:
    """A picture as one input (D,) of a network, whose `about` gives "image_shape" = (height, width, channels).

    A picture of that size is taken as it is. Any other is brought to it: with "box" among `about` as MNIST was made,
    the ink scaled until its longer side has "box" pixels and moved until its centre of mass is in the middle; without
    it, just scaled. Dark ink on light paper is inverted then. Pixels come from 0 to "white" (1 if not said). Raises
    FileError for what is not a picture, or has nothing on it.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise FileError(f"{path}: reading pictures needs Pillow: pip install pillow") from None
    height, width, channels = about["image_shape"]
    if channels not in (1, 3):
        raise FileError(f"{path}: the network expects images of {channels} channels; a picture has 1 or 3")
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:  # on white paper
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            picture = picture.convert("L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FileError(f"{path}: cannot be read as a picture: {error}") from None
    if picture.size != (width, height):
        if channels == 1 and _light(np.asarray(picture)):
            picture = ImageOps.invert(picture)
        if channels == 1 and "box" in about:
            picture = _centred(picture, about["box"], (width, height), path)
        else:
            picture = picture.resize((width, height), Image.Resampling.BOX)
    white = float(about.get("white", 1.0))
    return np.asarray(picture, dtype=np.float64).reshape(-1) * (white / 255)


def _light(pixels: np.ndarray) -> bool:
    """Whether the edge of the picture is rather light than dark."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return bool(edge.mean() > 127)


def _centred(picture: Any, box: int, size: tuple[int, int], path: str | Path) -> Any:
    """The picture's ink, `box` pixels long and centred by mass in a picture of `size`."""
    from PIL import Image, ImageOps

    ink = np.asarray(picture, dtype=np.float64)
    ink = np.where(ink > 0.2 * ink.max(), ink, 0.0)  # paper is never quite black
    rows, columns = ink.sum(axis=1), ink.sum(axis=0)
    if not rows.any():
        raise FileError(f"{path}: there is nothing on this picture")
    spans = [(np.flatnonzero(sums)[0], np.flatnonzero(sums)[-1] + 1) for sums in (columns, rows)]
    scale = max(end - start for start, end in spans) / box  # pixels of the picture to one of the input
    frame = []
    for sums, (start, end), n in zip((columns, rows), spans, size, strict=True):
        # MNIST's centre of mass lies half a pixel beyond the middle: on pixel 14 of 0 ... 27, whose centre is at 14.5
        middle = n / 2 + 0.5 if box < n else n / 2
        mass = (sums @ (np.arange(len(sums)) + 0.5)) / sums.sum()
        left = mass - middle * scale
        left = min(max(left, end - n * scale), start)  # but all the ink stays inside
        frame.append((left, left + n * scale))
    margin = int(max(n * scale for n in size)) + 1  # so that the frame never reaches outside
    wide = ImageOps.expand(Image.fromarray(ink.astype(np.uint8)), margin, fill=0)
    (left, right), (top, bottom) = frame
    corners = (left + margin, top + margin, right + margin, bottom + margin)
    return wide.resize(size, Image.Resampling.BOX, box=corners)
