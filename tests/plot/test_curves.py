import sys

import numpy as np
import pytest

from gpunn.plot import draw_comparison, draw_curves
from gpunn.train import History

image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")

LOSS = {"epoch": 1, "step": 5, "lr": 0.1, "loss": 0.7, "seconds": 1.0}
VALID = LOSS | {"valid_loss": 0.8, "valid_accuracy": 0.9}
BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


def pixels(path):
    with image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def epochs(*rows):
    return History([row | {"epoch": i + 1} for i, row in enumerate(rows)])


@pytest.mark.parametrize(
    ("history", "panels", "colours"),
    [
        (epochs(LOSS, LOSS | {"loss": 0.1}), 1, [BLUE]),
        (epochs(VALID, VALID), 2, [BLUE, ORANGE]),
        (epochs(VALID), 2, [BLUE, ORANGE]),
        (epochs(LOSS, VALID, VALID), 2, [BLUE, ORANGE]),
        (epochs(VALID | {"loss": 0.0}, VALID), 2, [BLUE, ORANGE]),
        (epochs(LOSS | {"valid_r2": -3.0}, LOSS | {"valid_r2": 0.9}), 2, [BLUE, ORANGE]),
    ],
    ids=["no validation", "validation", "one epoch", "validation later", "a loss of 0", "R squared"],
)
def test_the_curves_are_drawn(tmp_path, history, panels, colours):
    assert draw_curves(history, tmp_path / "c.png")
    drawn = pixels(tmp_path / "c.png")
    assert drawn.shape == (432, 600 * panels, 3)
    for colour in colours:
        assert (drawn == colour).all(axis=2).sum() > 50
    assert list(tmp_path.rglob("*c.png*")) == [tmp_path / "c.png"]


@pytest.mark.parametrize(
    ("histories", "panels"),
    [
        ([epochs(VALID, VALID), epochs(VALID)], 2),
        ([epochs(VALID), epochs(LOSS)], 1),
        ([History(), epochs(VALID)], 2),
        ([epochs(VALID), History()], 2),
    ],
    ids=["validation", "only some have validation", "none", "some have no epochs"],
)
def test_choices_are_drawn_side_by_side(tmp_path, monkeypatch, histories, panels):
    drawn = []
    monkeypatch.setattr(sys.modules[draw_comparison.__module__], "finish", lambda figure, path: drawn.append(figure))
    assert draw_comparison({f"choice {i}": [history] * 2 for i, history in enumerate(histories)}, tmp_path / "c.png")
    assert len(drawn[0].axes) == panels
    assert [len(axes.lines) for axes in drawn[0].axes] == [sum(len(history) > 0 for history in histories)] * panels
    assert not draw_comparison({"one that was never run": []}, tmp_path / "c.png")


def test_of_no_epochs_there_is_no_picture(tmp_path):
    assert not draw_curves(History(), tmp_path / "c.png")
    assert not list(tmp_path.rglob("*.png"))


def test_without_matplotlib_there_is_no_picture(tmp_path, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.ticker"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not draw_curves(epochs(LOSS), tmp_path / "c.png")
    assert not list(tmp_path.rglob("*.png"))
