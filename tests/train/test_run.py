import csv
import json
import os
import signal
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from gpunn import datasets, environment
from gpunn.data import Dataset
from gpunn.data.batches import as_input
from gpunn.errors import DataError, FileError, OptionError
from gpunn.io.tensors import read_tensors, write_tensors
from gpunn.layers import Dropout, Linear
from gpunn.plot import draw_curves
from gpunn.train import recipe, run
from gpunn.train.config import Config
from gpunn.train.histograms import Histograms
from gpunn.train.table import EpochTable

FILES = [
    "checkpoint.safetensors",
    "config.toml",
    "histograms.safetensors",
    "history.csv",
    "history.jsonl",
    "model.safetensors",
    "summary.json",
]
SMALL = {"hidden": [8], "epochs": 4, "batch_size": 32, "lr": 3e-3, "device": "cpu"}  # of digits: 41 steps an epoch
RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("own_folder")


def train(options=SMALL, out="run", **more):
    return run.train(Config.of(options), out, quiet=True, **more)


def resume(folder, **options):
    return run.train(run.run_config(folder, options), resume=folder, quiet=True)


def stop_at(monkeypatch, step, number=signal.SIGTERM):
    """Let a signal arrive in this step."""

    class Table(EpochTable):
        def on_step(self, trainer):
            if trainer.steps == step:
                signal.raise_signal(number)

        on_epoch = close = lambda *_: None

    monkeypatch.setattr(run, "EpochTable", Table)


def interrupted(options, out="run", **more):
    with pytest.raises(run.Stopped) as stopped:
        run.train(Config.of(options), out, **more)
    return stopped.value


def contents(folder):
    """All that a run leaves, but for the time it took."""
    folder = Path(folder)
    tensors, about = read_tensors(folder / "checkpoint.safetensors", "checkpoint")
    for row in [about, *about["history"]]:
        row.pop("seconds")
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    for row in [*rows, *lines]:
        row.pop("seconds")
    assert lines == about["history"]
    return (
        (folder / "model.safetensors").read_bytes(),
        (folder / "histograms.safetensors").read_bytes(),
        {name: (array.dtype, array.tobytes()) for name, array in tensors.items()},
        about,
        rows,
        (folder / "config.toml").read_text(),
    )


# --- the folder


def test_a_run_leaves_its_folder():
    folder, summary = train()
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert {name: summary[name] for name in ("name", "device", "backend", "dtype", "seed", "epochs", "parameters")} == {
        "name": "digits",
        "device": "cpu",
        "backend": "numpy",
        "dtype": "float32",
        "seed": 0,
        "epochs": 4,
        "parameters": 64 * 8 + 8 + 8 * 10 + 10,
    }
    assert summary["device_reason"] == "asked for by name"
    assert summary["versions"]["numpy"] == np.__version__
    assert {"python", "gpunn", "safetensors"} <= summary["versions"].keys()
    assert summary["samples_per_second"] == pytest.approx(4 * 1294 / summary["seconds"])
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "41"), ("2", "82"), ("3", "123"), ("4", "164")]
    assert float(rows[-1]["loss"]) == summary["train_loss"]
    assert sum(float(row["seconds"]) for row in rows) == pytest.approx(summary["seconds"])


