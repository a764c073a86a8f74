import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gpunn as gn
from gpunn import cli
from gpunn.train import reproduce
from gpunn.train.reproduce import ROWS, Result, measure

rng = np.random.default_rng(16)


def blobs(n):
    labels = np.arange(n) % 10
    x = rng.integers(0, 60, (n, 28, 28, 1))
    for label in range(10):
        x[labels == label, 2 * label : 2 * label + 6, 4:24] += 150
    return gn.Dataset(x.reshape(n, 784).astype("uint8"), labels, (28, 28, 1))


DATA = blobs(100), blobs(40), blobs(50)


def small(name, key="", **more):
    """The setting of a row, on few images and for few epochs."""
    setting = next(iter(ROWS[name].settings.values()))[0] if not key else ROWS[name].settings[key][0]
    return replace(setting, **{"epochs": 2, "train": min(setting.train, 100)} | more)


SETTINGS = [(name, key) for name, row in ROWS.items() for key in row.settings]


@pytest.mark.parametrize(("name", "key"), SETTINGS)
def test_every_row_is_a_network_for_mnist_that_trains(name, key):
    setting = small(name, key, epochs=1, train=20, batch_size=10, shifted=False, members=1)
    net = setting.net().init()
    assert net.output_shape((784,)) == (10,)
    if net.store.size < 300_000 or name == "dropout-repro":
        run = measure(setting, DATA, 0, gn.device("cpu"))
        assert run["epochs"] == 1
        assert 0.0 <= run["accuracy"] <= 100.0


def test_published_figures_are_those_of_the_sources():
    """The lowest and highest that stand in the book, and that every row names its source."""
    assert ROWS["nielsen-ch1-30"].settings[""][1] == 95.42
    assert ROWS["nielsen-ch6-vote"].settings[""][1] == 99.67
    for row in ROWS.values():
        assert row.about
        assert row.source
        assert any(published is not None for _, published in row.settings.values())


def test_networks_of_the_book_have_its_sizes_and_initial_weights():
    first = ROWS["nielsen-ch1-30"].settings[""][0].net().init(seed=1)
    assert first.store.size == 784 * 30 + 30 + 30 * 10 + 10
    for param in first.params().values():
        assert param.value.std() == pytest.approx(1.0, abs=0.35)
    later = ROWS["nielsen-ch5-1"].settings[""][0].net().init(seed=1).params()
    assert later["linear1.W"].value.std() == pytest.approx(1 / 28, rel=0.02)
    two = ROWS["nielsen-ch6-conv2"].settings[""][0].net().init(seed=1)
    assert {name: p.shape for name, p in two.params().items() if p.decay} == {
        "conv2d1.W": (5, 5, 1, 20),
        "conv2d2.W": (5, 5, 20, 40),
        "linear1.W": (640, 100),
        "linear2.W": (100, 10),
    }
    assert not two.params()["linear2.W"].value.any()


def test_lambda_is_divided_as_in_the_programs():
    assert ROWS["nielsen-l2-100"].settings["weights N(0, 1)"][0].optimizer().weight_decay == 5.0 / 50_000
    assert ROWS["nielsen-l2-1000"].settings[""][0].optimizer().weight_decay == 0.1 / 1_000
    assert ROWS["nielsen-ch6-relu"].settings[""][0].optimizer().weight_decay == 0.1 / 5_000


@pytest.mark.parametrize(
    ("when", "measured", "expected"),
    [("best", "test", 30.0), ("best", "validation", 40.0), ("last", "test", 20.0), ("validation", "test", 10.0)],
)
def test_the_epoch_that_counts(when, measured, expected, monkeypatch):
    accuracies = {"test": iter([0.1, 0.3, 0.2]), "validation": iter([0.4, 0.2, 0.3])}
    setting = small("nielsen-ch1-30", epochs=3, when=when, measured=measured)
    sizes = {len(DATA[1]): "validation", len(DATA[2]): "test"}

    def evaluate(self, data):
        return {"accuracy": 0.2 if when == "last" else next(accuracies[sizes[len(data)]])}

    monkeypatch.setattr(gn.Trainer, "evaluate", evaluate)
    assert measure(setting, DATA, 0, gn.device("cpu"))["accuracy"] == pytest.approx(expected)


