import json
from pathlib import Path

import numpy as np
import pytest

from gpunn import cli
from gpunn.errors import FileError, OptionError
from gpunn.train.compare import compare, parse_vary

SMALL = {"epochs": 2, "hidden": [16], "device": "cpu"}
pytestmark = pytest.mark.usefixtures("own_folder")


def test_options_and_their_values_are_read():
    texts = ["activation=relu, tanh", "hidden=128x64,256,none", "lr=0.1,1e-2", "batch-size=16,32", "momentum=0.9"]
    assert parse_vary(texts) == {
        "activation": ["relu", "tanh"],
        "hidden": [[128, 64], [256], []],
        "lr": [0.1, 0.01],
        "batch_size": [16, 32],
        "momentum": [0.9],
    }


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["activation"], "expected an option and its values, such as activation=relu,tanh"),
        (["lr="], "expected an option and its values"),
        (["aktivation=relu"], "option 'aktivation' is not known; did you mean 'activation'"),
        (["lr=0.1", "lr=0.2"], "lr is given twice; name all its values at once"),
        (["lr=fast"], "lr must be a number, got 'fast'"),
        (["hidden=64x"], "hidden must be a list of whole numbers, got '64x'"),
        (["optimizer=adam,sgdd"], "optimizer 'sgdd' is not known; expected sgd, adam"),
        (["seed=1,2"], "seed is the same for all; vary another option"),
    ],
)
def test_what_cannot_be_varied_is_named(texts, message):
    with pytest.raises(OptionError, match=message):
        parse_vary(texts)


def test_every_combination_is_trained_from_the_same_seeds_and_ranked():
    lines = []
    vary = {"lr": [1e-5, 1e-2], "activation": ["relu", "tanh"]}
    ranked = compare(SMALL, vary, seeds=2, out=Path("out"), say=lines.append)
    assert [c.options["lr"] for c in ranked] == [1e-2, 1e-2, 1e-5, 1e-5]
    assert all(len(c.figures) == len(c.histories) == 2 for c in ranked)
    means = [np.mean(c.figures) for c in ranked]
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.85 > 0.5 > means[-1]
    again = compare(SMALL, {"activation": ["tanh"], "lr": [1e-2]}, seeds=2, out=Path("again"), say=lambda _: None)
    assert again[0].figures == next(c.figures for c in ranked if c.name == "lr=0.01, activation=tanh")
    table = lines[-6:] if lines[-1].startswith("4") else lines[-7:-1]
    assert table[0].split() == ["rank", "lr", "activation", "test", "accuracy", "seconds"]
    assert [row.split()[0] for row in table[2:]] == ["1", "2", "3", "4"]
    kept = json.loads(Path("out/comparison.json").read_text())
    assert [c["options"] for c in kept["choices"]] == [c.options for c in ranked]
    assert kept["choices"][0]["test_accuracy"] == ranked[0].figures
    assert len(kept["choices"][0]["histories"][1]) == 2


def test_runs_that_diverge_come_last_and_say_so():
    lines = []
    vary = {"lr": [1e30, 0.01]}
    ranked = compare(
        SMALL | {"optimizer": "sgd", "activation": "identity"}, vary, seeds=1, out=Path("out"), say=lines.append
    )
    assert [c.diverged for c in ranked] == [0, 1]
    assert any(line.startswith("2") and "diverged" in line for line in lines)


def test_a_comparison_that_is_there_is_kept():
    compare(SMALL, {"lr": [0.01]}, seeds=1, out=Path("out"), say=lambda _: None)
    before = Path("out/comparison.json").read_bytes()
    with pytest.raises(FileError, match=r"^out: holds a comparison already; name another folder with --out$"):
        compare(SMALL, {"lr": [0.02]}, seeds=1, out=Path("out"), say=lambda _: None)
    assert Path("out/comparison.json").read_bytes() == before


def test_quantities_are_ranked_by_their_loss():
    x = np.random.default_rng(0).standard_normal((80, 2))
    np.savez("d.npz", x=x, y=x @ [1.0, 2.0] + 3)
    ranked = compare(SMALL | {"data": "d.npz"}, {"epochs": [1, 30]}, seeds=1, out=Path("out"), say=lambda _: None)
    assert [c.options["epochs"] for c in ranked] == [30, 1]
    assert ranked[0].figures[0] < ranked[1].figures[0]


def test_the_command_draws_the_curves(capsys):
    pytest.importorskip("matplotlib")
    line = ["compare", "--vary", "init=he,normal", "--seeds", "1", "--epochs", "2", "--hidden", "8", "--device", "cpu"]
    assert cli.main([*line, "--out", "out"]) == 0
    out = capsys.readouterr().out
    assert "curves in out/comparison.png" in out
    assert Path("out/comparison.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main([*line, "--init", "he"]) == 2
    assert "--init is varied; leave out the option of its own" in capsys.readouterr().err
    assert cli.main([*line, "--out", "out/comparison.png/x"]) == 4
    assert "cannot be made" in capsys.readouterr().err


def test_what_does_not_fit_is_found_before_the_first_run():
    said = []
    with pytest.raises(OptionError, match="loss mse is for quantities"):
        compare(SMALL, {"loss": ["softmax", "mse"]}, seeds=1, out=Path("out"), say=said.append)
    assert said == []
    x = np.random.default_rng(0).standard_normal((80, 2))
    np.savez("d.npz", x=x, y=x @ [1.0, 2.0] + 3)
    with pytest.raises(OptionError, match="one cannot be ranked by another"):
        compare(SMALL | {"data": "d.npz"}, {"loss": ["mse", "mae"]}, seeds=1, out=Path("out"), say=said.append)


def test_one_combination_is_told_as_one():
    said = []
    compare(SMALL | {"epochs": 0}, {"init": ["he"]}, seeds=1, out=Path("out"), say=said.append)
    assert said[1] == "data     digits; 1 combination, 1 seed each"


def test_no_epochs_are_compared_without_a_picture():
    ranked = compare(SMALL | {"epochs": 0}, {"init": ["he", "normal"]}, seeds=1, out=Path("out"), say=lambda _: None)
    assert len(ranked) == 2
    assert not Path("out/comparison.png").exists()