def test_the_summary_is_what_the_network_does():
    folder, summary = train()
    config, net = run.open_run(folder)
    assert config == Config.of(SMALL)
    _, test = datasets.digits()
    p = np.stack([net(x[None])[0] for x in test.x])
    right = p.argmax(axis=1) == test.y
    assert summary["test_accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert summary["test_loss"] == pytest.approx(-np.log(p[np.arange(len(p)), test.y]).mean(), rel=1e-5)
    assert run.evaluate(folder) == {"loss": summary["test_loss"], "accuracy": summary["test_accuracy"]}


def test_curves_are_drawn_where_there_is_matplotlib(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(run, "draw_curves", draw_curves)
    folder, _ = train()
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_are_no_curves(monkeypatch):
    monkeypatch.setattr(run, "draw_curves", draw_curves)
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.ticker"):
        monkeypatch.setitem(sys.modules, name, None)
    folder, _ = train()
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_config_toml_is_enough_to_run_again():
    first, _ = train(
        SMALL | {"optimizer": "sgd", "momentum": 0.9, "lr": 0.01, "warmup": 7, "clip_norm": 1.0, "seed": 3}
    )
    second, _ = run.train(Config.read(first / "config.toml"), "again", quiet=True)
    assert contents(second) == contents(first)


def test_every_option_of_the_config_makes_a_difference():
    changes = [
        *(
            {"activation": "tanh"},
            {"loss": "sigmoid"},
            {"loss": "focal"},
            {"loss": "hinge"},
            {"dropout": 0.2},
            {"model": "cnn", "hidden": []},
            {"optimizer": "sgd"},
            {"lr": 0.1},
            {"weight_decay": 0.1},
        ),
        *({"optimizer": "sgd", "momentum": 0.9}, {"schedule": "constant"}, {"warmup": 9}, {"clip_norm": 0.1}),
        *({"batch_size": 64}, {"epochs": 2}, {"valid": 0.0}, {"seed": 1}, {"dtype": "float64"}, {"hidden": []}),
        *({"schedule": name} for name in ("step", "exponential", "inverse", "restarts", "polynomial", "onecycle")),
        *({"optimizer": name} for name in ("adamw", "rmsprop", "adagrad")),
        *({"optimizer": name} for name in ("nadam", "adamax", "adadelta", "lion", "muon")),
    ]
    models = set()
    for i, change in enumerate([{}, *changes]):
        folder, _ = train(SMALL | {"epochs": 1, "optimizer": "adam"} | change, f"run{i}")
        models.add((folder / "model.safetensors").read_bytes())
    assert len(models) == len(changes) + 1 - 1  # AdamW without weight decay is Adam


def test_runs_begun_in_one_second_have_folders_of_their_own():
    folders = {train(SMALL | {"epochs": 0}, None)[0] for _ in range(3)}
    assert len(folders) == 3
    assert {folder.parent for folder in folders} == {Path("runs")}
    assert all(folder.name.startswith("digits-2") for folder in folders)


def test_a_run_of_no_epochs():
    folder, summary = train(SMALL | {"epochs": 0})
    assert sorted(path.name for path in folder.iterdir()) == [f for f in FILES if f != "histograms.safetensors"]
    assert (folder / "history.csv").read_text() == ""
    assert (summary["train_loss"], summary["seconds"], summary["samples_per_second"]) == (None, 0.0, None)


def test_a_run_goes_on_in_another_thread():
    done = []
    thread = threading.Thread(target=lambda: done.append(train()))
    thread.start()
    thread.join()
    assert done[0][1]["epochs"] == 4


def test_the_device_its_reason_and_a_line_per_epoch_are_told(capsys):
    run.train(Config.of(SMALL | {"device": "strict:device1", "epochs": 2}), "run")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "device   strict:device1: asked for by name"
    assert lines[1] == "data     digits: 10 classes; 1,294 rows to train on, 144 to watch progress, 359 to test on"
    assert lines[2] == "network  64-8-10 relu, 610 parameters"
    assert lines[3] == "folder   run"
    assert lines[4].split()[:2] == ["epoch", "loss"]
    assert [line.split()[0] for line in lines[5:]] == ["1", "2"]


@pytest.mark.parametrize("device", ["cpu", "strict:cpu", "strict:device1", "torch:cpu"])
def test_every_device_trains_alike(device):
    pytest.importorskip({"strict": "array_api_strict", "cpu": "numpy"}.get(device.partition(":")[0], "torch"))
    options = SMALL | {"epochs": 1, "dtype": "float64"}
    _, expected = train(options, "here")
    folder, summary = train(options | {"device": device}, "there")
    assert summary["device"] == device
    assert summary["test_loss"] == pytest.approx(expected["test_loss"], rel=1e-10)
    assert run.evaluate(folder, "cpu")["loss"] == pytest.approx(expected["test_loss"], rel=1e-10)


# --- where a run cannot be


@pytest.mark.parametrize("out", ["file", "file/below", "a" * 300])
def test_a_folder_that_cannot_be_made_is_named(out):
    Path("file").touch()
    with pytest.raises(FileError, match=f"^{out}: cannot be made: .*; name another with --out"):
        train(out=out)


def test_runs_that_is_a_file_is_named():
    Path("runs").touch()
    with pytest.raises(FileError, match="cannot be made"):
        train(out=None)


def test_a_folder_with_something_in_it_is_left_alone():
    Path("my run").mkdir()
    Path("my run/thesis.txt").write_text("x")
    with pytest.raises(FileError, match=r"^my run: is not empty; .* gpunn train --resume 'my run'$"):
        train(out="my run")
    assert os.listdir("my run") == ["thesis.txt"]


def test_a_folder_that_is_taken_away_during_the_run_is_named(monkeypatch):
    stop_at(monkeypatch, 50)
    monkeypatch.setattr(signal, "raise_signal", lambda _: Path("run").rename("elsewhere"))
    with pytest.raises(FileError, match=r"run/histograms\.safetensors: cannot be written: No such file"):
        run.train(Config.of(SMALL), "run")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"activation": "rulu"}, OptionError),
        ({"loss": "mse"}, OptionError),
        ({"valid": 0.9999}, DataError),
        ({"data": "nan.npz"}, DataError),
        ({"data": "nan_test.npz"}, DataError),
        ({"data": "big.npz"}, DataError),
        ({"data": "big_test.npz"}, DataError),
        ({"data": "numbers.npz", "loss": "softmax"}, OptionError),
    ],
)
def test_nothing_is_written_before_options_and_data_were_looked_at(options, error):
    x, y = RNG.standard_normal((40, 3)), np.arange(40) % 2
    hole, huge = x.copy(), x.copy()
    hole[7, 1], huge[7, 1] = np.nan, 1e300
    np.savez("nan.npz", x=hole, y=y)
    np.savez("nan_test.npz", x_train=x, y_train=y, x_test=hole, y_test=y)
    np.savez("big.npz", x=huge, y=y)
    np.savez("big_test.npz", x_train=x, y_train=y, x_test=huge, y_test=y)
    np.savez("numbers.npz", x=x, y=x[:, 0])
    with np.errstate(over="ignore"), pytest.raises(error):
        train(SMALL | options)
    assert not Path("run").exists()


