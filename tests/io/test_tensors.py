import json
import pickle

import numpy as np
import pytest
from safetensors.numpy import save

from gpunn.errors import FileError, OptionError
from gpunn.io.tensors import read_tensors, write_tensors

GRID = np.arange(24.0).reshape(2, 3, 4)


def file_with(path, tensors, description=None, **metadata):
    if description is not None:
        metadata["gpunn"] = description if isinstance(description, str) else json.dumps(description)
    path.write_bytes(save(tensors, metadata=metadata))
    return path


@pytest.mark.parametrize(
    "array",
    [
        GRID,
        GRID.astype(np.float32),
        np.asfortranarray(GRID),
        GRID.transpose(2, 0, 1),
        GRID[:, ::-1, 1:3],
        np.broadcast_to(GRID[0, 0], (5, 4)),
        GRID.astype(">f4"),
        np.array(2.5),
        np.zeros((0, 3)),
        np.arange(5, dtype=np.int64),
        np.array([True, False]),
        np.float64(1e-300) * GRID,
    ],
)
def test_an_array_of_any_layout_comes_back(tmp_path, array):
    write_tensors(tmp_path / "a", "thing", {"name.with/odd signs ü": array}, {})
    tensors, _ = read_tensors(tmp_path / "a", "thing")
    (found,) = tensors.values()
    assert list(tensors) == ["name.with/odd signs ü"]
    assert found.shape == array.shape
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, array)


def test_the_description_comes_back(tmp_path):
    about = {"text": "größer \n\0", "list": [1, 2.5, None, True, {"a": {}}], "number": 0.1}
    write_tensors(tmp_path / "a", "thing", {}, about)
    tensors, found = read_tensors(str(tmp_path / "a"), "thing")
    assert tensors == {}
    assert found == about | {"kind": "thing", "format": 1, "crc32": 0}


def test_the_arrays_are_not_changed_and_not_shared_with_the_file(tmp_path):
    array = GRID.copy()
    array.flags.writeable = False
    write_tensors(tmp_path / "a", "thing", {"a": array}, {})
    found = read_tensors(tmp_path / "a", "thing")[0]["a"]
    found += 1
    np.testing.assert_array_equal(read_tensors(tmp_path / "a", "thing")[0]["a"], GRID)


@pytest.mark.parametrize("about", [{"a": np.arange(3)}, {"a": {1, 2}}, {"a": print}, {("a", "b"): 1}])
def test_a_description_that_is_not_json_is_an_error_and_writes_nothing(tmp_path, about):
    with pytest.raises(OptionError, match="a: the description of a thing must be made of JSON's types, numbers, text"):
        write_tensors(tmp_path / "a", "thing", {"a": GRID}, about)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (None, "a safetensors file that gpunn did not write; it lacks the description of a thing"),
        ("no json", "gpunn did not write"),
        ("[1, 2]", "gpunn did not write"),
        ("17", "gpunn did not write"),
        ({"kind": "thing"}, "gpunn did not write"),
        ({"kind": "thing", "format": "x"}, "gpunn did not write"),
        ({"kind": "thing", "format": None}, "gpunn did not write"),
        ({"kind": "thing", "format": float("inf")}, "gpunn did not write"),
        ("[" * 100_000, "gpunn did not write"),
        ({"kind": "other", "format": 1}, "a: holds a other, expected a thing; name another file"),
        ({"kind": ["thing"], "format": 1}, r"a: holds a \['thing'\], expected a thing"),
        ({"kind": "thing", "format": 2}, r"later version of gpunn \(format 2\); this one reads up to 1; update gpunn"),
    ],
)
def test_a_foreign_file_is_named_with_what_it_is(tmp_path, description, message):
    with pytest.raises(FileError, match=message):
        read_tensors(file_with(tmp_path / "a", {"a": GRID}, description), "thing")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path, value):
    write_tensors(tmp_path / "a", "thing", {"good": GRID, "bad": np.array([0.0, value])}, {})
    with pytest.raises(FileError, match="'bad' contains NaN or infinity; use an earlier copy"):
        read_tensors(tmp_path / "a", "thing")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileError, match="none: there is no such file"):
        read_tensors(tmp_path / "none", "thing")


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(FileError, match=f"{tmp_path}: is a folder, expected a file; name one in it"):
        read_tensors(tmp_path, "thing")


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 50, -1, -8])
def test_a_file_that_ends_early_is_named(tmp_path, cut):
    write_tensors(tmp_path / "a", "thing", {"a": GRID}, {})
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:cut])
    with pytest.raises(FileError, match=r"a: not a safetensors file, or a damaged one: .*; use another copy") as error:
        read_tensors(tmp_path / "a", "thing")
    assert "\n" not in str(error.value)


