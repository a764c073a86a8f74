"""Data sets by name, each as (train, test)."""

import os
from pathlib import Path

import numpy as np

from gpunn.data.dataset import Dataset
from gpunn.data.files import read_idx
from gpunn.errors import FileError

__all__ = ["digits", "mnist"]

_DIGIT_NAMES = tuple("0123456789")

# SHA-256 and size of the decompressed files
_MNIST_FILES = {
    "train-images-idx3-ubyte": ("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016),
    "train-labels-idx1-ubyte": ("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008),
    "t10k-images-idx3-ubyte": ("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016),
    "t10k-labels-idx1-ubyte": ("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008),
}
_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def digits() -> tuple[Dataset, Dataset]:
    """(train, test): 1,438 and 359 handwritten digits of 8x8 pixels, x (N, 64) float32 from 0 to 1, y (N,) labels.

    The test set of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, UCI, 1998; CC BY 4.0), which ships
    with gpunn: 1,797 images by 13 writers. A fifth, drawn at random once and for all, is the test set here, so the same
    writers are in both.
    """
    folder = Path(__file__).parent / "digits"
    images, labels = read_idx(folder / "images-idx3-ubyte.gz"), read_idx(folder / "labels-idx1-ubyte.gz")
    x = images.reshape(-1, 64).astype(np.float32) / 16
    everything = Dataset(x, labels.astype(np.int64), (8, 8, 1), _DIGIT_NAMES)
    return everything.split(0.2, seed=0)


def mnist(data_dir: str | Path | None = None) -> tuple[Dataset, Dataset]:
    """(train, test): 60,000 and 10,000 handwritten digits of 28x28 pixels, x (N, 784) uint8, y (N,) labels.

    MNIST (LeCun, Cortes and Burges, 1998; CC BY-SA 3.0). The four IDX files, .gz or not, are looked for in `data_dir`,
    or the folder that the environment variable GPUNN_DATA_DIR names, there or in "mnist" below it. Files that are
    missing are downloaded into that folder, or the user's cache where none is named. Raises FileError.
    """
    from gpunn.data.download import cache_folder  # here, because urllib takes as long to import as the rest of gpunn

    named = data_dir or os.environ.get("GPUNN_DATA_DIR")
    folder = Path(named) if named else cache_folder() / "mnist"
    if named and not folder.is_dir():
        source = "data_dir" if data_dir else "GPUNN_DATA_DIR"
        raise FileError(f"{folder}: there is no such folder, and {source} names it; make it, or name another")
    arrays = {name: read_idx(_find(folder, name)) for name in _MNIST_FILES}
    parts = []
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        images, labels = arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"]
        for array, shape in ((images, (count, 28, 28)), (labels, (count,))):
            if array.shape != shape or array.dtype != np.uint8:
                raise FileError(
                    f"{folder}: the MNIST {part} files hold {array.dtype} {array.shape}, expected uint8 {shape}; "
                    "remove them, and they are downloaded"
                )
        parts.append(Dataset(images.reshape(count, 784), labels.astype(np.int64), (28, 28, 1), _DIGIT_NAMES))
    return parts[0], parts[1]


def _find(folder: Path, name: str) -> Path:
    for place in (folder, folder / "mnist"):
        for candidate in (place / name, place / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    from gpunn.data.download import fetch_gzip

    target = folder if folder.name == "mnist" else folder / "mnist"
    return fetch_gzip(f"{name}.gz", _MNIST_MIRRORS, target, *_MNIST_FILES[name])
