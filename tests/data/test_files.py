import gzip
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

import gpunn as gn
from gpunn.data.files import read_idx, read_npz
from gpunn.errors import DataError, FileError
from tests.data.damage import mutations, written

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def header(dtype: str, *shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, CODES[dtype], len(shape), *shape)


def idx(array: np.ndarray) -> bytes:
    return header(array.dtype.name, *array.shape) + array.astype(array.dtype.newbyteorder(">")).tobytes()


# --- IDX


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dtype", CODES)
def test_idx_of_every_type_comes_back(tmp_path, dtype, suffix):
    array = np.array([[0, 1, 2], [100, 101, 127]], dtype) - np.array(3, dtype)
    data = idx(array)
    path = written(tmp_path / f"a{suffix}", gzip.compress(data) if suffix else data)
    found = read_idx(path)
    assert found.dtype == array.dtype
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)


GOOD = idx(np.arange(24, dtype="uint8").reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file: the file is empty"),
        (b"\0\0", "it begins with 00 00, an IDX file with 00 00 08"),
        (b"\x1f\x8b\x08\0", "it begins with 1f 8b 08 00"),
        (b"\0\0\x0a\1" + GOOD[4:], "it begins with 00 00 0a 01"),
        (GOOD[:9], "the IDX header ends early; download"),
        (GOOD[:-1], r"promises 24 bytes of data for shape \(2, 3, 4\), there are only 23; download"),
        (GOOD + b"\0", r"promises 24 bytes of data for shape \(2, 3, 4\), there are more"),
        (header("uint8"), "gives 0 axes, expected 1 to 64"),
        (header("uint8", *[1] * 65) + b"x", "gives 65 axes, expected 1 to 64"),
        (header("uint8", 0, 28, 28), r"shape \(0, 28, 28\): there are no examples in it"),
        (header("float64", 0, 2**32 - 1, 2**32 - 1, 0), "there are no examples in it"),
        (header("float64", *[2**32 - 1] * 60), "more than the file can hold; download"),
        (header("uint8", 1000) + b"x", "promises 1,000 bytes of data .* more than the file can hold"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_wrong_idx_file_is_named_with_what_is_wrong(tmp_path, data, message, suffix):
    if suffix and "more than the file" in message and len(data) < 100:
        message = "there are only 1"  # what is small when compressed may be large
    path = written(tmp_path / f"a{suffix}", gzip.compress(data) if suffix else data)
    with pytest.raises(FileError, match=message) as error:
        read_idx(path)
    assert str(error.value).startswith(f"{path}: ")


COMPRESSED = gzip.compress(GOOD)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file: the file is empty"),
        (GOOD, "Not a gzipped file"),
        (COMPRESSED[:-12], "the compressed data ends early; download"),
        (COMPRESSED[:-3], "the compressed data ends early; download"),
        (COMPRESSED[:5], "the compressed data ends early; download"),
        (COMPRESSED[:-4] + b"\xff\xff\xff\x7f", "Incorrect length of data"),
        (COMPRESSED[:-8] + bytes(4) + COMPRESSED[-4:], "CRC check failed"),
        (COMPRESSED + b"more", "Not a gzipped file"),
        (COMPRESSED[:12] + b"\xff\xff\xff" + COMPRESSED[15:], "cannot be read: "),
        (gzip.compress(header("uint8", 2**31, 2)), "more than the file can hold"),
    ],
)
def test_a_gz_that_is_damaged_or_lies_is_named(tmp_path, data, message):
    with pytest.raises(FileError, match=message):
        read_idx(written(tmp_path / "a.gz", data))


