"""Pictures in folders, one folder for each class (needs Pillow, the extra "image")."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gpunn.data.dataset import Dataset
from gpunn.data.image import open_picture, picture_size, scaled
from gpunn.errors import DataError, FileError

__all__ = ["read_folder"]

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_LARGEST = 64  # pixels of a side; pictures up to that, all of one size, stay as they are
_USUAL = (32, 32)


def read_folder(path: str | Path, size: Sequence[int] = ()) -> dict[str, Dataset]:
    """The pictures in path/CLASS/: {"all": ...}, or {"train": ..., "test": ...} where path holds folders of that name.

    Those have the folders of the classes in them. x is bytes, (N, height * width * channels), with one channel where
    no picture has colour, else three. All pictures are brought to one `size` (height, width), whatever their
    proportions: where none is given, their own if all have the same up to 64 x 64, else 32 x 32. `note` says so. Hidden
    files, and those that do not end like a picture, are left alone. Raises FileError for a picture that cannot be read,
    DataError for a folder without pictures, or classes that are not the same in train and test.
    """
    path = Path(path)
    names = [folder.name for folder in _folders(path)]
    parts = ["train", "test"] if {"train", "test"} <= set(names) else [""]
    found = {part: _pictures(path / part) for part in parts}
    classes = [folder.name for folder in _folders(path / parts[0])]
    for part, pictures in found.items():
        if unknown := sorted({name for name, _ in pictures} - set(classes)):
            listed = ", ".join(classes)
            raise DataError(
                f"{path / part / unknown[0]}: no class of that name is in {path / 'train'}, which has {listed}; move it"
            )
    number = {name: i for i, name in enumerate(classes)}
    sizes = sorted({picture_size(file) for pictures in found.values() for _, file in pictures})
    common = sizes[0] if len(sizes) == 1 and max(sizes[0]) <= _LARGEST else _USUAL
    height, width = size or common
    note = ""
    if sizes != [(height, width)]:
        of = " to ".join("x".join(map(str, s)) for s in dict.fromkeys((sizes[0], sizes[-1])))
        note = f"pictures of {of} (height x width) brought to {height}x{width}"
    x = {
        part: np.stack([np.asarray(scaled(open_picture(file), (height, width)), np.uint8) for _, file in pictures])
        for part, pictures in found.items()
    }
    grey = all((pixels == pixels[..., :1]).all() for pixels in x.values())
    channels = 1 if grey else 3
    return {
        part or "all": Dataset(
            x[part][..., :channels].reshape(len(pictures), -1),
            np.array([number[name] for name, _ in pictures]),
            (int(height), int(width), channels),
            tuple(classes),
            note=note,
        )
        for part, pictures in found.items()
    }


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from None


def _pictures(path: Path) -> list[tuple[str, Path]]:
    """(class, file) of all pictures in the folders in `path`. Raises DataError where there are none."""
    folders = _folders(path)
    if not folders:
        raise DataError(f"{path}: there are no folders in it; put the pictures of each class in a folder of its name")
    found = []
    for folder in folders:
        files = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in _ENDINGS)
        files = [file for file in files if not file.name.startswith(".") and file.is_file()]
        if not files:
            listed = ", ".join(_ENDINGS[:3])
            raise DataError(
                f"{folder}: there are no pictures in it ({listed} ...); put some there, or remove the folder"
            )
        found += [(folder.name, file) for file in files]
    return found
