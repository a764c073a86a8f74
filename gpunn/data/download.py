"""Fetching a file from a list of mirrors: continued where it stopped, checked by its contents, whole or not there."""

import gzip
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gpunn.errors import FileError
from gpunn.io.atomic import publish

__all__ = ["cache_folder", "fetch_gzip"]

_CHUNK = 1 << 16
_SILENCE = 30.0  # seconds without a byte before a mirror is given up


def cache_folder() -> Path:
    """Where downloaded data is kept: the user's cache folder on this system, then "gpunn"."""
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise FileError(
            f"there is no folder to keep data in: {error} Name one with --data-dir or GPUNN_DATA_DIR"
        ) from None
    return base / "gpunn"


def fetch_gzip(name: str, mirrors: Sequence[str], folder: Path, sha256: str, size: int) -> Path:
    """Download the gzip file `name` into `folder` from the first of the mirrors that has it right; returns its path.

    `sha256` and `size` are those of the decompressed contents, which are the same whoever compressed them. What an
    interrupted download left is continued. Raises FileError with what went wrong at each mirror.
    """
    if os.environ.get("GPUNN_OFFLINE"):
        raise FileError(
            f"{folder / name} is not there, and GPUNN_OFFLINE forbids to download it: get it by hand, and name its "
            "folder with --data-dir or GPUNN_DATA_DIR"
        )
    target = folder / name
    problems = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if target.is_file():  # by now: another process was quicker
                return target
            for mirror in mirrors:
                url = mirror + name
                part = folder / f".{name}.{zlib.crc32(url.encode()):08x}.part"  # mirrors may compress it differently
                problem = _fetch(url, part, sha256, size)
                if problem is None:
                    publish(part, target)
                    for other in folder.glob(f".{name}.*.part"):
                        other.unlink(missing_ok=True)
                    return target
                problems.append(f"{url}: {problem}")
    except OSError as error:
        raise FileError(f"{folder}: cannot be written: {error.strerror or error}; name another folder") from None
    raise FileError(
        f"{name} could not be downloaded: {'; '.join(problems)}. Get it by hand, and name its folder with --data-dir "
        "or GPUNN_DATA_DIR"
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until nobody else downloads into this folder, where the system can tell, and keep others waiting."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # closed it would still be held by a child process
        os.close(handle)


def _fetch(url: str, part: Path, sha256: str, size: int) -> str | None:
    """Bring the file at url into `part`; returns what went wrong, if anything did.

    A part that is right so far is kept, to be continued another time; one that is wrong is removed, and loaded anew if
    an earlier download had begun it.
    """
    limit = 2 * size + 1024  # no gzip file is so much longer than its contents
    while True:
        try:
            resumed, ended = _download(url, part, limit)
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = getattr(error, "reason", error)  # of the system, in the error that urllib makes of it
            return " ".join(str(getattr(cause, "strerror", None) or error).split()) or type(error).__name__
        try:
            problem = _wrong_contents(part, sha256, size)
        except EOFError:
            problem = "the compressed data ends early"
            if not ended:
                return problem
        except (gzip.BadGzipFile, zlib.error) as error:
            problem = str(error)
        if problem is None:
            return None
        part.unlink()
        if not resumed:
            return problem


def _download(url: str, part: Path, limit: int) -> tuple[bool, bool]:
    """Load url into `part`, going on after the bytes that are there, up to about `limit` bytes in all.

    Returns whether there were any, and whether there can be no more to come.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_SILENCE)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing after these bytes: they are the whole file
            return True, True
        raise
    with response:
        if response.status != 206:
            have = 0  # the mirror sends the file from its beginning
        resumed = have > 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        from tqdm import tqdm

        bar = tqdm(desc=part.name.split(".")[1], initial=have, total=total, unit="B", unit_scale=True, disable=None)
        with bar, part.open("ab" if have else "wb") as out:
            while have <= limit and (chunk := response.read(_CHUNK)):
                out.write(chunk)
                bar.update(len(chunk))
                have += len(chunk)
    if total is not None and have < min(total, limit):
        raise OSError(f"the connection ended after {have:,} of {total:,} bytes")
    return resumed, total is not None or have > limit


def _wrong_contents(path: Path, sha256: str, size: int) -> str | None:
    """What is wrong with the decompressed contents, if anything is."""
    digest, found = hashlib.sha256(), 0
    with gzip.open(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            found += len(chunk)
            if found > size:
                return f"it holds more than the {size:,} bytes expected"
    if digest.hexdigest() == sha256:
        return None
    return f"its contents have SHA-256 {digest.hexdigest()[:12]}..., expected {sha256[:12]}..."