def test_a_bomb_is_not_unpacked(tmp_path):
    bomb = written(tmp_path / "bomb.gz", gzip.compress(header("uint8", 10) + bytes(1 << 26), compresslevel=1))
    tracemalloc.start()
    with pytest.raises(FileError, match=r"promises 10 bytes .* there are more"):
        read_idx(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_idx_files_that_cannot_be_opened_are_named(tmp_path):
    with pytest.raises(FileError, match=r"none\.gz: cannot be read: No such file"):
        read_idx(tmp_path / "none.gz")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        read_idx(tmp_path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_mutated_idx_file_is_read_or_refused_by_a_file_error(tmp_path, suffix):
    path, refused = tmp_path / f"a{suffix}", []
    data = gzip.compress(idx(np.arange(12, dtype="float32").reshape(2, 6)), mtime=0) if suffix else GOOD
    for changed in mutations(data, 1500):
        written(path, changed)
        try:
            assert isinstance(read_idx(path), np.ndarray)
        except FileError as error:
            refused.append(str(error))
    assert len(refused) > 700
    assert not [message for message in refused if "\n" in message]


# --- npz


def npz(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


X, Y = np.arange(12.0).reshape(4, 3), np.array([0, 1, 1, 0])
DIVIDED = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}


@pytest.mark.parametrize("names", [("x", "y"), ("X", "Y"), ("X", "y")])
def test_npz_with_x_and_y_is_one_set(tmp_path, names):
    parts = read_npz(npz(tmp_path / "a.npz", **dict(zip(names, (X, Y), strict=True))))
    assert list(parts) == ["all"]
    np.testing.assert_array_equal(parts["all"].x, X)
    np.testing.assert_array_equal(parts["all"].y, Y)
    assert parts["all"].image_shape is None


def test_npz_that_is_divided_stays_so(tmp_path):
    path = npz(tmp_path / "a.npz", X_train=X, y_train=Y, X_test=X[:1] + 1, y_test=Y[:1], x=X[:2], y=Y[:2])
    parts = read_npz(path)
    assert {name: len(part) for name, part in parts.items()} == {"train": 4, "test": 1}
    np.testing.assert_array_equal(parts["test"].x, X[:1] + 1)


def test_npz_leaves_other_arrays_unread(tmp_path):
    path = npz(tmp_path / "a.npz", x=X, y=Y, names=np.array([{"a": 1}], dtype=object))
    assert len(read_npz(path)["all"]) == 4


@pytest.mark.parametrize(("shape", "image"), [((5, 3, 2), (3, 2, 1)), ((5, 3, 2, 4), (3, 2, 4))])
def test_npz_images_stay_bytes_and_keep_their_shape(tmp_path, shape, image):
    images = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    data = read_npz(npz(tmp_path / "a.npz", x=images, y=np.zeros(5)))["all"]
    assert data.x.dtype == np.uint8
    assert data.x.shape == (5, np.prod(image))
    assert data.image_shape == image
    np.testing.assert_array_equal(data.images, images.reshape(5, *image))


def test_npz_features_that_are_bytes_are_numbers_not_pixels(tmp_path):
    x = np.array([[0, 255], [10, 3]], np.uint8)
    data = read_npz(npz(tmp_path / "a.npz", x=x, y=Y[:2]))["all"]
    assert data.x.dtype == np.float32
    batches = gn.data.Batches(data.x, data.y, 2, shuffle=False)
    np.testing.assert_array_equal(next(batches.epoch())[0], x)


def test_npz_targets_in_one_column_are_a_vector(tmp_path):
    data = read_npz(npz(tmp_path / "a.npz", x=X, y=Y[:, None]))["all"]
    np.testing.assert_array_equal(data.y, Y)


def test_npz_in_another_order_of_bytes_becomes_native(tmp_path):
    data = read_npz(npz(tmp_path / "a.npz", x=X.astype(">f4"), y=Y.astype(">i2")))["all"]
    assert data.x.dtype == np.float32
    assert data.y.dtype == np.int16
    np.testing.assert_array_equal(data.x, X)


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({}, FileError, "expected arrays named x and y, .* found none"),
        ({"x": X, "z": Y}, FileError, "expected arrays named x and y, .* found x, z"),
        ({"x": X, "X": X + 1, "y": Y}, FileError, "each once; found x, X, y"),
        ({"x": X, "y": np.array(["a", "b", "c", "d"])}, FileError, "y holds <U1, expected numbers; number the classes"),
        ({"x": X.astype(complex), "y": Y}, FileError, "x holds complex128, expected numbers"),
        ({"x": X.astype(object), "y": Y}, FileError, "allow_pickle=False; write it with numpy.savez, from arrays"),
        (
            {"x": X, "y": Y, "x_test": X, "y_test": Y},
            FileError,
            "expected arrays named x and y, or x_train.* found x, y",
        ),
        (DIVIDED | {"x_test": X[:, :2]}, DataError, r"x_train is float64 \(4, 3\) and x_test float64 \(4, 2\); they"),
        (
            DIVIDED | {"y_test": X},
            DataError,
            r"y_train is int64 \(4,\) and y_test float64 \(4, 3\); they must be alike",
        ),
        (DIVIDED | {"x_test": X.astype(np.uint8)}, DataError, "x_train is float64 .* and x_test uint8"),
        ({"x": X[:0], "y": Y[:0]}, DataError, r"x has shape \(0, 3\): there are no examples"),
        ({"x": X, "y": Y[:3]}, DataError, "4 inputs but 3 targets"),
        ({"x": X[:, 0], "y": Y}, DataError, r"x has shape \(4,\); expected \(N, D\)"),
        ({"x": X, "y": np.array(3)}, DataError, r"y has shape \(\); expected \(N,\)"),
        ({"x": X, "y": np.zeros((4, 1, 1))}, DataError, r"y has shape \(4, 1, 1\); expected"),
        ({"x": np.where(X == 7, np.nan, X), "y": Y}, DataError, r"x\[2\] contains NaN or infinity: remove"),
        ({"x": X, "y": np.array([0, 1, 2, np.inf])}, DataError, r"y\[3\] contains NaN or infinity: remove"),
    ],
)
def test_a_wrong_npz_file_is_named_with_what_is_wrong(tmp_path, arrays, error, message):
    path = npz(tmp_path / "a.npz", **arrays)
    with pytest.raises(error, match=message) as raised:
        read_npz(path)
    assert str(raised.value).startswith(f"{path}: ")


