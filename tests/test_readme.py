"""What the README says is run as it stands. (.ci/run does the installing.)"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import gpunn as gn
from gpunn.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
OPS = Path(gn.__file__).parent / "ops"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands():
    """Every use of the command `gpunn`, without what installs it."""
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    found = [line[line.index("gpunn ") :] for line in lines if re.search(r"(^|bin/|cuda13 |run )gpunn ", line)]
    return sorted(set(found), key=found.index)


def test_the_python_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPUNN_DEVICE", "cpu")
    names = {}
    for block in blocks("python"):
        if "sklearn" not in block:  # which stands in those that need more than gpunn
            exec(compile(block, "README.md", "exec"), names)
    assert len(blocks("python")) == 7
    hidden = gn.ops.sigmoid(gn.ops.linear(names["x_test"], names["W1"], names["b1"]))
    assert (gn.ops.linear(hidden, names["W2"], names["b2"]).argmax(axis=1) == names["answers"]).mean() > 0.9
    assert names["trainer"].evaluate(names["test"])["accuracy"] > 0.9
    assert float(names["value"]) < 2.0
    assert max(gn.gradcheck(names["Scale"](5), np.ones((2, 5))).values()) < 1e-8
    assert gn.load("digits.safetensors")(names["x"]).shape == (32, 10)


@pytest.mark.filterwarnings("ignore:max_iter=")
def test_the_python_with_scikit_learn_runs(monkeypatch):
    pytest.importorskip("sklearn", minversion="1.6")
    monkeypatch.setenv("GPUNN_DEVICE", "cpu")
    names = {"gn": gn}
    (block,) = (block for block in blocks("python") if "GridSearchCV" in block)
    exec(compile(block, "README.md", "exec"), names)
    assert names["search"].best_score_ > 0.95


def test_the_python_with_files_of_other_programs_runs(tmp_path, monkeypatch):
    for name in ("onnx", "onnxruntime", "sklearn", "torch"):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    names = {"gn": gn, "test": gn.datasets.digits()[1]}
    (block,) = (block for block in blocks("python") if "onnxruntime" in block)
    exec(compile(block, "README.md", "exec"), names)
    expected = gn.mlp([64, 32, 10], hidden="tanh", output="softmax").init(seed=0)(names["x"])
    for y in (names["y"], names["clf"].predict_proba(names["x"]), names["net"](names["x"].astype("float64"))):
        np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the README's commands speak of: tables and pictures."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    kinds = ["iris", "rose", "tulip"] * 30
    rows = [f"{rng.normal(i % 3):.3f},{rng.normal(2 * (i % 3)):.3f},{kind}" for i, kind in enumerate(kinds)]
    (folder / "flowers.csv").write_text("\n".join(["length,width,species", *rows]))
    (folder / "new.csv").write_text("width,length\n0.5,1.5\n,2\n")
    for kind in ("cat", "dog"):
        (folder / "pictures" / kind).mkdir(parents=True)
        for i in range(12):
            image.fromarray(rng.integers(0, 256, (20, 16, 3)).astype("uint8")).save(folder / f"pictures/{kind}/{i}.jpg")
    _, test = gn.datasets.digits()
    image.fromarray((test.x[0].reshape(8, 8) * 255).astype("uint8")).save(folder / "picture.png")
    return folder


@pytest.mark.parametrize("command", commands())
def test_the_commands_run(command, place, monkeypatch, request):
    if command.startswith("gpunn plot"):
        pytest.importorskip("matplotlib")
    if "mnist" in command:
        request.getfixturevalue("data_dir")
    if command.startswith("gpunn export"):
        for name in {"onnx": ["onnx", "onnxruntime"], "sklearn": ["sklearn"]}.get(command.split()[-1], []):
            pytest.importorskip(name)
    if "--tensorboard" in command:
        pytest.importorskip("tensorboardX")
    monkeypatch.chdir(place)
    if named := re.search(r"runs/(\w+)-\.\.\.", command):
        data = {"digits": "digits", "flowers": "flowers.csv"}[named[1]]
        if not list(place.glob(f"runs/{named[1]}-*")):
            assert main(["train", data, "--epochs", "2", "--quiet"]) == 0
        command = command.replace(named[0], str(min(place.glob(f"runs/{named[1]}-*"))))  # the first of them
    monkeypatch.setattr("gpunn.web.serve", lambda net, port, browser: None)  # which would not end
    assert main(shlex.split(command)[1:]) == 0


def test_all_commands_are_found():
    assert {command.split()[1] for command in commands()} == {
        "train",
        "compare",
        "reproduce",
        "evaluate",
        "predict",
        "summary",
        "gradcheck",
        "info",
        "bench",
        "draw",
        "export",
        "plot",
    }


def test_the_layer_that_is_shown_is_the_layer():
    source = (OPS / "linear.py").read_text(encoding="utf-8")
    shown = next(block for block in blocks("text") if "def linear" in block)
    body = [line for line in shown.splitlines() if line and not line.startswith("def")]
    assert len(body) == 11
    for line in body:
        assert line in source
