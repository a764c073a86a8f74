"""Files that are written whole or not at all, whenever the machine stops."""

import os
from contextlib import suppress
from pathlib import Path

from gpunn.errors import FileError

__all__ = ["publish", "remove_leftovers", "write_atomic"]

_MARK = ".gpunn-tmp"


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write `data` to `path`: to a temporary file beside it first, which takes the name once it is safely on the disk.

    So `path` holds the old contents or the new, never a part. Raises FileError where it cannot be written.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.{os.urandom(4).hex()}{_MARK}"
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise OSError("it is a device or a pipe, whose place a file would take")
        try:
            with temporary.open("xb") as stream:
                stream.write(data.encode() if isinstance(data, str) else data)
            publish(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{path}: cannot be written: {reason}; name another place") from None


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file its name: flush it to the disk, rename it, and flush the folder that holds the name."""
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed process left in `folder`."""
    for leftover in folder.glob(f".*{_MARK}"):
        with suppress(OSError):  # it is in nobody's way
            leftover.unlink()