# --- to stop and go on

OPTIMIZERS = {
    "momentum": {"optimizer": "sgd", "momentum": 0.9, "lr": 0.05},
    "adam": {"weight_decay": 1e-3, "warmup": 60, "clip_norm": 1.0},
    "patience": {"patience": 2, "epochs": 30, "lr": 0.02, "hidden": [32]},
    "float64": {"dtype": "float64", "optimizer": "rmsprop", "schedule": "step"},
    "strict": {"device": "strict:device1", "epochs": 2},
    "torch": {"device": "torch:cpu", "epochs": 2},
}


@pytest.mark.parametrize("step", [1, 50, 82], ids=["the first step", "in an epoch", "at its end"])
@pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_a_resumed_run_ends_with_the_very_same_files(monkeypatch, options, step):
    if "torch" in options.get("device", ""):
        pytest.importorskip("torch")
    elif "strict" in options.get("device", ""):
        pytest.importorskip("array_api_strict")
    options = SMALL | options
    train(options, "whole")
    with monkeypatch.context() as patched:
        stop_at(patched, step)
        interrupted(options, "part")
    assert read_tensors("part/checkpoint.safetensors", "checkpoint")[1]["steps"] == step
    assert not Path("part/summary.json").exists()
    resume("part")
    assert contents("part") == contents("whole")
    whole, part = (json.loads(Path(f, "summary.json").read_text()) for f in ("whole", "part"))
    for summary in (whole, part):
        del summary["seconds"], summary["samples_per_second"]
    assert part == whole


def test_patience_ends_a_run_and_the_best_weights_are_kept():
    folder, summary = train(SMALL | OPTIMIZERS["patience"])
    history = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    best = min(history, key=lambda row: float(row["valid_loss"]))
    assert summary["epochs"] == len(history) == int(best["epoch"]) + 2 < 30
    assert summary["best_epoch"] == int(best["epoch"])
    config, net = run.open_run(folder)
    everything, _ = recipe.load_data(config)
    rest, valid = everything.split(config.valid, config.seed)
    trainer = recipe.make_trainer(config, net, rest, net.store.device)
    assert trainer.evaluate(valid)["loss"] == float(best["valid_loss"])


def test_a_run_can_be_stopped_again_and_again(monkeypatch):
    train(SMALL, "whole")
    with monkeypatch.context() as patched:
        for i, step in enumerate([3, 41, 42, 100, 164]):
            stop_at(patched, step)
            with pytest.raises(run.Stopped):
                run.train(Config.of(SMALL), *(["part"] if i == 0 else []), resume="part" if i else None)
    resume("part")
    assert contents("part") == contents("whole")


def test_damaged_histograms_do_not_keep_a_run_from_going_on(monkeypatch, capsys):
    with monkeypatch.context() as patched:
        stop_at(patched, 100)
        interrupted(SMALL)
    Path("run/histograms.safetensors").write_bytes(b"damaged")
    run.train(run.run_config("run"), resume="run")
    assert "note     run/histograms.safetensors: not a safetensors file" in capsys.readouterr().out
    assert Histograms.load("run/histograms.safetensors").epochs == [3, 4]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_says_how_to_go_on(monkeypatch, number, code):
    before = signal.getsignal(number)
    stop_at(monkeypatch, 50, number)
    stopped = interrupted(SMALL, "my run")
    assert str(stopped) == f"stopped by {number.name}; to go on: gpunn train --resume 'my run'"
    assert 128 + stopped.number == code
    assert signal.getsignal(number) is before


