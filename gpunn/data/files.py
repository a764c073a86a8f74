"""Reading data files: IDX (the format of MNIST), .npz and .csv. A damaged file is named, with what is wrong in it."""

import csv
import gzip
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gpunn.data.dataset import Dataset
from gpunn.errors import DataError, FileError

__all__ = ["read_csv", "read_idx", "read_npz"]

# http://yann.lecun.com/exdb/mnist: two zero bytes, the type, the number of axes, each axis as a big-endian uint32, data
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_DEFLATE_LIMIT = 1032  # no gzip stream is more than this many times shorter than its contents (zlib's technical notes)


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file, gzip-compressed (.gz) or not.

    Raises FileError for a file that is missing, is not IDX, ends early, goes on after its end, or whose sizes lie.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            return _parse_idx(stream, path)  # type: ignore[arg-type]
    except FileError:
        raise
    except EOFError:
        raise FileError(f"{path}: the compressed data ends early; download the file again") from None
    except (OSError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise FileError(f"{path}: cannot be read: {_reason(error)}") from None


def _parse_idx(stream: BinaryIO, path: Path) -> np.ndarray:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES:
        what = "the file is empty" if not magic else f"it begins with {magic.hex(' ')}, an IDX file with 00 00 08"
        raise FileError(f"{path}: not an IDX file: {what}")
    dtype = np.dtype(_IDX_TYPES[magic[2]])
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise FileError(f"{path}: the IDX header ends early; download the file again")
    shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4))
    size = math.prod(shape) * dtype.itemsize
    limit = path.stat().st_size * (_DEFLATE_LIMIT if path.suffix == ".gz" else 1)
    if size > limit:  # before anything of that size is allocated
        raise FileError(
            f"{path}: its header promises {size:,} bytes of data for shape {shape}, more than the file can hold"
        )
    if 0 in shape:
        raise FileError(f"{path}: its header gives shape {shape}: there are no examples in it")
    data = stream.read(size + 1)  # reading past the end also makes gzip check its length and checksum
    if len(data) != size:
        found = f"only {len(data):,}" if len(data) < size else "more"
        raise FileError(f"{path}: its header promises {size:,} bytes of data for shape {shape}, there are {found}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def read_npz(path: str | Path) -> dict[str, Dataset]:
    """The data in a NumPy .npz file: {"train": ..., "test": ...}, or {"all": ...} where it is not divided.

    The arrays are named x and y, or x_train, y_train, x_test, y_test (capitals allowed). Inputs (N, D) are features;
    (N, height, width) or (N, height, width, channels) are images. Nothing is unpickled. Raises FileError or DataError.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name.lower(): archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError) as error:
        raise FileError(f"{path}: cannot be read as .npz: {_reason(error)}") from None
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        parts = {part: (arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")}
    elif {"x", "y"} <= arrays.keys():
        parts = {"all": (arrays["x"], arrays["y"])}
    else:
        names = ", ".join(arrays) or "none"
        raise FileError(f"{path}: expected arrays named x and y, or x_train, y_train, x_test and y_test; found {names}")
    return {part: _from_arrays(path, x, y) for part, (x, y) in parts.items()}


def _from_arrays(path: Path, x: np.ndarray, y: np.ndarray) -> Dataset:
    for name, array in (("x", x), ("y", y)):
        if array.dtype.kind not in "biuf":
            raise FileError(f"{path}: {name} holds {array.dtype}, expected numbers")
        if array.size == 0:
            raise DataError(f"{path}: {name} has shape {array.shape}: there are no examples in it")
    if x.ndim not in (2, 3, 4):
        raise DataError(
            f"{path}: x has shape {x.shape}; expected (N, D), (N, height, width) or (N, height, width, channels)"
        )
    if len(x) != len(y):
        raise DataError(f"{path}: {len(x)} inputs but {len(y)} targets: each input needs one")
    image_shape = None
    if x.ndim > 2:
        height, width, channels = (*x.shape[1:], 1)[:3]
        image_shape = (int(height), int(width), int(channels))
    return Dataset(x.reshape(len(x), -1), y, image_shape)


def read_csv(path: str | Path, target: str | None = None) -> Dataset:
    """A table of numbers with one column to predict: `target` by its name, otherwise the last column.

    Separated by commas, semicolons or tabs; the first line holds the names of the columns if any of it is not a number
    (otherwise they are called 1, 2, ...). A target of text gives classes in alphabetical order. Raises FileError for a
    file that cannot be read, DataError that names the line and the column of a cell that is missing or not a number.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(_rows(stream, path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{path}: cannot be read as CSV in UTF-8: {_reason(error)}") from None
    if not rows:
        raise DataError(f"{path}: the file is empty")
    first = rows[0][1]
    names = [cell.strip() for cell in first]
    if all(_is_number(cell) for cell in first):
        names = [str(i + 1) for i in range(len(first))]
    else:
        rows = rows[1:]
    if not rows:
        raise DataError(f"{path}: there are no rows below the names of the columns")
    if len(names) < 2:
        raise DataError(
            f"{path}: only one column, {names[0]!r}; expected features and a target, separated by , or ; or tab"
        )
    if target is None:
        target = names[-1]
    if names.count(target) != 1:
        how = "no column" if target not in names else "more than one column"
        raise DataError(f"{path}: {how} is called {target!r}; the columns are {', '.join(names)}")
    column = names.index(target)
    x = np.empty((len(rows), len(names) - 1))
    labels = []
    for i, (line, cells) in enumerate(rows):
        if len(cells) != len(names):
            raise DataError(f"{path}, line {line}: {len(cells)} cells, expected {len(names)} as in the first line")
        labels.append(cells[column].strip())
        if not labels[-1]:
            raise DataError(f"{path}, line {line}: the target {target!r} is missing; remove the row or fill it in")
        x[i] = [_number(cell, path, line, names[k]) for k, cell in enumerate(cells) if k != column]
    if all(_is_number(label) for label in labels):
        values = np.array([float(label) for label in labels])
        if not np.isfinite(values).all():
            line = rows[int(np.argmin(np.isfinite(values)))][0]
            raise DataError(f"{path}, line {line}: the target {target!r} is not finite; remove the row or fill it in")
        whole = bool((values == np.round(values)).all())
        return Dataset(x, values.astype(np.int64) if whole else values)
    classes = sorted(set(labels))
    numbers = {label: i for i, label in enumerate(classes)}
    return Dataset(x, np.array([numbers[label] for label in labels]), classes=tuple(classes))


def _rows(stream: Iterator[str], path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every line that is not blank."""
    first = next(iter(stream), "")
    delimiter = max(",;\t", key=first.count)

    def lines() -> Iterator[str]:
        yield first
        yield from stream

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num, cells


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, path: Path, line: int, column: str) -> float:
    if not cell.strip():
        raise DataError(f"{path}, line {line}: column {column!r} is empty; remove the row or fill it in")
    try:
        value = float(cell)
    except ValueError:
        raise DataError(f"{path}, line {line}: column {column!r} holds {cell.strip()!r}, expected a number") from None
    if not math.isfinite(value):
        raise DataError(f"{path}, line {line}: column {column!r} holds {cell.strip()!r}; remove the row or fill it in")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