def member(data: bytes, name: str = "x.npy", compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(name, data)
        archive.writestr("y.npy", data)
    return file.getvalue()


def npy(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


HUGE = npy(np.zeros(100, np.uint8)).replace(b"(100,), }              ", b"(10000000000000000,), }")
SPOILT = bytearray(member(npy(X), compression=zipfile.ZIP_LZMA))
SPOILT[50:70] = b"\xff" * 20


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a .npz file, or a damaged one; write it with numpy.savez"),
        (b"x,y\n1,2\n", "not a .npz file"),
        (npy(X), "not a .npz file"),
        (member(npy(X))[:-30], "not a .npz file"),
        (member(HUGE), "cannot be read as .npz: Unable to allocate"),
        (member(b"nothing of NumPy's"), r"x holds \|S18, expected numbers"),
        (SPOILT, "cannot be read as .npz: Corrupt input data"),
    ],
)
def test_a_file_that_is_no_npz_is_named(tmp_path, data, message):
    with pytest.raises(FileError, match=message):
        read_npz(written(tmp_path / "a.npz", data))


def test_npz_files_that_cannot_be_opened_are_named(tmp_path):
    with pytest.raises(FileError, match=r"cannot be read as \.npz: No such file"):
        read_npz(tmp_path / "none.npz")
    with pytest.raises(FileError, match=r"cannot be read as \.npz: Is a directory"):
        read_npz(tmp_path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.filterwarnings("ignore")  # NumPy and zipfile warn of what they find odd before they refuse it
def test_a_mutated_npz_is_read_or_refused_by_a_gpunn_error(tmp_path, compression):
    path, refused = tmp_path / "a.npz", []
    for changed in mutations(member(npy(X), compression=compression), 250):
        written(path, changed)
        try:
            assert len(read_npz(path)["all"])
        except (FileError, DataError) as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert not [message for message in refused if "\n" in message]