def test_a_signal_that_comes_before_the_first_step_is_not_lost(monkeypatch):
    class Table(EpochTable):
        def on_start(self, trainer, epochs, batches):
            signal.raise_signal(signal.SIGTERM)

        on_step = on_epoch = close = lambda *_: None

    monkeypatch.setattr(run, "EpochTable", Table)
    interrupted(SMALL)
    assert read_tensors("run/checkpoint.safetensors", "checkpoint")[1]["steps"] == 1


def test_a_signal_after_the_last_step_keeps_the_best_weights_out_of_the_checkpoint(monkeypatch):
    options = SMALL | OPTIMIZERS["patience"]
    train(options, "whole")

    class Progress(run._Progress):
        def on_end(self, trainer):
            super().on_end(trainer)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(run, "_Progress", Progress)
    with pytest.raises(run.Stopped):
        train(options, "part")
    assert contents("part") == contents("whole")


def test_a_finished_run_resumed_stays_as_it_is():
    for options in (SMALL, SMALL | OPTIMIZERS["patience"]):
        folder, summary = train(options, f"run{len(options)}")
        before = contents(folder)
        assert resume(folder) == (folder, summary)
        assert contents(folder) == before


def test_a_finished_run_resumed_says_how_to_go_on(capsys):
    train()
    run.train(run.run_config("run", {}), resume="run")
    assert "nothing is left to train; --epochs with more than 4 goes on" in capsys.readouterr().out


def test_a_finished_run_goes_on_with_more_epochs():
    options = SMALL | {"schedule": "constant"}
    train(options | {"epochs": 6}, "whole")
    folder, _ = train(options)
    _, summary = resume(folder, epochs=6)
    assert summary["epochs"] == 6
    assert run.run_config(folder).epochs == 6
    for mine, whole in zip(contents(folder)[:3], contents("whole")[:3], strict=True):
        assert mine == whole


def test_a_run_that_was_ended_before_its_first_checkpoint_begins_again():
    folder, _ = train(out="whole")
    Path("part").mkdir()
    Path("part/config.toml").write_text((folder / "config.toml").read_text())
    Path("part/.checkpoint.safetensors.xyz.gpunn-tmp").write_text("half of it")
    resume("part")
    assert contents("part") == contents("whole")
    assert not list(Path("part").glob(".*"))


@pytest.mark.parametrize("options", [0, 1, 10, -1])
def test_options_that_config_toml_lacks_are_not_made_up(options):
    train()
    path = Path("run/config.toml")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:options]))
    Path("run/checkpoint.safetensors").unlink()
    Path("run/model.safetensors").unlink()
    for use in (resume, run.open_run, run.evaluate):
        with pytest.raises(FileError, match=r"config\.toml: not the whole config of a run"):
            use("run")


def test_what_a_killed_process_left_does_not_take_the_folder():
    Path("run").mkdir()
    Path("run/.config.toml.xyz.gpunn-tmp").touch()
    train()
    assert not list(Path("run").glob(".*"))


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("lr = 0.003", "lr = 0.002", FileError, "a run with lr = 0.003, and config.toml has 0.002"),
        ("seed = 0", "seed = 1", FileError, "a run with seed 0, and this one has 1"),
        ("hidden = [8]", "hidden = [9]", FileError, "another network"),
        ("batch_size = 32", "batch_size = 31", FileError, "batch_size = 32, and config.toml has 31"),
        ('"adam"', '"sgd"', FileError, "optimizer 'Adam', and this one has 'SGD'"),
        ('"float32"', '"float64"', FileError, "dtype 'float32', and this one has 'float64'"),
        ("valid = 0.1", "valid = 0.2", FileError, "valid = 0.1, and config.toml has 0.2"),
        ("epochs = 4", "epochs = 3", OptionError, "epochs must be at least 4, the epoch that run has come to, got 3"),
        ("patience = 0", "patience = 3", OptionError, "the run had no patience"),
        ("lr =", "learning_rate =", OptionError, r"config\.toml: option 'learning_rate' is not known"),
        ("lr =", "lr", FileError, r"config\.toml: not a TOML file"),
    ],
)
def test_a_config_that_was_changed_is_refused(old, new, error, message):
    train()
    path = Path("run/config.toml")
    text = path.read_text()
    path.write_text(text.replace(old, new))
    assert path.read_text() != text
    before = Path("run/checkpoint.safetensors").read_bytes()
    with pytest.raises(error, match=message):
        resume("run")
    assert Path("run/checkpoint.safetensors").read_bytes() == before