def test_it_learns_and_the_seed_decides():
    setting = small("nielsen-ch3-30", epochs=8)
    runs = [measure(setting, DATA, seed, gn.device("cpu"))["accuracy"] for seed in (0, 0, 1)]
    assert runs[0] == runs[1] > 60.0


def test_more_images_than_the_book_trains_on_take_in_the_validation_set(monkeypatch):
    seen = []
    fit = gn.Trainer.fit
    monkeypatch.setattr(gn.Trainer, "fit", lambda self, data, **more: seen.append(len(data)) or fit(self, data, **more))
    measure(small("sklearn-mnist", "adam", train=140), DATA, 0, gn.device("cpu"))
    measure(small("nielsen-ch1-30", train=30), DATA, 0, gn.device("cpu"))
    measure(small("nielsen-ch1-30", train=30, shifted=True), DATA, 0, gn.device("cpu"))
    assert seen == [140, 30, 150]


def test_scikit_learns_runs_end_when_the_loss_stays():
    still = small("sklearn-mnist", "adam", epochs=100, optimizer=lambda: gn.SGD(0.0))
    assert measure(still, DATA, 0, gn.device("cpu"))["epochs"] == 12  # the first, ten that are no better, and one more


def test_networks_vote(monkeypatch):
    setting = small("nielsen-ch3-30", epochs=1, members=3)
    answers = iter([np.eye(10)[DATA[2].y], np.eye(10)[DATA[2].y], np.eye(10)[(DATA[2].y + 1) % 10]])
    seeds = []
    monkeypatch.setattr(gn.Trainer, "predict", lambda self, x: seeds.append(self.seed) or next(answers))
    assert measure(setting, DATA, 2, gn.device("cpu"))["accuracy"] == 100.0
    assert seeds == [6, 7, 8]


def one_row(monkeypatch, **more):
    setting = small("nielsen-ch1-30", epochs=20, train=20)
    other = replace(setting, measured="validation")
    row = reproduce.Published("tiny", "nowhere", {"a": (setting, 50.0), "b": (other, None)}, **more)
    monkeypatch.setattr(reproduce, "ROWS", {"tiny": row})


def go(folder, **more):
    lines = []
    reproduce.reproduce(["tiny"], lambda: DATA, gn.device("cpu"), folder=folder, say=lines.append, **more)
    return lines


def test_results_are_kept_and_not_measured_again(monkeypatch, tmp_path):
    one_row(monkeypatch)
    first = go(tmp_path, seeds=1, epochs=2)
    assert "published 50.00 %" in first[0]
    assert "(1 run; 2 of 20 epochs)" in first[0]
    assert "published     - %" in first[1]
    kept = json.loads((tmp_path / "tiny.json").read_text())
    assert [(run["setting"], run["seed"], run["epochs"], run["cut"]) for run in kept["runs"]] == [
        ("a", 0, 2, 20),
        ("b", 0, 2, 20),
    ]
    assert kept["published"] == {"a": 50.0, "b": None}
    assert kept["runs"][0]["device"] == "cpu"
    assert kept["runs"][0]["versions"]["numpy"] == np.__version__

    calls = []
    monkeypatch.setattr(reproduce, "measure", lambda *a: calls.append(a[2]) or measure(*a))
    go(tmp_path, seeds=1, epochs=2)
    assert calls == []
    assert "best of 2" in go(tmp_path, seeds=2, epochs=2)[0]
    assert calls == [1, 1]
    go(tmp_path, seeds=1, epochs=1)  # a shorter one is there already
    assert calls == [1, 1]
    lines = go(tmp_path, seeds=2)
    assert calls == [1, 1, 0, 1, 0, 1]  # whole ones were not there
    assert "of 20 epochs" not in lines[0]
    assert [len(Result.read(tmp_path, "tiny").of(key)) for key in "ab"] == [2, 2]


