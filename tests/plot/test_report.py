import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import gpunn as gn
from gpunn.cli import main
from gpunn.errors import DataError, FileError
from gpunn.plot import report as module
from gpunn.plot.report import report
from gpunn.train import run

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)
VOID = {"meta", "img", "br"}
EVIL = "<script>alert('$x$')</script>"


class Page(HTMLParser):
    """A page taken apart: every element that is opened is closed, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.images, self.texts, self.headline = [], [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "img":
            self.images.append(dict(attributes))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)
        if "h1" in self.open:
            self.headline += data

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(autouse=True)
def _of_few_pixels(own_folder, monkeypatch):
    monkeypatch.setattr(module, "_DPI", 40)


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are made but not painted, for tests of a report whose pictures other tests paint."""
    monkeypatch.setattr(module, "png", lambda figure, dpi: b"\x89PNG\r\n\x1a\n" + bytes(16))


def train(*options):
    assert main(["train", *options, "--out", "run", "--device", "cpu", "--quiet"]) == 0


def drawn(paths):
    return {path.stem for path in paths}


def look(page):
    """The page, with what must be so of every report."""
    text = Path(page).read_text(encoding="utf-8")
    found = Page(text)
    text = re.sub(r'(src="data:image/png;base64,)[A-Za-z0-9+/=]*"', r'\1"', text)
    assert text.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script|<link|<iframe|javascript:", text)
    for image in found.images:
        assert image["src"].startswith("data:image/png;base64,iVBOR")
        assert len(image["alt"]) > 20
        assert int(image["width"]) > 0
    assert not [attributes for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert {tag for tag, _ in found.tags} >= {"title", "h1", "h2", "figure", "figcaption", "table"}
    return found


ALWAYS = {"curves", "diagram", "weights", "activations", "norms", "histograms-weights", "histograms-gradients"}


def test_a_run_on_images_of_classes():
    train("--hidden", "16", "--epochs", "3")
    page, paths = report("run")
    assert page == Path("run/report.html")
    assert drawn(paths) == ALWAYS | {"confusion", "roc", "mistakes"}
    assert {path.parent for path in paths} == {Path("run/pictures")}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    found = look(page)
    assert len(found.images) == len(paths)
    summary = json.loads(Path("run/summary.json").read_text())
    assert found.headline == f"{summary['test_accuracy']:.2%} right"
    assert f"{round(summary['test_accuracy'] * 359)} of 359 test examples" in found.text
    _, net = run.open_run("run")
    _, test = gn.datasets.digits()
    each = gn.metrics.precision_recall_f1(test.y, net(test.x), average=None)
    for c in range(10):
        cells = " ".join(f"{values[c]:.4f}" for values in each)
        assert f"{c} {cells} {np.sum(test.y == c)}" in found.text
    for part in ("linear1 (Linear)", "optimizer adam", "hidden 16", summary["versions"]["numpy"], "asked for by name"):
        assert part in found.text
    assert "All 3 epochs" in found.text


def test_two_features_have_a_boundary_and_names_are_only_names(monkeypatch):
    drawn_with = []
    monkeypatch.setattr(module, "boundary", lambda *a, **k: drawn_with.append(k["names"]) or gn.plot.boundary(*a, **k))
    x = RNG.standard_normal((100, 2))
    names = np.where(x[:, 0] > 0, EVIL, "a&b <b>")
    rows = [f'{a},{b},"{name}"' for (a, b), name in zip(x, names, strict=True)]
    Path("e<i>vil.csv").write_text("\n".join(["p,q,kind", *rows]))
    train("e<i>vil.csv", "--epochs", "2", "--hidden", "8")
    page, paths = report("run", "elsewhere/deep")
    assert page == Path("elsewhere/deep/report.html")
    assert drawn(paths) >= ALWAYS | {"confusion", "roc", "boundary"}
    found = look(page)
    assert EVIL in found.text
    assert "a&b <b>" in found.text
    assert "e<i>vil.csv" in found.text
    assert drawn_with == [("p", "q")]
    summary = json.loads(Path("run/summary.json").read_text())
    baseline = summary["scores"]["baseline"]
    answer = " ".join(baseline["answer"].split())
    assert f"right if the answer is always {answer} {baseline['accuracy']:.2%}" in found.text


def test_a_table_of_quantities_names_what_is_predicted(monkeypatch):
    drawn_with = []
    monkeypatch.setattr(module, "residuals", lambda *a, names: drawn_with.append(names) or gn.plot.residuals(*a))
    rows = [f"{i % 17},{70_000 + 1000 * (i % 29)}" for i in range(100)]
    Path("d.csv").write_text("\n".join(["a,price of it", *rows]))
    train("d.csv", "--epochs", "1", "--hidden", "4", "--task", "regression")
    text = look(report("run")[0]).text
    assert drawn_with == [["price of it"]]
    scores = json.loads(Path("run/summary.json").read_text())["scores"]
    for part in (scores["network"]["mae"], scores["baseline"]["mae"]):
        assert f"{part:,.0f}" in text if part >= 1e4 else f"{part:.5g}" in text
    Path("d.csv").write_text("\n".join(["a,b,price of it", *(f"1,{row}" for row in rows)]))
    with pytest.raises(DataError, match="the table is not that which the network in run was trained on; put the data"):
        report("run")


def test_quantities_that_are_all_equal_have_no_r2():
    np.savez("same.npz", x=RNG.standard_normal((40, 3)), y=np.full(40, 2.5))
    train("same.npz", "--epochs", "1", "--hidden", "4", "--task", "regression")
    assert look(report("run")[0]).headline == "R² = not defined, as all values are equal"


def test_scores_are_not_said_to_be_probabilities():
    np.savez("d.npz", x=RNG.standard_normal((80, 3)), y=np.arange(80) % 2)
    train("d.npz", "--epochs", "2", "--hidden", "4", "--loss", "hinge")
    text = look(report("run")[0]).text
    assert "with the score it gave to each. Rows are counted among the test examples, from 0." in text
    assert "with the probability" not in text


@pytest.mark.parametrize("columns", [1, 2])
def test_quantities_have_residuals_and_no_confusion(columns):
    x = RNG.standard_normal((80, 3))
    np.savez("q.npz", x=x, y=x[:, :columns] + 0.1)
    train("q.npz", "--epochs", "4", "--valid", "0")
    page, paths = report("run")
    assert drawn(paths) == ALWAYS | {"predictions", "residuals"}
    found = look(page)
    assert re.fullmatch(r"R² = -?\d+\.\d{4}", found.headline)
    config, net = run.open_run("run")
    test = run.load_data(config)[1]
    assert found.headline == f"R² = {gn.metrics.r2(test.y, net(test.x.astype('float32'))):.4f}"
    assert "precision" not in found.text


def test_many_classes_one_epoch_and_no_validation_data():
    y = np.arange(600) % 60
    np.savez("many.npz", x=RNG.standard_normal((600, 5)), y=y)
    train("many.npz", "--epochs", "1", "--valid", "0", "--task", "classification")
    found = look(report("run")[0])
    assert "Each of the 60 classes" in found.text
    assert "The epoch" in found.text


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_an_epoch():
    train("--epochs", "0")
    page, paths = report("run")
    assert drawn(paths) == {"confusion", "roc", "mistakes", "diagram", "weights", "activations"}
    assert "No epoch was trained" in look(page).text


def test_a_network_with_convolutions_shows_its_filters():
    train("--epochs", "1")
    net = gn.Sequential(gn.Reshape((8, 8, 1)), gn.Conv2d(1, 4, 3), gn.ReLU(), gn.Flatten(), gn.Linear(144, 10))
    net.output = gn.Softmax()
    net.about = run.open_run("run")[1].about
    gn.save("run/model.safetensors", net.init())
    page, paths = report("run")
    assert "filters" in drawn(paths)
    assert "weights" not in drawn(paths)
    assert "filters: red ones are above 0" in look(page).text


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_weights_of_pictures_in_colour_are_not_said_to_be_red_and_blue(model):
    np.savez("d.npz", x=RNG.integers(0, 256, (40, 8, 8, 3)).astype(np.uint8), y=np.arange(40) % 2)
    train("d.npz", "--model", model, "--epochs", "1")
    page, paths = report("run")
    assert {"filters", "weights"} & drawn(paths) == {"filters" if model == "cnn" else "weights"}
    text = look(page).text
    assert "in the colours of the images, grey where a weight is 0." in text
    assert "red ones" not in text


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_was_stopped_and_has_no_histograms():
    train("--epochs", "2")
    for name in ("summary.json", "histograms.safetensors"):
        Path("run", name).unlink()
    config = Path("run/config.toml")
    Path("run/summary.json").write_text("[]")
    config.write_text(config.read_text().replace("epochs = 2", "epochs = 5"))
    page, paths = report("run")
    assert drawn(paths) == {"curves", "confusion", "roc", "mistakes", "diagram", "weights", "activations"}
    text = look(page).text
    assert "2 of 5" in text
    assert "The run was stopped before its end" in text


def test_what_is_not_as_it_was_is_named():
    with pytest.raises(FileError, match="nowhere: there is no such folder"):
        report("nowhere")
    x, y = RNG.standard_normal((40, 2)), np.arange(40) % 2
    np.savez("d.npz", x=x, y=y)
    train("d.npz", "--epochs", "1")
    Path("file").touch()
    with pytest.raises(FileError, match=r"file: cannot be made: .*; name another with --out"):
        report("run", "file")
    np.savez("d.npz", x=x, y=y + 1)
    with pytest.raises(DataError, match="the classes are not those"):
        report("run")
    np.savez("d.npz", x=x, y=y)
    for content in ("epoch,loss\n1,many\n", "epoch\n1,2,3\n", "epoch,seconds\n1,2\n", "epoch,loss,seconds\n1,2,3\n2,1"):
        Path("run/history.csv").write_text(content)
        with pytest.raises(FileError, match=r"run/history\.csv: cannot be read as the history"):
            report("run")
    Path("run/history.csv").unlink()
    with pytest.raises(FileError, match=r"^run: history\.csv cannot be read: No such file") as error:
        report("run")
    command = str(error.value).split("; ")[1].removesuffix(" writes it anew")
    assert main(command.split()[1:]) == 0
    assert Path("run/history.csv").exists()


@pytest.mark.usefixtures("undrawn")
def test_the_command_says_what_it_made(capsys):
    train("--epochs", "1")
    capsys.readouterr()
    assert main(["plot", "run", "--out", "here"]) == 0
    assert (
        capsys.readouterr().out
        == "10 pictures in here/pictures, and all of them with the numbers in here/report.html\n"
    )


def test_without_matplotlib_it_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert main(["plot", "nowhere"]) == 2
    assert capsys.readouterr().err == 'gpunn: error: pictures need matplotlib: pip install "gpunn[plot]"\n'
