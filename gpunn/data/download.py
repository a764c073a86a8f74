"""Fetching a file from a list of mirrors: continued where it stopped, checked by its contents, whole or not there."""

import gzip
import hashlib
import os
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path

from gpunn.errors import FileError
from gpunn.io.atomic import publish

__all__ = ["cache_folder", "fetch_gzip"]

_CHUNK = 1 << 16
_SILENCE = 30.0  # seconds without a byte before a mirror is given up


def cache_folder() -> Path:
    """Where downloaded data is kept: the user's cache folder on this system, then "gpunn"."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "gpunn"


def fetch_gzip(name: str, mirrors: Sequence[str], folder: Path, sha256: str) -> Path:
    """Download the gzip file `name` into `folder` from the first of the mirrors that has it right; returns its path.

    `sha256` is the hash of the decompressed contents, which is the same whoever compressed them. What an interrupted
    download left is continued. Raises FileError with what went wrong at each mirror.
    """
    if os.environ.get("GPUNN_OFFLINE"):
        raise FileError(f"{folder / name} is not there, and GPUNN_OFFLINE forbids to download it")
    target = folder / name
    problems = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for mirror in mirrors:
            url = mirror + name
            part = folder / f".{name}.{zlib.crc32(url.encode()):08x}.part"  # mirrors may have compressed it differently
            for attempt in ("continued", "fresh"):
                try:
                    resumed = _download(url, part)
                    found = _hash_of_contents(part)
                except (OSError, EOFError, zlib.error, ValueError) as error:
                    problems.append(f"{url}: {error}")
                    break  # what is there is kept, to be continued another time
                if found == sha256:
                    publish(part, target)
                    for other in folder.glob(f".{name}.*.part"):
                        other.unlink(missing_ok=True)
                    return target
                part.unlink()
                if not resumed or attempt == "fresh":
                    problems.append(f"{url}: its contents have SHA-256 {found[:12]}..., expected {sha256[:12]}...")
                    break
    except OSError as error:
        raise FileError(f"{folder}: cannot be written: {error.strerror or error}") from None
    raise FileError(
        f"{name} could not be downloaded: {'; '.join(problems)}. Get it by hand, and name its folder with --data-dir "
        "or GPUNN_DATA_DIR"
    )


def _download(url: str, part: Path) -> bool:
    """Load url into `part`, going on after the bytes that are there; whether any were."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_SILENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing after these bytes: they are the whole file
            return True
        raise
    with response:
        if response.status != 206:
            have = 0  # the mirror sends the file from its beginning
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        from tqdm import tqdm

        bar = tqdm(desc=part.name.split(".")[1], initial=have, total=total, unit="B", unit_scale=True, disable=None)
        with bar, part.open("ab" if have else "wb") as out:
            while chunk := response.read(_CHUNK):
                out.write(chunk)
                bar.update(len(chunk))
    if total is not None and part.stat().st_size < total:
        raise OSError(f"the connection ended after {part.stat().st_size:,} of {total:,} bytes")
    return have > 0


def _hash_of_contents(path: Path) -> str:
    digest = hashlib.sha256()
    with gzip.open(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
