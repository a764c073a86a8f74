"""Reading arrays from files: IDX (the format of MNIST) and .npz. A damaged file is named, with what is wrong in it."""

import gzip
import math
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gpunn.data.dataset import Dataset
from gpunn.errors import DataError, FileError

__all__ = ["read_idx", "read_npz"]

# http://yann.lecun.com/exdb/mnist: two zero bytes, the type, the number of axes, each axis as a big-endian uint32, data
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_AXES = 64  # of a NumPy array
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
    except (OSError, zlib.error, MemoryError) as error:  # gzip.BadGzipFile is an OSError
        raise FileError(f"{path}: cannot be read: {_reason(error)}") from None


def _parse_idx(stream: BinaryIO, path: Path) -> np.ndarray:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES:
        what = "the file is empty" if not magic else f"it begins with {magic.hex(' ')}, an IDX file with 00 00 08"
        raise FileError(f"{path}: not an IDX file: {what}")
    if not 1 <= magic[3] <= _MOST_AXES:
        raise FileError(
            f"{path}: its header gives {magic[3]} axes, expected 1 to {_MOST_AXES}; download the file again"
        )
    dtype = np.dtype(_IDX_TYPES[magic[2]])
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise FileError(f"{path}: the IDX header ends early; download the file again")
    shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4))
    size = math.prod(shape) * dtype.itemsize
    limit = path.stat().st_size * (_DEFLATE_LIMIT if path.suffix == ".gz" else 1)
    if size > limit:  # before anything of that size is allocated
        raise FileError(
            f"{path}: its header promises {size:,} bytes of data for shape {shape}, more than the file can hold; "
            "download the file again"
        )
    if 0 in shape:
        raise FileError(f"{path}: its header gives shape {shape}: there are no examples in it")
    data = stream.read(size + 1)  # reading past the end also makes gzip check its length and checksum
    if len(data) != size:
        found = f"only {len(data):,}" if len(data) < size else "more"
        raise FileError(
            f"{path}: its header promises {size:,} bytes of data for shape {shape}, there are {found}; "
            "download the file again"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


_WHOLE, _DIVIDED = ("x", "y"), ("x_train", "y_train", "x_test", "y_test")  # the names of the arrays in a .npz file


def read_npz(path: str | Path) -> dict[str, Dataset]:
    """The data in a NumPy .npz file: {"train": ..., "test": ...}, or {"all": ...} where it is not divided.

    The arrays are named x and y, or x_train, y_train, x_test, y_test (capitals allowed). Inputs (N, D) are features;
    (N, height, width) or (N, height, width, channels) are images. Nothing is unpickled. Raises FileError or DataError.
    """
    path = Path(path)
    if path.is_file() and not zipfile.is_zipfile(path):
        raise FileError(f"{path}: not a .npz file, or a damaged one; write it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = archive.files
            names = {name.lower(): name for name in found}
            wanted = next((some for some in (_DIVIDED, _WHOLE) if set(some) <= names.keys()), ())
            half = wanted == _WHOLE and names.keys() & set(_DIVIDED)  # some of which would be left unused
            arrays = {name: np.asarray(archive[names[name]]) for name in wanted}  # bytes if they are no .npy
    except Exception as error:  # zipfile, its decompressors and NumPy raise a dozen kinds over a damaged file
        raise FileError(
            f"{path}: cannot be read as .npz: {_reason(error)}; write it with numpy.savez, from arrays of numbers"
        ) from None
    if sum(name.lower() in wanted for name in found) != len(wanted) or half or not wanted:
        listed = ", ".join(found) or "none"
        raise FileError(
            f"{path}: expected arrays named x and y, or x_train, y_train, x_test and y_test, each once; found {listed}"
        )
    if wanted == _WHOLE:
        return {"all": _from_arrays(path, **arrays)}
    for name in ("x", "y"):
        first, second = arrays[f"{name}_train"], arrays[f"{name}_test"]
        one_is_bytes = name == "x" and (first.dtype == np.uint8) != (second.dtype == np.uint8)  # and would be scaled
        if first.shape[1:] != second.shape[1:] or one_is_bytes:
            raise DataError(
                f"{path}: {name}_train is {first.dtype} {first.shape} and {name}_test {second.dtype} {second.shape}; "
                "they must be alike but for the number of rows"
            )
    return {part: _from_arrays(path, arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")}


def _from_arrays(path: Path, x: np.ndarray, y: np.ndarray) -> Dataset:
    for name, values in (("x", x), ("y", y)):
        if values.dtype.kind not in "biuf":
            names = name == "y" and values.dtype.kind in "US"
            mend = "; number the classes, with numpy.unique(y, return_inverse=True)[1]" if names else ""
            raise FileError(f"{path}: {name} holds {values.dtype}, expected numbers{mend}")
        if values.size == 0:
            raise DataError(f"{path}: {name} has shape {values.shape}: there are no examples in it")
    if x.ndim not in (2, 3, 4):
        raise DataError(
            f"{path}: x has shape {x.shape}; expected (N, D), (N, height, width) or (N, height, width, channels)"
        )
    if y.ndim not in (1, 2):
        raise DataError(f"{path}: y has shape {y.shape}; expected (N,) or (N, C)")
    if len(x) != len(y):
        raise DataError(f"{path}: {len(x)} inputs but {len(y)} targets: each input needs one")
    image_shape = None
    if x.ndim > 2:
        height, width, channels = (*x.shape[1:], 1)[:3]
        image_shape = (int(height), int(width), int(channels))
    elif x.dtype == np.uint8:
        x = x.astype(np.float32)  # features that are small numbers, not pixels to be scaled
    x, y = x.reshape(len(x), -1), y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    for name, values in (("x", x), ("y", y)):
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            raise DataError(
                f"{path}: {name}[{np.argmin(finite)}] contains NaN or infinity: remove such rows, or fill them in"
            )
    return Dataset(_native(x), _native(y), image_shape)


def _native(x: np.ndarray) -> np.ndarray:
    """x in this machine's order of bytes, the only one that all array libraries take."""
    return x.astype(x.dtype.newbyteorder("="), copy=False)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
