import csv
import dataclasses
import functools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gpunn
from gpunn import bench, cli, datasets, machine
from gpunn.device import DeviceReport
from gpunn.io.tensors import read_tensors
from gpunn.train import run
from gpunn.train.config import Config

RNG = np.random.default_rng(0)
QUICK = ["--hidden", "8", "--epochs", "2", "--device", "cpu"]
GPUNN = [sys.executable, "-m", "gpunn"]
pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def gpunn_(capsys):
    """Run the command: (exit code, lines of output, lines of errors)."""

    def command(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = ended.code
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return command


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """The folder of `gpunn train`, as it is."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    assert cli.main(["train", "--out", str(folder), "--device", "cpu", "--quiet"]) == 0
    return folder


def accuracy(folder):
    return json.loads(Path(folder, "summary.json").read_text())["test_accuracy"]


def the_run():
    (folder,) = Path("runs").iterdir()
    return folder


# --- what a person does first


def test_digits_are_told_apart_by_default(digits_run):
    assert accuracy(digits_run) >= 0.97


@pytest.mark.parametrize("seed", [1, 2])
def test_digits_are_told_apart_with_other_seeds(gpunn_, seed):
    gpunn_("train", "--seed", seed, "--out", "run", "--quiet")
    assert accuracy("run") >= 0.97


@pytest.mark.slow
def test_mnist_is_told_apart_by_default(gpunn_, data_dir):
    gpunn_("train", "mnist", "--data-dir", data_dir, "--out", "run", "--quiet")
    assert accuracy("run") >= 0.98
    code, out, _ = gpunn_("evaluate", "run")
    assert (code, out[0].split(",")[0]) == (0, f"test accuracy {accuracy('run'):.2%}")


def test_training_tells_what_it_does(gpunn_):
    code, out, err = gpunn_("train", *QUICK)
    assert (code, err) == (0, [])
    assert [line.split()[0] for line in out[:5]] == ["device", "data", "network", "folder", "epoch"]
    assert out[0] == "device   cpu: asked for by name"
    assert [line.split()[0] for line in out[5:7]] == ["1", "2"]
    assert re.fullmatch(
        rf"test accuracy \d+\.\d\d%, test loss \d\.\d+, \d+\.\d s of training at [\d,]+ examples a second; saved in "
        rf"{the_run()}",
        out[7],
    )
    assert len(out) == 8
    assert all(line.isprintable() for line in out)


def test_auto_says_which_device_and_why(gpunn_):
    _, out, err = gpunn_("train", "--hidden", "8", "--epochs", "1")
    assert re.match(r"device   (cpu|cuda:0): \S+", out[0])
    assert err == []


def test_quiet_prints_the_result_only(gpunn_):
    code, out, err = gpunn_("train", *QUICK, "--quiet")
    assert (code, len(out), err) == (0, 1, [])
    assert out[0].startswith("test accuracy ")


def test_options_come_before_the_file_and_the_file_before_defaults(gpunn_):
    Path("c.toml").write_text('data = "digits"\nepochs = 1\nlr = 0.01\nhidden = [5]\ndevice = "cpu"\n')
    gpunn_("train", "--config", "c.toml", "--lr", "0.02", "--hidden", "6,7", "--out", "run")
    config = run.run_config("run")
    assert (config.epochs, config.lr, config.hidden, config.batch_size) == (1, 0.02, [6, 7], 16)


def test_no_hidden_layers(gpunn_):
    assert gpunn_("train", "--hidden", "none", "--epochs", "1", "--out", "run")[0] == 0
    assert run.run_config("run").hidden == []


# --- what goes wrong: one line, and a code that says whose fault it is


def files():
    x, y = RNG.standard_normal((20, 2)), np.arange(20) % 2
    np.savez("good.npz", x=x, y=y)
    np.savez("names.npz", a=x, b=y)
    np.savez("nan.npz", x=np.where(x == x[3, 1], np.nan, x), y=y)
    np.savez("one.npz", x=x, y=0 * y)
    whole = Path("good.npz").read_bytes()
    Path("half.npz").write_bytes(whole[: len(whole) // 2])
    for name, content in {
        "empty.csv": b"",
        "hole.csv": b"a,b,y\n1,2,0\n1,,1\n",
        "bytes.csv": b"a,b\n\xff\xfe,1\n",
        "c.toml": b"epoch = 1\n",
        "bad.toml": b"epochs = \n",
        "file": b"",
    }.items():
        Path(name).write_bytes(content)
    Path("folder.csv").mkdir()
    Path("full").mkdir()
    Path("full/x").touch()


@pytest.mark.parametrize(
    ("code", "message", "line"),
    [
        (2, "arguments are required: COMMAND", ""),
        (2, "invalid choice: 'trian'", "trian"),
        (2, "'--optimiser=sgd' is not expected here; did you mean --optimizer?", "train --optimiser=sgd"),
        (2, "did you mean --epochs?", "train --epoch 3"),
        (2, "'mnist' is not expected here", "train digits mnist"),
        (2, "--lr: invalid float value: 'fast'", "train --lr fast"),
        (2, "--epochs: expected one argument", "train --epochs"),
        (2, "--hidden: expected sizes such as 128,64, or none; got '12x64'", "train --hidden 12x64"),
        (2, r"hidden sizes must be from 1 to 16,777,216, got \[-5\]", "train --hidden -5"),
        (2, "activation 'rulu' is not known; expected one of", "train --activation rulu"),
        (2, "optimizer 'sdg' is not known; expected sgd", "train --optimizer sdg"),
        (2, "dtype 'tf32' needs gpunn's kernels for CUDA GPUs, and the", "train --dtype tf32 --device cpu"),
        (2, "dtype 'bfloat16' needs gpunn's kernels for CUDA GPUs, and", "train --dtype bfloat16 --device cpu"),
        (2, "loss mse is for quantities, and the targets are classes", "train --loss mse"),
        (2, "device 'gpu' is not known; expected auto, cpu, cuda", "train --device gpu"),
        (
            2,
            r"data 'fashion' is not known; expected digits, mnist, a file that ends in \.npz or .*folder",
            "train fashion",
        ),
        (2, r"c\.toml: option 'epoch' is not known; did you mean 'epochs'\?", "train --config c.toml"),
        (2, "leave out the data, --lr, --out; --data-dir, --device, .* may", "train digits --lr 1 --out x --resume y"),
        (2, "leave out --config", "train --config c.toml --resume y"),
        (2, "give --run or other options, not both", "summary --run y --lr 3"),
        (2, "required: RUN, FILE", "predict"),
        (2, "expected a height and a width such as 32x32; got '8,8'", "train full --image-size 8,8"),
        (2, r"image_size must be a height and a width from 1 to 4096, got \[0, 8\]", "train full --image-size 0x8"),
        (2, "image_size is for pictures in folders, and data is 'digits'", "train --image-size 8"),
        (4, "full: there are no folders in it; put the pictures of each class in a folder", "train full"),
        (4, r"hole\.csv: no column is called 'z'", "train hole.csv --drop z"),
        (2, "network '5-x' is not known; expected sizes such as 784-128-10, or cnn", "bench 5-x"),
        (2, "network '5' is not known", "bench 5"),
        (2, "a size in the shape .* must be a whole number, 1 or more, got 0", "bench 5-0-2"),
        (2, "SoftmaxCrossEntropy needs an output for each class", "bench 5-1 --seconds 0.001"),
        (2, "batch size must be a whole number, 1 or more, got 0", "bench 5-2 --batch-size 0"),
        (2, "seconds must be above 0, got -1", "bench --seconds -1"),
        (3, "device 'torch:nowhere' is not available", "bench 5-2 --device torch:nowhere"),
        (4, "nowhere/b.json: cannot be written: there is no such folder", "bench 5-2 --json nowhere/b.json"),
        (3, "device 'torch:nowhere' is not available: .* To mend it: ", "train --device torch:nowhere"),
        (4, r"no\.csv: there is no such file", "train no.csv"),
        (4, "there is no such file", f"train {'a' * 300}.csv"),
        (4, r"folder\.csv: there is no such file", "train folder.csv"),
        (4, r"half\.npz: ", "train half.npz"),
        (4, r"names\.npz: expected arrays named x and y, .*; found a, b", "train names.npz"),
        (4, r"nan\.npz: .*NaN", "train nan.npz"),
        (4, r"one\.npz: the target is 0 in all rows", "train one.npz"),
        (4, r"empty\.csv: ", "train empty.csv"),
        (4, r"hole\.csv, line 3: column 'b' is empty; .* --missing mean", "train hole.csv --missing refuse"),
        (4, r"bytes\.csv, line 2: .* byte 0xff is not UTF-8", "train bytes.csv"),
        (4, "no column is called 'z'; the columns are a, b, y", "train hole.csv --target z"),
        (4, r"no\.toml: cannot be read", "train --config no.toml"),
        (4, r"bad\.toml: not a TOML file", "train --config bad.toml"),
        (4, "nowhere: there is no such folder", "train mnist --data-dir nowhere"),
        (4, "file: cannot be made: .*; name another with --out", "train --out file"),
        (4, "file/x: cannot be made: ", "train --out file/x"),
        (4, "full: is not empty; name another with --out", "train --out full"),
        (4, "full: there is no run in this folder", "train --resume full"),
        (4, "nowhere: there is no such folder", "train --resume nowhere"),
        (4, "file: is a file, expected the folder of a run", "evaluate file"),
        (4, "nowhere: there is no such file", "predict nowhere x.png"),
        (4, "nowhere: there is no such folder", "summary --run nowhere"),
        (2, "required: RUN", "plot"),
    ],
)
def test_an_error_is_one_line_that_names_the_cause(gpunn_, code, message, line):
    files()
    before = sorted(Path().rglob("*"))
    found, _, err = gpunn_(*line.split())
    assert len(err) == 1
    assert re.match(f"gpunn: error: .*{message}", err[0])
    assert found == code
    assert sorted(Path().rglob("*")) == before


def test_a_device_that_cannot_be_had_is_an_error(gpunn_, monkeypatch):
    gpunn_("train", *QUICK, "--out", "run")
    module = sys.modules["gpunn.device"]  # gpunn.device is the function of that name
    report = module.DeviceReport("cuda:0", False, "no card", "buy one")
    monkeypatch.setattr(module, "probe_cuda", lambda _: report)
    for line in ("train --device cuda", "train --device cuda:1", "evaluate run --device cuda"):
        code, _, err = gpunn_(*line.split())
        assert (code, err) == (3, ["gpunn: error: device 'cuda:0' is not available: no card. To mend it: buy one"])


@pytest.mark.parametrize(
    ("options", "steps", "message"),
    [
        ("--lr 1e30", 0, r"the loss became (nan|inf) in step 2 \(epoch 1\); .* linear\d\. Try a smaller learning rate"),
        ("--lr 1e38 --batch-size 2000 --epochs 1", 0, r"the validation loss became (nan|inf) in step 1 \(epoch 1\)"),
        # one step an epoch: no later loss tells of it
        ("--lr 1e38 --batch-size 2000 --epochs 1 --valid 0", 1, "the test loss is (nan|inf) after epoch 1; try"),
    ],
)
def test_divergence_ends_with_1_and_leaves_a_checkpoint(gpunn_, options, steps, message):
    line = f"train --optimizer sgd --activation identity --out run {options}"
    code, _, err = gpunn_(*line.split())
    assert (code, len(err)) == (1, 1)
    assert re.match(f"gpunn: error: {message}", err[0])
    tensors, about = read_tensors("run/checkpoint.safetensors", "checkpoint")
    assert about["steps"] == steps
    assert all(np.isfinite(array).all() for array in tensors.values())
    assert not Path("run/summary.json").exists()


def test_too_little_memory_is_an_error(gpunn_, monkeypatch):
    def full(*_):
        raise MemoryError("Unable to allocate 3.64 TiB")

    monkeypatch.setattr(run, "make_network", full)
    assert gpunn_("train", *QUICK)[::2] == (1, ["gpunn: error: not enough memory: Unable to allocate 3.64 TiB"])


def test_an_error_of_several_lines_is_told_in_one(gpunn_):
    assert gpunn_("train", "two\nlines.csv")[2] == [
        "gpunn: error: two lines.csv: there is no such file; a path begins in the folder you are in"
    ]


def test_ctrl_c_before_training_is_no_error_of_the_program(gpunn_, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "load_data", stop)
    assert gpunn_("train", *QUICK)[::2] == (130, ["gpunn: stopped by SIGINT"])


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "model.safetensors", "config.toml"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100, "half", "network"], ids=str)
def test_a_damaged_run_is_named(gpunn_, name, content):
    gpunn_("train", *QUICK, "--out", "run")
    path = Path("run", name)
    if content == "half":
        content = path.read_bytes()[: path.stat().st_size // 2]
    elif content == "network":
        content = Path(
            "run", "model.safetensors" if name.startswith("check") else "checkpoint.safetensors"
        ).read_bytes()
    path.write_bytes(content)
    line = ("train", "--resume", "run") if name == "checkpoint.safetensors" else ("summary", "--run", "run")
    code, _, err = gpunn_(*line)
    assert (code, len(err)) == (4, 1)
    assert err[0].startswith(f"gpunn: error: {path}: ")


# --- a run, afterwards


def test_evaluate_gives_the_numbers_of_the_summary_again(gpunn_, digits_run):
    summary = json.loads((digits_run / "summary.json").read_text())
    expected = f"test accuracy {summary['test_accuracy']:.2%}, test loss {summary['test_loss']:.6g}"
    assert gpunn_("evaluate", digits_run) == (0, [expected], [])
    assert gpunn_("evaluate", digits_run, "--device", "strict:cpu")[1][0].split(",")[0] == expected.split(",")[0]


def test_predict_names_the_digit_on_a_picture(gpunn_, digits_run):
    image = pytest.importorskip("PIL.Image")
    _, test = datasets.digits()
    names = []
    for i in range(10):
        row = int(np.flatnonzero(test.y == i)[0])
        pixels = (test.x[row] * 255).astype("uint8").reshape(8, 8)
        names.append(f"picture of a {i}.png")
        image.fromarray(pixels).save(names[-1])
    code, out, err = gpunn_("predict", digits_run, *names)
    assert (code, len(out), err) == (0, 10, [])
    for i, line in enumerate(out):
        assert re.match(rf"picture of a {i}\.png  {i} +\d+\.\d%  \d ", line)


def test_predict_names_a_picture_that_is_none(gpunn_, digits_run):
    pytest.importorskip("PIL")
    Path("x.png").write_text("no picture")
    for name in ("x.png", "none.png"):
        code, _, err = gpunn_("predict", digits_run, name)
        assert (code, len(err)) == (4, 1)
        assert err[0].startswith(f"gpunn: error: {name}: ")


def test_predict_of_a_run_without_images_is_refused(gpunn_):
    files()
    gpunn_("train", "good.npz", *QUICK, "--out", "run")
    code, _, err = gpunn_("predict", "run", "x.png")
    assert (code, err) == (
        2,
        ["gpunn: error: the network in run was trained on data that holds no images"],
    )


def test_scores_are_not_shown_as_probabilities(gpunn_):
    image = pytest.importorskip("PIL.Image")
    gpunn_("train", *QUICK, "--loss", "hinge", "--out", "run")
    image.fromarray((datasets.digits()[1].x[0] * 255).astype("uint8").reshape(8, 8)).save("p.png")
    assert re.fullmatch(r"p\.png(  \d +-?\d+\.\d\d){3}", gpunn_("predict", "run", "p.png")[1][0])
    net = gpunn.load("run/model.safetensors")
    net.output = None  # as that of a network whose loss has the softmax
    gpunn.save("bare", net)
    assert re.fullmatch(r"p\.png(  \d +-?\d+\.\d\d){3}", gpunn_("predict", "bare", "p.png")[1][0])


def test_networks_of_several_kinds_are_compared(gpunn_):
    code, out, err = gpunn_("compare", "--vary", "model=mlp,cnn", "--seeds", 1, "--epochs", 1, "--out", "c")
    assert (code, err) == (0, [])
    assert {line.split()[1] for line in out if line[:1].isdigit()} == {"mlp", "cnn"}


def test_summary_of_a_convolutional_network(gpunn_):
    code, out, _ = gpunn_("summary", "--model", "cnn")
    assert (code, out[-1]) == (0, "26,234 parameters")


def test_summary_of_options_and_of_a_run(gpunn_):
    gpunn_("train", *QUICK, "--out", "run")
    code, out, err = gpunn_("summary", *QUICK)
    assert (code, err) == (0, [])
    assert out[-1] == "610 parameters"
    assert gpunn_("summary", "--run", "run") == (0, out, [])


# --- data of one's own


def table(name, *columns, heading):
    with open(name, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([heading, *zip(*columns, strict=True)])


def flowers():
    kinds = np.arange(150) % 3
    x = RNG.standard_normal((4, 150)) * [[0.4], [0.3], [0.4], [0.2]] + np.array([[5], [3.4], [1.5], [0.2]])
    x += kinds * [[1], [-0.3], [2], [1]]
    names = np.array(["setosa", "versi, color", 'vïrg"inica'])[kinds]
    return x, names


def test_classes_in_a_csv_file_are_learned(gpunn_):
    x, names = flowers()
    table("flowers.csv", *x, names, heading=["a", "b", "c", "d", "species"])
    assert gpunn_("train", "flowers.csv", "--out", "run", "--device", "cpu")[0] == 0
    assert accuracy("run") > 0.9
    config, net = run.open_run("run")
    assert net.about["classes"] == ["setosa", "versi, color", 'vïrg"inica']
    assert (config.data, config.hidden) == (str(Path("flowers.csv").resolve()), [64, 64])
    assert gpunn_("evaluate", "run")[1][0].startswith(f"test accuracy {accuracy('run'):.2%}")


def test_the_target_may_be_any_column(gpunn_):
    x, names = flowers()
    table("flowers.csv", names, *x, heading=["species", "a", "b", "c", "d"])
    gpunn_("train", "flowers.csv", "--target", "species", "--out", "run", "--quiet")
    assert accuracy("run") > 0.9
    assert run.run_config("run").target == "species"


def test_a_quantity_in_a_csv_file_is_learned(gpunn_):
    a, b = RNG.standard_normal((2, 200))
    table("q.csv", a, b, 3 * a - 2 * b + 1, heading=["a", "b", "y"])
    code, out, _ = gpunn_("train", "q.csv", "--out", "run", "--device", "cpu")
    assert code == 0
    assert "regression" in out[1]
    assert re.match(r"test loss [\d.e-]+, ", out[-1])
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["test_loss"] < 0.05
    assert summary["test_accuracy"] is None
    assert gpunn_("evaluate", "run")[1] == [f"test loss {summary['test_loss']:.6g}"]


@pytest.mark.parametrize(("mean", "size"), [(0.0, 1e-3), (50.0, 5.0), (1e6, 1e5)])
def test_quantities_of_any_size_are_learned_from_few_rows(gpunn_, mean, size):
    a, b = RNG.uniform(0, 10, (2, 200))
    table("price.csv", a, b, mean + size * (a - 2 * b), heading=["a", "b", "y"])
    assert gpunn_("train", "price.csv", "--out", "run", "--quiet", "--device", "cpu")[0] == 0
    variance = size**2 * 5 * 100 / 12
    assert json.loads(Path("run/summary.json").read_text())["test_loss"] < 0.05 * variance


def test_a_run_is_used_from_any_folder(gpunn_, monkeypatch):
    files()
    gpunn_("train", "good.npz", *QUICK, "--out", "run")
    measured = gpunn_("evaluate", "run")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert gpunn_("evaluate", "../run") == measured
    assert gpunn_("train", "--resume", "../run", "--quiet")[0] == 0
    assert gpunn_("train", "--config", "../run/config.toml", "--quiet", "--out", "again")[0] == 0


def test_classes_that_are_only_tested_are_remarked_on(gpunn_):
    x = RNG.standard_normal((60, 2))
    np.savez("d.npz", x_train=x, y_train=np.arange(60) % 2, x_test=x, y_test=np.arange(60) % 4)
    note = "note     not among the rows to train on, and so not to be learned: 2, 3"
    assert note in gpunn_("train", "d.npz", *QUICK)[1]


def test_images_in_a_npz_file_are_learned_and_pictures_recognised(gpunn_):
    image = pytest.importorskip("PIL.Image")
    x = RNG.integers(0, 30, (120, 6, 5, 3)).astype("uint8")
    y = np.arange(120) % 2
    x[y == 1, :, :, 0] += 200  # red ones
    np.savez("images.npz", X=x, Y=y)
    gpunn_("train", "images.npz", "--epochs", "20", "--out", "run", "--quiet")
    assert accuracy("run") == 1.0
    for label in (0, 1):
        image.fromarray(x[label]).save("p.png")
        code, out, _ = gpunn_("predict", "run", "p.png")
        assert code == 0
        assert re.match(rf"p\.png  {label} +\d+\.\d%", out[0])


def mixed_table():
    """A table with an identifier, a number that is missing at times, a text and a constant."""
    n = 200
    rng = np.random.default_rng(4)
    colours, kinds = np.array(["red", "blue", "white"]), rng.integers(0, 3, n)
    size = [f"{k + rng.normal(0, 0.2):.3f}" if i % 20 else "" for i, k in enumerate(kinds)]
    colour = colours[(kinds + (rng.random(n) < 0.1)) % 3]
    names = ["id", "size", "petal colour", "place", "kind"]
    table("mixed.csv", range(n), size, colour, ["kew"] * n, np.array(["a", "b", "c"])[kinds], heading=names)


def test_columns_and_the_task_are_told_before_and_scores_after(gpunn_):
    mixed_table()
    code, out, err = gpunn_("train", "mixed.csv", "--out", "run", "--device", "cpu", "--epochs", "20")
    assert (code, err) == (0, [])
    expected = [
        "target   kind: classification, as it holds names",
        "columns  id            number; it only counts the rows: leave it out with --drop",
        r"         size          number; 10 missing, taken as the mean [\d.]+",
        "         petal colour  category of 3: blue, red, white",
        "         place         category of 1: kew; the same in all rows",
    ]
    assert all(map(re.fullmatch, expected, out[2:7]))
    assert "on the 40 rows to test on" in out
    assert any(re.fullmatch(r"a +\d+\.\d% +\d+\.\d% +\d+\.\d% +\d+", line) for line in out)
    assert any(line.startswith("always answering ") for line in out)
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["scores"]["accuracy"] == summary["test_accuracy"] > 0.9
    assert [c["name"] for c in summary["scores"]["classes"]] == ["a", "b", "c"]
    assert gpunn_("evaluate", "run")[1][0].startswith(f"test accuracy {accuracy('run'):.2%}")
    assert len(gpunn_("train", "mixed.csv", "--drop", "id,place", "--quiet", "--out", "b")[1]) == 1
    assert run.run_config("b").drop == ["id", "place"]


def test_predict_writes_the_rows_with_classes_and_probabilities(gpunn_):
    mixed_table()
    gpunn_("train", "mixed.csv", "--drop", "id", "--out", "run", "--quiet")
    rows = list(csv.reader(Path("mixed.csv").read_text().splitlines()))
    order = [3, 0, 2, 1]  # another order, and without the target
    table(
        "new.csv",
        *zip(*([row[i] for i in order] for row in rows[1:]), strict=True),
        heading=[rows[0][i] for i in order],
    )
    code, out, err = gpunn_("predict", "run", "new.csv", "--out", "out.csv")
    assert (code, out) == (0, ["200 rows with predictions in out.csv"])
    assert re.fullmatch(r"gpunn: note: new\.csv: column 'size': 10 missing, taken as the mean [\d.]+", err[0])
    written = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert list(written[0]) == ["place", "id", "petal colour", "size", "predicted kind", "p(a)", "p(b)", "p(c)"]
    assert np.mean([new["predicted kind"] == old[4] for new, old in zip(written, rows[1:], strict=True)]) > 0.9
    for row in written:
        p = {name: float(row[f"p({name})"]) for name in "abc"}
        assert sum(p.values()) == pytest.approx(1, abs=1e-5)
        assert max(p, key=p.get) == row["predicted kind"]
    # the same from the network's file alone, in any folder, shown; and from a file that has predictions already
    Path("run/model.safetensors").rename("only.safetensors")
    assert gpunn_("predict", "only.safetensors", "new.csv")[1] == Path("out.csv").read_text().splitlines()
    assert gpunn_("predict", "only.safetensors", "out.csv")[1] == Path("out.csv").read_text().splitlines()


def test_predict_writes_quantities(gpunn_):
    a = RNG.uniform(0, 10, 200)
    city = np.array(["Bern", "Rome"])[np.arange(200) % 2]
    table("q.csv", a, city, 1000 * a + 5000 * (city == "Rome") + 0.5, heading=["a", "city", "y"])
    out = gpunn_("train", "q.csv", "--out", "run", "--lr", "0.02")[1]
    assert "target   y: regression, as it holds fractions" in out
    assert any(line.startswith("always the mean ") for line in out)
    Path("new.csv").write_text("city;a\nRome;5\nBern;5\n")
    shown = list(csv.DictReader(gpunn_("predict", "run", "new.csv")[1]))
    assert [row["city"] for row in shown] == ["Rome", "Bern"]
    assert [float(row["predicted y"]) for row in shown] == [pytest.approx(v, rel=0.1) for v in (10_000, 5_000)]


def test_what_cannot_be_predicted_is_one_line(gpunn_):
    mixed_table()
    files()
    for name in ("mixed.csv", "good.npz"):
        gpunn_("train", name, "--epochs", 1, "--out", Path(name).stem, "--quiet")
    gpunn_("train", *QUICK, "--out", "digits", "--quiet")
    Path("new.csv").write_text("id,sizes,petal colour,place\n1,2,red,kew\n")
    Path("text.csv").write_text("id,size,petal colour,place\n1,2,red,kew\n1,big,red,kew\n")
    for code, message, line in (
        (
            4,
            "new.csv: no column is called 'size'; the columns are id, sizes, petal colour, place; did you mean",
            "mixed new.csv",
        ),
        (4, "text.csv, line 3: column 'size' holds 'big', expected a number; correct it, or leave", "mixed text.csv"),
        (4, "none.csv: cannot be read: No such file or directory", "mixed none.csv"),
        (2, "the network in mixed was trained on data that holds no images; name a .csv file", "mixed x.png"),
        (2, "one .csv file at a time, got 2 files", "mixed new.csv text.csv"),
        (2, "--out new.csv is the file to predict from; name another", "mixed new.csv --out new.csv"),
        (2, "a .csv file says nothing to the network in good, which was trained on numbers", "good new.csv"),
        (2, "a .csv file says nothing to the network in digits, which was trained on pictures; name", "digits new.csv"),
        (2, "--out is for the predictions of a .csv file", "digits x.png --out y.csv"),
        (4, "x.png: there is no such file; a path begins in the folder you are in", "digits x.png"),
    ):
        found, out, err = gpunn_("predict", *line.split())
        assert (found, out, len(err)) == (code, [], 1)
        assert err[0].startswith(f"gpunn: error: {message}")


def test_a_table_that_has_changed_is_not_evaluated(gpunn_):
    mixed_table()
    gpunn_("train", "mixed.csv", *QUICK, "--out", "run", "--quiet")
    Path("mixed.csv").write_text(Path("mixed.csv").read_text().replace("white", "green"))
    code, _, err = gpunn_("evaluate", "run")
    why = "the table is not that which the network in run was trained on; put the data back as it was, or train anew"
    assert (code, err[0].split(": ")[3]) == (4, why)


def test_pictures_in_folders_are_learned_and_recognised(gpunn_):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(5)
    for kind, channel in (("blue", 2), ("red", 0)):
        Path("pictures", kind).mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(0, 80, (rng.integers(9, 20), 14, 3)).astype("uint8")
            pixels[..., channel] += 120
            image.fromarray(pixels).save(f"pictures/{kind}/{i}.png")
    line = ("train", "pictures/", "--image-size", "12x10", "--epochs", "5", "--out", "run", "--device", "cpu")
    code, out, err = gpunn_(*line, "--model", "cnn")
    assert (code, err) == (0, [])
    assert out[2:4] == [
        "images   12x10, in colour",
        "note     pictures of 9x14 to 19x14 (height x width) brought to 12x10",
    ]
    assert accuracy("run") == 1.0
    shown = gpunn_("predict", "run", "pictures/red/3.png", "pictures/blue/4.png")[1]
    assert [row.split()[1] for row in shown] == ["red", "blue"]
    assert run.run_config("run").data == str(Path("pictures").resolve())
    assert run.open_run("run")[1].about["ink"] is False
    assert gpunn_("evaluate", "run")[0] == 0


# --- the other commands


def test_gradcheck_prints_a_table_and_ends_with_0(gpunn_):
    code, out, err = gpunn_("gradcheck")
    assert (code, err) == (0, [])
    assert out[0] == "largest relative error of the gradients, float64"
    assert out[1].split()[:2] == ["numpy", "numpy-readonly"]
    assert all(re.search(r" \d\.\de-\d\d$", line) for line in out[2:-1])
    assert re.fullmatch(r"largest of all \d\.\de-\d\d: right", out[-1])


@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_gradcheck_ends_with_1_when_a_gradient_is_wrong(gpunn_, monkeypatch, factor):
    right = gpunn.Tanh.backward
    monkeypatch.setattr(gpunn.Tanh, "backward", lambda *args, **more: right(*args, **more) * factor)
    code, out, _ = gpunn_("gradcheck")
    assert code == 1
    assert out[-1].endswith(": WRONG, above 1e-07")


@pytest.fixture
def _no_time(monkeypatch):
    """What is measured of the machine is measured on small arrays."""
    for module in (machine, bench):
        monkeypatch.setattr(module, "rates", functools.partial(machine.rates, size=16))


@pytest.mark.usefixtures("_no_time")
def test_info_tells_of_devices_versions_blas_and_rates(gpunn_, monkeypatch):
    monkeypatch.setattr(machine, "advice", lambda measure: [])
    code, out, err = gpunn_("info")
    assert (code, err) == (0, [])
    assert out[0] == "devices"
    assert out[1].split()[:2] == ["cpu", "yes"]
    text = "\n".join(out)
    assert re.search(r"^chosen by auto: (cpu|cuda:0)$", text, re.M)
    assert re.search(rf"^  numpy +{re.escape(np.__version__)}$", text, re.M)
    assert re.search(r"kernel \w+, (1 thread|\d+ threads)$|none that tells of itself", text, re.M)
    assert "1 threads" not in text
    assert re.search(r'^  numba (is not installed: pip install "gpunn.fast."|[\d.]+)', text, re.M)
    assert re.search(rf"^processors: {os.cpu_count()}, of which this process may use \d+$", text, re.M)
    number = r"[\d.,]+"
    assert re.search(
        rf"^  cpu +products {number} GFLOP/s in float32, {number} in float64; copies {number} GB/s; a small call "
        rf"{number} µs$",
        text,
        re.M,
    )
    assert out[-1] == "nothing found that slows it down"


def test_info_gives_warnings(gpunn_, monkeypatch):
    monkeypatch.setattr(machine, "advice", lambda measure: ["a: b. To mend it: c"])
    assert gpunn_("info", "--no-measure")[1][-2:] == ["warnings", "  a: b. To mend it: c"]


@pytest.mark.parametrize("cudnn", [{"cudnn": "9.28.0", "frontend": "1.28.0"}, None])
def test_info_tells_which_convolution_a_gpu_uses(gpunn_, monkeypatch, cudnn):
    report = DeviceReport("cuda:0", True, "NVIDIA H200 works")
    monkeypatch.setattr("gpunn.environment.devices", lambda: [report])
    monkeypatch.setattr("gpunn.kernels.cuda.cudnn.cudnn_state", lambda: cudnn)
    out = gpunn_("info", "--no-measure")[1]
    line = out[out.index("convolutions on the GPU (matrix products, or cuDNN, the extra cudnn)") + 1]
    assert line.startswith("  cuDNN 9.28.0, frontend 1.28.0" if cudnn else "  products; cuDNN is not in use: pip")
    for switch in "GPUNN_CUDNN", "GPUNN_FAST":
        with monkeypatch.context() as patched:
            patched.setenv(switch, "0")
            assert f"  products; cuDNN is switched off by {switch}=0" in gpunn_("info", "--no-measure")[1]
    monkeypatch.setattr("gpunn.environment.devices", lambda: [dataclasses.replace(report, available=False)])
    assert not any("cuDNN" in line for line in gpunn_("info", "--no-measure")[1])


def test_info_without_measuring(gpunn_, monkeypatch):
    asked = []
    monkeypatch.setattr(machine, "rates", None)
    monkeypatch.setattr(machine, "advice", lambda measure: asked.append(measure) or [])
    code, out, _ = gpunn_("info", "--no-measure")
    assert (code, asked) == (0, [False])
    assert "rates" not in out


@pytest.mark.usefixtures("_no_time")
def test_info_as_json(gpunn_):
    code, out, _ = gpunn_("info", "--json")
    assert code == 0
    found = json.loads("\n".join(out))
    facts = {"devices", "auto", "versions", "blas", "numba", "cudnn", "processors", "usable_processors", "rates"}
    assert found.keys() == facts | {"advice"}
    assert {"float32", "float64", "call_s"} == found["rates"]["cpu"].keys()
    assert found["rates"]["cpu"]["float64"].keys() == {"product_flops", "copy_bytes"}
    assert json.loads("\n".join(gpunn_("info", "--json", "--no-measure")[1]))["rates"] == {}


@pytest.mark.usefixtures("_no_time")
def test_bench_prints_a_table_and_writes_json(gpunn_):
    line = ("bench", "5-4-3", "784-30-10", "--batch-size", "2,7", "--seconds", "0.001", "--json", "b.json")
    code, out, err = gpunn_(*line, "--device", "cpu")
    assert (code, err) == (0, [])
    assert out[0] == "device   cpu: asked for by name"
    assert [row.split()[:2] for row in out[3:7]] == [
        ["5-4-3", "2"],
        ["5-4-3", "7"],
        ["784-30-10", "2"],
        ["784-30-10", "7"],
    ]
    duration = r"\d[\d.]* (µs|ms|s)"
    for row in out[3:7]:
        assert re.fullmatch(rf"\S+ +\d +{duration} +{duration} +{duration} to {duration} +[\d,]+ +[\d.]+%", row)
    assert "python -m benchmarks" in out[-1]
    found = json.loads(Path("b.json").read_text())
    assert found["device"] == "cpu"
    assert found["rates"].keys() == {"product_flops", "copy_bytes"}
    assert [(row["network"], row["batch"]) for row in found["rows"]][::3] == [("5-4-3", 2), ("784-30-10", 7)]


def test_version_and_help(gpunn_):
    assert gpunn_("--version") == (0, [f"gpunn {gpunn.__version__}"], [])
    code, out, _ = gpunn_("--help")
    assert code == 0
    for name in ("train", "evaluate", "predict", "plot", "summary", "gradcheck", "info", "bench"):
        assert any(line.split()[:1] == [name] for line in out)
        assert gpunn_(name, "--help")[0] == 0


def test_help_tells_every_option_and_its_default(gpunn_):
    text = " ".join(" ".join(gpunn_("train", "--help")[1]).split())
    fields = [f.name for f in dataclasses.fields(Config) if f.name != "data"]
    for name in (*fields, "out", "resume", "config", "quiet", "live", "tensorboard"):
        assert f"--{name.replace('_', '-')} " in text
    assert "learning rate (default: suits the data)" in text
    assert "(default: 0.1)" in text
    assert "<" not in text.replace("NAME-<time>", "")


# --- real processes


def start(*arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipe = subprocess.PIPE
    return subprocess.Popen([*GPUNN, *arguments], stdout=pipe, stderr=pipe, text=True, env=environment)


def wait_for(process, condition):
    until = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.002)


def epochs_done(folder):
    try:
        return Path(folder, "history.csv").read_text().count("\n") - 1
    except FileNotFoundError:
        return -1


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_process_with_a_checkpoint(number, code):
    options = ["--hidden", "8", "--schedule", "constant", "--device", "cpu"]
    process = start("train", *options, "--epochs", "1000000", "--out", "run")
    wait_for(process, lambda: epochs_done("run") > 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    expected = f"gpunn: stopped by {number.name}; to go on: gpunn train --resume run\n"
    assert (process.returncode, err) == (code, expected)
    epochs = str(epochs_done("run") + 2)
    assert cli.main(["train", "--resume", "run", "--epochs", epochs, "--quiet"]) == 0
    assert cli.main(["train", *options, "--epochs", epochs, "--out", "whole", "--quiet"]) == 0
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_a_run_that_is_killed_again_and_again_ends_with_the_very_same_weights():
    moments = random.Random(0)
    line = ["train", "--hidden", "16", "--epochs", "30", "--patience", "25", "--device", "cpu", "--quiet"]
    process = start(*line, "--out", "run")
    for goal in (-1, 0, 8, 16):
        wait_for(process, lambda: Path("run/config.toml").exists() and epochs_done("run") >= goal)  # noqa: B023
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        process.communicate()
        process = start("train", "--resume", "run", "--quiet")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    subprocess.run([*GPUNN, *line, "--out", "whole"], check=True, capture_output=True)
    for name in ("model.safetensors", "config.toml", "histograms.safetensors"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()
    assert not list(Path("run").glob(".*"))


@pytest.mark.skipif(os.name != "posix", reason="a pseudo terminal")
@pytest.mark.parametrize("diverges", [False, True])
def test_a_terminal_shows_a_bar_that_leaves_nothing_behind(diverges):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    here, there = pty.openpty()
    termios.tcsetwinsize(there, (24, 80))
    options = ["--optimizer", "sgd", "--lr", "1e30", "--activation", "identity"] if diverges else QUICK
    process = subprocess.Popen([*GPUNN, "train", *options, "--out", "run"], stdout=there, stderr=there)
    os.close(there)
    written = b""
    try:
        while piece := os.read(here, 1000):
            written += piece
    except OSError:  # how Linux says that the other side has gone
        pass
    finally:
        os.close(here)
    assert process.wait(timeout=60) == (1 if diverges else 0)
    text = written.decode()
    assert "epoch 1:   0%|" in text
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        cells = []
        for part in line.split("\r"):
            cells[: len(part)] = part
        lines.append("".join(cells).rstrip())
    assert not [line for line in lines if "%|" in line or "\x1b" in line]
    assert lines[-2].startswith("gpunn: error: the loss became" if diverges else "test accuracy")


@pytest.mark.skipif(os.name != "posix", reason="pipes as on POSIX")
def test_output_that_nobody_reads_is_no_error():
    for line in (["summary"], ["train", *QUICK]):
        process = start(*line)
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1
        process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_to_a_full_disk_is_an_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run([*GPUNN, "summary"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (4, "gpunn: error: standard output: No space left on device\n")


def test_names_that_the_output_has_no_letters_for_are_no_error():
    np.savez("é.npz", x=RNG.standard_normal((40, 2)), y=np.arange(40) % 2)
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*GPUNN, "train", "é.npz", "--epochs", "0"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"data     \xe9.npz: 2 classes" in done.stdout