def test_a_quick_run_is_a_tenth(monkeypatch):
    one_row(monkeypatch)
    assert "(1 run; 2 of 20 epochs)" in go(None, seeds=1, quick=True)[0]


def test_what_was_not_run_says_so(monkeypatch, tmp_path):
    one_row(monkeypatch, long="for a GPU")
    assert "measured not run" in list(reproduce.listing(tmp_path))[1]
    assert reproduce.table(tmp_path).splitlines()[2:] == [
        "| `tiny` | tiny; a | 50.00 | not run |",
        "|  | b | - | not run |",
    ]


def test_the_command_lists_runs_and_names_what_it_does_not_know(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gn.datasets, "mnist", lambda folder: (blobs(50_010), blobs(20)))
    out = ["--out", str(tmp_path)]
    assert cli.main(["reproduce", *out]) == 0
    assert "nielsen-ch1-30: 784-30-10 sigmoid" in capsys.readouterr().out
    assert cli.main(["reproduce", "nielsen-ch1-3O", *out]) == 2
    assert "no published result is called 'nielsen-ch1-3O'; did you mean nielsen-ch1-30?" in capsys.readouterr().err
    assert cli.main(["reproduce", "nielsen-overfit", "--epochs", "1", "--seeds", "1", "--device", "cpu", *out]) == 0
    assert "(1 run; 1 of 400 epochs)" in capsys.readouterr().out
    assert cli.main(["reproduce", "--table", *out]) == 0
    assert "| `nielsen-overfit` | the first 1,000 images, 400 epochs, lambda 0 | 82.27 |" in capsys.readouterr().out
    (tmp_path / "nielsen-overfit.json").write_text("[1]")
    assert cli.main(["reproduce", *out]) == 4
    assert "nielsen-overfit.json: not a result of gpunn reproduce" in capsys.readouterr().err
    assert cli.main(["reproduce", "--table", "--out", str(tmp_path / "nielsen-overfit.json")]) == 4
    assert "cannot be read: Not a directory; name another folder with --out" in capsys.readouterr().err


def test_the_readme_has_the_table_of_the_results_kept():
    root = Path(gn.__file__).parents[1]
    if not (root / "README.md").exists():
        pytest.skip("not in a checkout")
    assert reproduce.table(root / "benchmarks/results/reproduce") in (root / "README.md").read_text()


@pytest.mark.parametrize("n", [100, 5_000, 50_000])
def test_the_size_of_the_data_has_the_books_lambda_and_weights(n):
    setting = ROWS["nielsen-size"].settings[f"{n:,}"][0]
    assert setting.optimizer().weight_decay == pytest.approx(1e-4)  # lambda / n = (n / 10,000) / n
    assert setting.epochs * n == 1_500_000
    assert setting.net().init().params()["linear1.W"].value.std() == pytest.approx(1.0, rel=0.02)


def test_dropout_is_translated_from_network3():
    setting = ROWS["nielsen-ch6-dropout"].settings[""][0]
    params = setting.net().init().params()
    assert params["linear2.W"].value.std() == pytest.approx(0.5 / np.sqrt(1000), rel=0.01)
    optimizer = setting.optimizer()
    assert optimizer.setting("linear2.W")[0] == 0.25
    assert optimizer.setting("linear2.b")[0] == optimizer.setting("conv2d1.W")[0] == 1.0


def test_all_leaves_out_what_needs_a_gpu():
    assert "nielsen-ch6-vote" in reproduce.find(["all"])
    assert "nielsen-ch6-vote" not in reproduce.find(["all"], on_host=True)
    assert reproduce.find(["nielsen-ch6-vote"], on_host=True) == ["nielsen-ch6-vote"]
