import gzip
import hashlib
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from gpunn.data import datasets, download, read_idx
from gpunn.data.datasets import digits, mnist
from gpunn.errors import FileError

NAMES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def digest(*arrays):
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


# --- digits


def test_digits_are_1438_and_359_images_from_0_to_1():
    for data, size in zip(digits(), (1438, 359), strict=True):
        assert data.x.shape == (size, 64)
        assert data.x.dtype == np.float32
        assert (data.x.min(), data.x.max()) == (0.0, 1.0)
        assert data.images.shape == (size, 8, 8, 1)
        assert data.y.shape == (size,)
        assert data.y.dtype == np.int64
        assert data.classes == tuple("0123456789")
        assert set(data.y.tolist()) == set(range(10))


def test_every_digit_that_ships_is_in_one_of_the_two_sets_once():
    folder = Path(datasets.__file__).parent / "digits"
    images, labels = read_idx(folder / "images-idx3-ubyte.gz"), read_idx(folder / "labels-idx1-ubyte.gz")
    shipped = np.column_stack([images.reshape(1797, 64), labels])
    found = np.concatenate([np.column_stack([np.round(data.x * 16), data.y]) for data in digits()]).astype(np.uint8)
    np.testing.assert_array_equal(found[np.lexsort(found.T)], shipped[np.lexsort(shipped.T)])
    np.testing.assert_array_equal(np.bincount(labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])


def test_the_two_sets_of_digits_stay_what_they_are():
    train, test = digits()
    assert digest(np.round(train.x * 16).astype(np.uint8), train.y.astype("<i8"))[:16] == "901b369ee19c5541"
    assert digest(np.round(test.x * 16).astype(np.uint8), test.y.astype("<i8"))[:16] == "3c5b6bc0fb7077da"


def test_digits_need_no_folder_and_no_network(monkeypatch):
    monkeypatch.setattr(download, "fetch_gzip", None)
    monkeypatch.setenv("GPUNN_DATA_DIR", "/nowhere")
    assert len(digits()[0]) == 1438


# --- MNIST


def idx(*shape, value=0):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes([value]) * int(np.prod(shape))


@pytest.fixture(scope="module")
def fake_mnist(tmp_path_factory):
    """A function that puts files of MNIST's sizes into a folder."""
    source = tmp_path_factory.mktemp("mnist")
    for name in NAMES:
        n = 60_000 if name.startswith("train") else 10_000
        data = idx(n, *((28, 28) if "images" in name else ()), value=n // 10_000)
        (source / name).write_bytes(data)
        (source / f"{name}.gz").write_bytes(gzip.compress(data, 1))

    def put(folder, suffix=""):
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            os.link(source / f"{name}{suffix}", folder / f"{name}{suffix}")

    return put


@pytest.fixture
def no_download(monkeypatch):
    def fetch_gzip(name, mirrors, folder, sha256, size):
        raise AssertionError(f"{name} was to be downloaded")

    monkeypatch.setattr(download, "fetch_gzip", fetch_gzip)


def test_mnist_is_70000_images_in_bytes(data_dir, no_download):
    train, test = mnist(data_dir)
    for data, size in ((train, 60_000), (test, 10_000)):
        assert data.x.shape == (size, 784)
        assert data.x.dtype == np.uint8
        assert data.images.shape == (size, 28, 28, 1)
        assert data.y.dtype == np.int64
        assert data.classes == tuple("0123456789")
    assert np.bincount(train.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_the_known_hashes_are_those_of_the_real_files(data_dir):
    for name, (sha256, size) in datasets._MNIST_FILES.items():
        data = gzip.decompress((data_dir / "mnist" / f"{name}.gz").read_bytes())
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (sha256, size)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("below", ["", "mnist"])
def test_mnist_is_found_in_the_folder_or_in_mnist_below_it(
    tmp_path, fake_mnist, no_download, suffix, below, monkeypatch
):
    fake_mnist(tmp_path / below, suffix)
    for named in (tmp_path, str(tmp_path)):
        assert mnist(named)[0].x[0, 0] == 6
    monkeypatch.setenv("GPUNN_DATA_DIR", str(tmp_path))
    train, test = mnist()
    assert (len(train), len(test)) == (60_000, 10_000)


def test_the_folder_that_is_given_comes_before_the_environment(tmp_path, fake_mnist, no_download, monkeypatch):
    fake_mnist(tmp_path)
    monkeypatch.setenv("GPUNN_DATA_DIR", str(tmp_path / "nowhere"))
    assert len(mnist(tmp_path)[0]) == 60_000


def test_a_folder_that_is_not_there_is_named_with_who_named_it(tmp_path, no_download, monkeypatch):
    with pytest.raises(
        FileError, match=r"none: there is no such folder, and data_dir names it; make it, or name anoth"
    ):
        mnist(tmp_path / "none")
    monkeypatch.setenv("GPUNN_DATA_DIR", str(tmp_path / "none"))
    with pytest.raises(FileError, match="none: there is no such folder, and GPUNN_DATA_DIR names it"):
        mnist()


@pytest.mark.parametrize("part", ["train", "t10k"])
@pytest.mark.parametrize("kind", ["images-idx3", "labels-idx1"])
def test_files_of_another_size_are_named(tmp_path, fake_mnist, no_download, part, kind):
    fake_mnist(tmp_path)
    (tmp_path / f"{part}-{kind}-ubyte").unlink()  # a link; what it leads to stays as it is
    (tmp_path / f"{part}-{kind}-ubyte").write_bytes(idx(100))
    with pytest.raises(FileError, match=rf"the MNIST {part} files hold uint8 \(100,\), expected uint8 .* remove them"):
        mnist(tmp_path)


def test_a_damaged_file_is_named(tmp_path, fake_mnist, no_download):
    fake_mnist(tmp_path)
    damaged = tmp_path / "t10k-labels-idx1-ubyte"
    damaged.unlink()
    damaged.write_bytes(idx(10_000)[:-1])
    with pytest.raises(FileError, match=f"{damaged}: its header promises 10,000 bytes .* only 9,999; download"):
        mnist(tmp_path)


@pytest.mark.parametrize("named", [None, "data", "data/mnist"])
def test_only_what_is_missing_is_downloaded_to_where_it_will_be_found(tmp_path, fake_mnist, monkeypatch, named):
    fake_mnist(tmp_path / "source", ".gz")
    monkeypatch.delenv("GPUNN_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = []

    def fetch_gzip(name, mirrors, folder, sha256, size):
        asked.append(name)
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(tmp_path / "source" / name, folder / name))

    monkeypatch.setattr(download, "fetch_gzip", fetch_gzip)
    folder = tmp_path / named if named else None
    if folder:
        folder.mkdir(parents=True)
        shutil.copy(tmp_path / "source" / f"{NAMES[0]}.gz", folder)
    assert len(mnist(folder)[0]) == 60_000
    assert asked == [f"{name}.gz" for name in (NAMES[1:] if named else NAMES)]
    expected = tmp_path / ("data/mnist" if named else "cache/gpunn/mnist")
    assert (expected / f"{NAMES[3]}.gz").is_file()
    mnist(folder)
    assert len(asked) == (3 if named else 4)


def test_a_file_that_is_missing_offline_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUNN_OFFLINE", "1")
    with pytest.raises(FileError, match=r"mnist/train-images-idx3-ubyte\.gz is not there, and GPUNN_OFFLINE forbids"):
        mnist(tmp_path)