def test_fewer_epochs_than_were_begun_are_refused(monkeypatch):
    stop_at(monkeypatch, 50)
    interrupted(SMALL)
    with pytest.raises(OptionError, match="epochs must be at least 2"):
        resume("run", epochs=1)


def test_data_that_has_changed_is_refused():
    x = RNG.standard_normal((50, 3))
    np.savez("d.npz", x=x, y=np.arange(50) % 2)
    train(SMALL | {"data": "d.npz"})
    np.savez("d.npz", x=x[:40], y=np.arange(40) % 2)
    with pytest.raises(FileError, match=r"a run on 36 rows of .*d\.npz, which now has 29"):
        resume("run")
    np.savez("d.npz", x=x, y=np.arange(50) % 2 + 3)
    with pytest.raises(DataError, match=r"d\.npz: the classes are not those that the network in run was trained on"):
        run.evaluate("run")
    before = contents("run")
    with pytest.raises(DataError, match=r"d\.npz: its classes or columns are not those that the run in run began with"):
        resume("run", epochs=9)
    assert contents("run") == before


@pytest.mark.parametrize(("old", "new"), [("a,b,c,y", "a,b,d,y"), (",x,", ",z,"), (",6,", ",60,")])
def test_a_table_that_has_changed_is_refused(old, new):
    train(a_table())
    text = Path("d.csv").read_text()
    assert old in text
    Path("d.csv").write_text(text.replace(old, new))
    before = contents("run")
    with pytest.raises(DataError, match=r"d\.csv: its classes or columns are not those that the run in run began with"):
        resume("run", epochs=9)
    assert contents("run") == before


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "config.toml", "model.safetensors"])
def test_a_run_that_lacks_a_file_is_named(name):
    train()
    Path("run", name).unlink()
    if name != "model.safetensors":
        with pytest.raises(FileError, match=name):
            resume("run")
    if name != "checkpoint.safetensors":
        with pytest.raises(FileError, match=name) as error:
            run.open_run("run")
    if name == "model.safetensors":
        assert str(error.value).endswith("; gpunn train --resume run goes on to it")
        resume("run")
        run.open_run("run")


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("nowhere", "there is no such folder"),
        ("file", "is a file, expected the folder of a run"),
        ("empty", "there is no run in this folder"),
        ("a" * 300, "there is no such folder"),
    ],
)
def test_a_folder_without_a_run_is_named(folder, message):
    Path("file").touch()
    Path("empty").mkdir()
    for use in (resume, run.open_run, run.evaluate):
        with pytest.raises(FileError, match=f"^{folder}: {message}"):
            use(folder)


# --- logs


def test_history_jsonl_grows_and_is_mended_when_a_killed_run_goes_on():
    options = SMALL | {"schedule": "constant"}
    train(options | {"epochs": 2})
    path = Path("run/history.jsonl")
    lines = path.read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    path.write_text(path.read_text() + lines[0] + '\n{"epoch": 4, "lo')  # written after the last checkpoint
    before = path.stat().st_ino
    resume("run", epochs=4)
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]
    assert path.read_text().splitlines()[:2] == lines
    after = path.stat().st_ino
    assert before != after  # replaced as a whole at the start, and then only added to
    resume("run", epochs=5)
    train(options | {"epochs": 5}, "whole")
    assert contents("run") == contents("whole")


def test_a_live_chart_takes_the_place_of_the_table_on_a_terminal(monkeypatch, capsys):
    run.train(Config.of(SMALL), "a", live=True)
    out = capsys.readouterr().out
    assert "note     a live chart is drawn on a terminal, and this is none: a line for each epoch instead" in out
    assert "\x1b" not in out
    monkeypatch.setattr(run.LiveChart, "possible", lambda: True)
    run.train(Config.of(SMALL), "b", live=True)
    out = capsys.readouterr().out
    assert "valid accuracy  learning rate" not in out
    assert "epoch 4 of 4  loss " in out
    run.train(Config.of(SMALL), "c", live=True, quiet=True)
    assert capsys.readouterr().out == ""


# --- convolutional networks, dropout


