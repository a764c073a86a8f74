"""Safetensors files: named arrays and a description in JSON, read without running anything they contain."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.errors import FileError, OptionError
from gpunn.io.atomic import write_atomic

__all__ = ["read_tensors", "write_tensors"]

_FORMAT = 1  # of the description; raised when an older gpunn could not read a newer file


def write_tensors(path: str | Path, kind: str, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write arrays and a description, of a kind such as "network", whole or not at all. Raises FileError."""
    from safetensors.numpy import save

    # safetensors 0.8 writes the memory of an array as it lies, which is wrong for all but C order
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    try:
        about = {"kind": kind, "format": _FORMAT, "crc32": _checksum(contiguous), **about}
        about = json.loads(json.dumps(about))  # as it will be read
        description = json.dumps({**about, "about_crc32": _checksum_of(about)})
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(
            f"{path}: the description of a {kind} must be made of JSON's types, numbers, text, lists and dicts: {error}"
        ) from None
    write_atomic(path, save(contiguous, metadata={"gpunn": description}))


def read_tensors(path: str | Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, description) of a file that `write_tensors` wrote.

    Raises FileError for a file that is missing, damaged, of another kind, of a later version, or with NaN in it.
    """
    from safetensors import safe_open

    path = Path(path)
    if path.is_dir():
        raise FileError(f"{path}: is a folder, expected a file; name one in it, such as the model.safetensors of a run")
    if not path.is_file():
        raise FileError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
            arrays = {name: file.get_tensor(name) for name in names} if "gpunn" in metadata else {}
    except Exception as error:  # safetensors and NumPy raise several kinds over a damaged file
        what = _foreign(path) or f"not a safetensors file, or a damaged one: {error}; use another copy"
        raise FileError(f"{path}: {what}") from None
    try:
        about = json.loads(metadata["gpunn"])
        found, version = about["kind"], int(about["format"])
        damaged = about.pop("about_crc32", None) not in (None, _checksum_of(about))  # older files have none
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        hint = f"; {_OF_TORCH}" if any(name.endswith("weight") for name in names) else ""
        raise FileError(
            f"{path}: a safetensors file that gpunn did not write; it lacks the description of a {kind}{hint}"
        ) from None
    if found != kind:
        raise FileError(f"{path}: holds a {found}, expected a {kind}; name another file")
    if version > _FORMAT:
        raise FileError(
            f"{path}: written by a later version of gpunn (format {version}); this one reads up to {_FORMAT}; "
            "update gpunn"
        )
    if damaged:
        raise FileError(f"{path}: its description is not that which was written; use another copy")
    if about.get("crc32", _checksum(arrays)) != _checksum(arrays):
        raise FileError(f"{path}: its numbers are not those that were written; use another copy")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FileError(f"{path}: {name!r} contains NaN or infinity; use an earlier copy")
    return arrays, about


_OF_TORCH = (
    "weights of PyTorch's come without their layers: make a network, load them with torch or safetensors.torch, and "
    "give both to gpunn.io.from_torch_state_dict(net, weights)"
)
_PICKLE = "a pickle, which may run any program when it is read: gpunn reads none"
_FOREIGN = {  # by their first bytes
    b"PK\x03\x04": f"a zip archive, such as PyTorch's .pt or NumPy's .npz; {_OF_TORCH}",
    b"\x80\x02\x8a": _PICKLE,
    b"\x80\x04\x95": _PICKLE,
    b"\x80\x05\x95": _PICKLE,
    b"\x89HDF": "an HDF5 file, such as Keras writes, which gpunn does not read",
}


def _foreign(path: Path) -> str | None:
    """What a file of another program's is; None where it is none of these, or cannot be opened."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return None
    return next((what for first, what in _FOREIGN.items() if start.startswith(first)), None)


def _checksum_of(about: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(about).encode())


def _checksum(arrays: Mapping[str, np.ndarray]) -> int:
    crc = 0
    for name in sorted(arrays):
        little_endian = arrays[name].dtype.newbyteorder("<")  # as it lies in the file
        crc = zlib.crc32(np.ascontiguousarray(arrays[name], little_endian).data, crc)
    return crc
