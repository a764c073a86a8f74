import importlib.util
import os
import re
import shutil
import sys

import numpy as np
import pytest

import gpunn as gn
from gpunn import cli
from gpunn.errors import FileError, OptionError
from gpunn.io.export import FORMATS, export
from gpunn.io.npz import to_npz

NEEDS = {"onnx": "onnxruntime", "sklearn": "sklearn", "torch": "torch"}
pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert cli.main(["train", "--hidden", "8", "--epochs", "2", "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A run folder."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(scope="module")
def of_table(tmp_path_factory):
    """That of a regression on a table."""
    tmp_path = tmp_path_factory.mktemp("table")
    (tmp_path / "table.csv").write_text(
        "a,b,c\n" + "\n".join(f"{i},{1000 * (i % 7)},{3 * i + i % 7 + 0.5}" for i in range(60))
    )
    files = [str(tmp_path / "table.csv"), "--out", str(tmp_path / "run")]
    assert cli.main(["train", *files, "--target", "c", "--epochs", "2", "--quiet"]) == 0
    return tmp_path / "run"


def needs(form):
    if form in NEEDS:
        pytest.importorskip(NEEDS[form])
    if form == "onnx":
        pytest.importorskip("onnx")


@pytest.mark.parametrize("form", ["npz", "onnx", "torch", "sklearn"])
def test_a_run_is_written_and_compared(run, form, capsys):
    needs(form)
    before = sorted(run.iterdir())
    assert cli.main(["export", str(run), "--to", form]) == 0
    out = capsys.readouterr().out.splitlines()
    written = [line.split()[1] for line in out if line.startswith("written")]
    assert sorted(map(str, run.iterdir())) == sorted([*map(str, before), *written])
    assert written[0] == str(run / f"model{FORMATS[form][0]}")
    if form != "npz":
        (found,) = re.findall(r"^verified with .*: largest difference (.*)$", "\n".join(out), re.MULTILINE)
        assert float(found) < 1e-5


@pytest.mark.parametrize("form", ["onnx", "torch", "sklearn"])
def test_a_regression_on_a_table(of_table, form):
    """Whose network standardises at both ends."""
    needs(form)
    (verified,) = [line for line in export(of_table, form, "out" + FORMATS[form][0]) if line.startswith("verified")]
    assert float(verified.rpartition(" ")[2]) < 1e-5


def test_the_probabilities_in_an_onnx_file_are_those_of_predict(run):
    needs("onnx")
    import onnxruntime

    export(run, "onnx", "digits.onnx")
    _, test = gn.datasets.digits()
    x = (test.x / 255 if test.x.dtype == np.uint8 else test.x).astype(np.float32)
    (y,) = onnxruntime.InferenceSession("digits.onnx").run(None, {"input": x})
    np.testing.assert_allclose(y, gn.load(run / "model.safetensors")(x), atol=1e-5)
    np.testing.assert_allclose(y.sum(axis=1), 1.0, atol=1e-5)


def test_a_file_of_save_and_a_place_of_ones_own():
    net = gn.models.lenet((16, 16, 3), 2).init()
    gn.save("net.safetensors", net)
    assert export("net.safetensors", "npz")[0] == "written  net.npz"
    assert export("net.safetensors", "npz", "other.npz")[0] == "written  other.npz"
    with np.load("other.npz", allow_pickle=False) as arrays:
        assert set(arrays) == set(net.state_dict())
        for name, array in arrays.items():
            assert array.flags.c_contiguous
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, net.state_dict()[name])
        other = gn.models.lenet((16, 16, 3), 2).init(seed=1)
        other.load_state_dict(arrays)
    np.testing.assert_array_equal(other.state_dict()["linear1.W"], net.state_dict()["linear1.W"])


def test_the_shape_of_an_input_can_be_given(capsys):
    needs("onnx")
    gn.save("net", gn.Sequential(gn.Conv2d(3, 2, 3), gn.GlobalAvgPool2d()).init())
    assert cli.main(["export", "net", "--to", "onnx"]) == 2
    assert "give input_shape=(height, width, channels), or --input-shape" in capsys.readouterr().err
    assert cli.main(["export", "net", "--to", "onnx", "--input-shape", "9,8,3"]) == 0
    assert "float32 (N, 9, 8, 3)" in capsys.readouterr().out


def test_arrays_of_any_name_and_shape_are_written():
    class Odd(gn.Layer):
        def __init__(self):
            self.file = gn.Param((), "zeros")
            self.self = gn.Param((2,), "zeros")
            self.turned = gn.Buffer(np.arange(6.0).reshape(2, 3).T)

    to_npz(Odd().init(), "net.npz")
    with np.load("net.npz", allow_pickle=False) as arrays:
        assert {name: array.shape for name, array in arrays.items()} == {"file": (), "self": (2,), "turned": (3, 2)}
        assert arrays["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
        assert arrays["turned"].flags.c_contiguous


def test_what_is_wrong_is_said_in_one_line(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").write_text("no network")
    before = sorted(tmp_path.rglob("*"))
    for arguments, code, message in (
        (["run", "--to", "tflite"], 2, "format 'tflite' is not known; expected "),
        (["nowhere", "--to", "npz"], 4, "nowhere: there is no such file"),
        (["empty", "--to", "npz"], 4, "empty: there is no network in this folder: it has no model.safetensors"),
        (["bad", "--to", "npz"], 4, "bad: not a safetensors file, or a damaged one"),
        (["run", "--to", "npz", "--out", "none/a.npz"], 4, "none/a.npz: cannot be written: No such file or directory"),
        (["run", "--to", "npz", "--out", "empty"], 4, "empty: cannot be written: Is a directory"),
        (["run", "--to", "npz", "--out", "run/model.safetensors"], 2, "would take the place of the network itself"),
        (["run", "--to", "torch", "--out", "a.onnx"], 2, "a file that ends in .safetensors, .pt or .pth"),
    ):
        assert cli.main(["export", *arguments]) == code
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert message in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_nothing(run, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for form in FORMATS:
        if form not in NEEDS or importlib.util.find_spec(NEEDS[form]):
            with pytest.raises(FileError, match="cannot be written: No space left on device"):
                export(run, form, f"out{FORMATS[form][0]}")
    assert not list(run.parent.glob("*out*"))


@pytest.mark.parametrize(("form", "module"), [("onnx", "onnx"), ("sklearn", "joblib"), ("torch", "torch")])
def test_a_library_that_is_missing_is_named_with_what_installs_it(run, monkeypatch, form, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OptionError, match=f"this needs {module}, which cannot be imported .*: pip install"):
        export(run, form, "out.pt")
    assert not list(run.parent.glob("out*"))


@pytest.mark.parametrize(("form", "module"), [("onnx", "onnxruntime"), ("torch", "torch")])
def test_what_could_not_be_verified_is_said(run, monkeypatch, form, module):
    if form == "onnx":
        needs("onnx")
    monkeypatch.setitem(sys.modules, module, None)
    assert "not verified: this needs" in export(run, form)[-1]