def pictures(side=12, channels=1):
    """Images with a bar across, a bar down, or none."""
    x = np.random.default_rng(1).integers(0, 60, (90, side, side, channels)).astype("uint8")
    y = np.arange(90) % 3
    x[y == 1, 3:6] += 150
    x[y == 2, :, 3:6] += 150
    np.savez("images.npz", x=x, y=y)


@pytest.mark.parametrize("model", ["cnn", "lenet"])
def test_a_convolutional_network_learns_images_and_is_used_like_any_other(model):
    pictures(channels=2)
    options = {"data": "images.npz", "model": model, "epochs": 12, "lr": 5e-3, "batch_size": 16, "device": "cpu"}
    folder, summary = train(options)
    assert summary["test_accuracy"] == 1.0
    assert run.evaluate(folder)["accuracy"] == 1.0
    _, net = run.open_run(folder)
    assert net.about["image_shape"] == [12, 12, 2]
    assert sum(type(layer).__name__ == "Conv2d" for layer in net.layers) == (3 if model == "cnn" else 2)


def test_a_convolutional_network_that_was_stopped_goes_on_to_the_bit(monkeypatch):
    pictures()
    options = {"data": "images.npz", "model": "cnn", "epochs": 3, "batch_size": 16, "device": "cpu"}
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        interrupted(options)
    resume("run")
    train(options, "whole")
    assert contents("run") == contents("whole")


def test_pixels_and_quantities_of_any_range_pass_a_convolutional_network():
    x = np.random.default_rng(2).uniform(0, 1000, (60, 8, 8))
    np.savez("d.npz", x=x, y=x.mean(axis=(1, 2)) + 0.5)
    _, net = run.open_run(train({"data": "d.npz", "model": "cnn", "dropout": 0.0, "epochs": 1})[0])
    assert [type(layer).__name__ for layer in net.layers[:2]] == ["Standardize", "Reshape"]
    assert net.about["white"] == pytest.approx(1000, rel=0.05)
    assert 300 < net(x.reshape(60, 64).astype("float32")).mean() < 700  # around the mean of the targets


def test_what_a_convolutional_network_is_not_for_is_refused_with_the_mend():
    with pytest.raises(OptionError, match="model lenet is for larger images than those of 8x8; choose cnn or mlp"):
        train({"model": "lenet"})
    config = save("d.npz", np.random.default_rng(2).standard_normal((40, 4)), np.arange(40) % 2)
    config.model = "cnn"
    with pytest.raises(OptionError, match=r"model cnn is for images, and d\.npz holds rows of features; choose mlp"):
        run.train(config, "b", quiet=True)
    pictures(side=3)
    with pytest.raises(OptionError, match="model cnn is for larger images than those of 3x3; choose mlp"):
        train({"data": "images.npz", "model": "cnn"})


@pytest.mark.parametrize(("model", "expected"), [("mlp", 2), ("cnn", 1), ("lenet", 2)])
def test_dropout_stands_before_each_linear_layer_but_the_first_of_all(model, expected):
    train = Dataset(np.ones((6, 144)), np.arange(6) % 2, (12, 12, 1), ("a", "b"))
    options = {"model": model, "dropout": 0.25} | ({"hidden": [5, 4]} if model == "mlp" else {})
    layers = recipe.make_network(Config.of(options), train).layers
    found = [i for i, layer in enumerate(layers) if isinstance(layer, Dropout)]
    assert len(found) == expected
    assert all(layers[i].rate == 0.25 and isinstance(layers[i + 1], Linear) for i in found)


def test_a_run_of_an_older_gpunn_that_had_fewer_options_goes_on():
    options = SMALL | {"schedule": "constant"}
    train(options, "whole")
    folder, _ = train(options | {"epochs": 2})
    later = ("model", "dropout")
    tensors, about = read_tensors(folder / "checkpoint.safetensors", "checkpoint")
    for name in later:
        about["config"].pop(name)
    write_tensors(folder / "checkpoint.safetensors", "checkpoint", tensors, about)
    lines = (folder / "config.toml").read_text().splitlines(keepends=True)
    (folder / "config.toml").write_text("".join(line for line in lines if not line.startswith(later)))
    resume("run", epochs=4)
    assert contents("run") == contents("whole")


# --- data of one's own


def save(name, x, y):
    np.savez(name, x=x, y=y)
    return Config.of({"data": name})