def test_a_file_with_something_after_its_end_is_named(tmp_path):
    write_tensors(tmp_path / "a", "thing", {"a": GRID}, {})
    with (tmp_path / "a").open("ab") as file:
        file.write(b"more")
    with pytest.raises(FileError, match="not a safetensors file, or a damaged one"):
        read_tensors(tmp_path / "a", "thing")


def test_a_mutated_file_is_read_or_refused_by_a_file_error(tmp_path):
    path, refused, rng = tmp_path / "a", [], np.random.default_rng(0)
    write_tensors(path, "thing", {"a": GRID[0], "b": np.arange(3, dtype=np.int32)}, {"c": [1, {"d": "e"}]})
    data = path.read_bytes()
    head = 8 + int.from_bytes(data[:8], "little")
    for _ in range(1500):
        changed = bytearray(data)
        for place in rng.integers(0, head if rng.random() < 0.8 else len(data), rng.integers(1, 4)):
            changed[place] = rng.choice([rng.integers(256), rng.integers(48, 58), ord("F"), ord("B"), ord('"')])
        path.unlink(missing_ok=True)
        path.write_bytes(changed)
        try:
            read_tensors(path, "thing")
        except FileError as error:
            refused.append(str(error))
    assert len(refused) > 700
    assert not [message for message in refused if "\n" in message]


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "U64", "F16"])
def test_numbers_of_any_type_in_a_foreign_file_are_read_or_refused_by_a_file_error(tmp_path, dtype):
    width = {"BF16": 2, "F8_E4M3": 1, "U64": 8, "F16": 2}[dtype]
    head = json.dumps({"a": {"dtype": dtype, "shape": [2], "data_offsets": [0, 2 * width]}}).encode()
    (tmp_path / "a").write_bytes(len(head).to_bytes(8, "little") + head + bytes(2 * width))
    with pytest.raises(FileError, match=r"gpunn did not write|not a safetensors file"):
        read_tensors(tmp_path / "a", "thing")


def test_a_wrong_bit_anywhere_is_found_or_makes_no_difference(tmp_path):
    path = tmp_path / "a"
    write_tensors(path, "thing", {"w": np.arange(3.0)}, {"steps": 100, "history": [{"loss": 0.25}]})
    whole, (arrays, about) = path.read_bytes(), read_tensors(path, "thing")
    same = 0
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found, description = read_tensors(path, "thing")
        except FileError:
            continue
        assert description == about or damaged.count(b"about_crc32") == 0
        assert [a.tobytes() for a in found.values()] == [a.tobytes() for a in arrays.values()]
        same += 1
    assert same < 150  # in a name, which is for others to look at


def test_one_wrong_bit_in_the_numbers_is_found(tmp_path):
    path = tmp_path / "a"
    write_tensors(path, "thing", {"w": np.arange(6.0), "v": np.ones((2, 3), "float32")}, {})
    whole = path.read_bytes()
    for place in (-1, -20, -70):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[len(whole) + place + 1 :])
        with pytest.raises(FileError, match="its numbers are not those that were written; use another copy"):
            read_tensors(path, "thing")


def test_files_of_other_programs_are_named(tmp_path):
    path = tmp_path / "a"
    np.savez(path.with_suffix(".npz"), a=GRID)
    for content, what in (
        (path.with_suffix(".npz").read_bytes(), r"a zip archive, such as PyTorch's \.pt .*from_torch_state_dict"),
        (pickle.dumps([1.0] * 9, protocol=4), "a pickle, which may run any program"),
        (pickle.dumps([1.0] * 9, protocol=5), "a pickle, which may run any program"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as Keras writes"),
        (b"\x80\x02" + bytes(20), "not a safetensors file, or a damaged one"),
        (save({"fc1.weight": GRID}), "a safetensors file that gpunn did not write; .*from_torch_state_dict"),
        (bfloat16("fc1.weight"), "a safetensors file that gpunn did not write; .*from_torch_state_dict"),
    ):
        path.write_bytes(content)
        with pytest.raises(FileError, match=f"/a: {what}") as error:
            read_tensors(path, "network")
        assert "\n" not in str(error.value)


def bfloat16(name):
    """A safetensors file of numbers that NumPy has no data type for."""
    head = json.dumps({name: {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    return len(head).to_bytes(8, "little") + head + bytes(4)