@pytest.mark.parametrize("dtype", ["int8", "uint64", "float32", "bool"])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_a_few_whole_numbers_are_classes(dtype, shape):
    labels = np.array([1, 0] * 20 if dtype == "bool" else [7, 3] * 20)
    config = save("d.npz", RNG.standard_normal((40, 2)), labels.astype(dtype).reshape(shape))
    for part in recipe.load_data(config):
        assert part.classes == (("False", "True") if dtype == "bool" else ("3", "7"))
        assert part.y.shape == (len(part),)
        assert set(part.y.tolist()) == {0, 1}


@pytest.mark.parametrize(
    "y", [np.arange(40), np.arange(40) % 2 + 0.5, np.ones((40, 3))], ids=["many", "fractions", "rows"]
)
def test_other_numbers_are_quantities(y):
    train, test = recipe.load_data(save("d.npz", RNG.standard_normal((40, 2)), y))
    assert train.classes == test.classes == ()
    np.testing.assert_array_equal(np.unique(np.concatenate([train.y, test.y])), np.unique(y))


@pytest.mark.parametrize(
    ("y", "task", "message"),
    [
        (np.arange(40) + 0.5, "classification", "needs whole numbers or text as targets, got such as 0.5"),
        (np.ones((40, 3)), "classification", "needs whole numbers or text as targets, got rows of 3"),
        (np.zeros(40, int), "auto", r"d\.npz: the target is 0 in all rows: there is nothing to tell apart"),
    ],
)
def test_targets_that_do_not_fit_the_task_are_named(y, task, message):
    config = save("d.npz", RNG.standard_normal((40, 2)), y)
    config.task = task
    with pytest.raises(DataError, match=message):
        recipe.load_data(config)


def a_table():
    rng = np.random.default_rng(6)
    rows = [f"{rng.normal():.3f},{'' if i % 9 == 0 else i % 7},{rng.choice(['x', 'y', ''])},{i % 2}" for i in range(90)]
    Path("d.csv").write_text("\n".join(["a,b,c,y", *rows]))
    return {"data": "d.csv", "epochs": 4, "schedule": "constant", "device": "cpu"}


def test_a_run_on_a_table_with_text_and_missing_cells_goes_on_to_the_bit():
    options = a_table()
    train(options | {"epochs": 2})
    resume("run", epochs=4)
    train(options, "whole")
    assert contents("run") == contents("whole")


def test_categories_stay_0_and_1_and_numbers_are_standardised():
    train_part, _ = recipe.load_data(Config.of(a_table()))
    assert train_part.x.shape[1] == 5
    y = (
        recipe.make_network(Config.of({"data": "d.csv"}), train_part)
        .init(dtype="float64")
        .layers[0]
        .infer(train_part.x)
    )
    np.testing.assert_array_equal(y[:, 2:], train_part.x[:, 2:])
    np.testing.assert_allclose(y[:, :2].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(y[:, :2].std(axis=0), 1.0)


@pytest.mark.parametrize(
    ("y", "task", "reason"),
    [
        (np.arange(40) % 3, "auto", "as it holds only 3 different numbers"),
        (np.arange(40), "auto", "as it holds many different numbers"),
        (np.arange(40) / 8, "auto", "as it holds fractions"),
        (np.arange(40) % 3, "regression", "as asked for"),
        (np.arange(40) % 2 == 0, "auto", "as it holds names"),
    ],
)
def test_the_reason_for_the_task_is_told(y, task, reason):
    config = save("d.npz", np.ones((40, 1)), y)
    config.task = task
    assert recipe.task_reason(config, recipe.load_data(config)[0]) == reason


def test_text_is_no_quantity():
    Path("d.csv").write_text("x,y\n" + "1,yes\n2,no\n" * 10)
    with pytest.raises(DataError, match="regression needs numbers as targets, got text such as 'no'; choose"):
        recipe.load_data(Config.of({"data": "d.csv", "task": "regression"}))


@pytest.mark.parametrize(("x", "y", "what"), [(-1e300, 1.5, "inputs of the size 1e\\+300"), (1.0, 2e300, "targets of")])
def test_numbers_that_float32_has_not_are_named(x, y, what):
    some = RNG.standard_normal(40)
    config = save("d.npz", np.where(some > 0, some, x)[:, None], np.where(some > 0, some, y))
    with pytest.raises(DataError, match=rf"^d\.npz: {what}.* expected up to 1e\+37; choose a larger unit$"):
        recipe.load_data(config)


def test_whole_numbers_can_be_quantities():
    config = save("d.npz", RNG.standard_normal((40, 2)), np.arange(40) % 3)
    config.task = "regression"
    assert recipe.load_data(config)[0].classes == ()


def test_too_few_rows_are_named():
    with pytest.raises(DataError, match=r"^d\.npz: .* 1 row cannot .*; add rows: a part of 0\.2 is to test on$"):
        recipe.load_data(save("d.npz", np.ones((1, 2)), np.ones(1)))
    np.savez("e.npz", x=np.ones((5, 2)), y=[0, 1, 0, 1, 1])
    with pytest.raises(DataError, match=r"^e\.npz: .*4 rows.*; --valid 0 sets none aside$"):
        train({"data": "e.npz"})


def images(kind):
    rest, test = datasets.digits()
    scale, dtype = {"bytes": (255, "uint8"), "to 255": (255, "float32"), "to 16": (16, "int64")}[kind]
    shapes = {"features": (-1, 64), "images": (-1, 8, 8)}
    return {
        shape: {"x_train": (rest.x * scale).astype(dtype).reshape(size), "y_train": rest.y}
        | {"x_test": (test.x * scale).astype(dtype).reshape(size), "y_test": test.y}
        for shape, size in shapes.items()
    }


@pytest.mark.parametrize("kind", ["bytes", "to 255", "to 16"])
def test_pixels_of_any_range_are_learned(kind):
    for shape, arrays in images(kind).items():
        np.savez("d.npz", **arrays)
        _, summary = train({"data": "d.npz", "epochs": 15, "device": "cpu"}, shape)
        assert summary["test_accuracy"] > 0.93


@pytest.mark.parametrize(("loss", "shape"), [("", (40, 3)), ("mse", 40), ("mae", 40), ("huber", 40)])
def test_quantities_are_learned_with_every_loss_for_them(loss, shape):
    y = RNG.standard_normal(shape)
    x = np.concatenate([y.reshape(40, -1), np.ones((40, 1))], axis=1)
    np.savez("d.npz", x=x, y=y)
    _, summary = train({"data": "d.npz", "loss": loss, "hidden": [], "lr": 0.05, "epochs": 60, "device": "cpu"})
    assert summary["test_loss"] < 0.03
    assert summary["test_accuracy"] is None


def test_counts_are_learned_from_their_mean_on():
    x = RNG.uniform(-1, 1, (300, 1))
    y = np.random.default_rng(3).poisson(np.exp(5 + x[:, 0])).astype(float)
    np.savez("d.npz", x=x, y=y)
    options = {"data": "d.npz", "task": "regression", "loss": "poisson", "hidden": [], "device": "cpu"}
    for epochs, within in ((0, 1.0), (40, 0.1)):
        folder, _ = train(options | {"lr": 0.05, "epochs": epochs}, f"run{epochs}")
        _, net = run.open_run(folder)
        rates = net(np.array([[-0.5], [0.5]], dtype="float32"))[:, 0]
        np.testing.assert_allclose(np.log(rates), [4.5, 5.5], atol=within)
    np.savez("d.npz", x=x, y=-y)
    with pytest.raises(DataError, match="PoissonLoss expects counts, from 0"):
        train(options)


@pytest.mark.parametrize(
    "x",
    [
        RNG.standard_normal((50, 2)) * [1e3, 1e-3] + 7,
        RNG.integers(90, 200, (50, 2)).astype("float64"),
        RNG.integers(90, 200, (50, 2)).astype("uint8"),
        np.full((50, 2), 3.0),
    ],
    ids=["numbers", "whole numbers", "bytes", "all the same"],
)
def test_a_network_for_features_standardises_them(x):
    net = recipe.make_network(Config.of({"data": "d.csv"}), Dataset(x, np.arange(50) % 2, classes=("a", "b")))
    net.init(dtype="float64")
    y = net.layers[0].infer(as_input(x, "float64", np))  # as the trainer hands it on
    np.testing.assert_allclose(y.mean(axis=0), 0.0, atol=1e-10)
    np.testing.assert_allclose(y.std(axis=0), float(np.ptp(x) > 0), atol=1e-10)


# --- what is told of the machine


def test_information_is_plain_json():
    found = json.loads(json.dumps(environment.information(), allow_nan=False))
    assert found["processors"] >= 1
    assert found["devices"][0] == {"name": "cpu", "available": True, "reason": f"NumPy {np.__version__}", "fix": ""}
    assert all(report["available"] or (report["reason"] and report["fix"]) for report in found["devices"])
    assert found["versions"]["numpy"] == np.__version__
    assert ("array-api-strict" in found["versions"]) == bool(find_spec("array_api_strict"))
    for library in found["blas"]:
        assert library.keys() == {"library", "version", "kernel", "threads"}
        assert library["threads"] >= 1
