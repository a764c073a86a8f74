import sys
import warnings

import numpy as np
import pytest

import gpunn as gn
from gpunn.errors import FileError, OptionError
from gpunn.plot import style

pytest.importorskip("matplotlib")


def test_without_matplotlib_the_command_that_mends_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    history, net = gn.History([{"epoch": 1, "loss": 1.0}]), gn.mlp([2, 2], output="softmax").init()
    x, y = np.eye(2), np.arange(2)
    for draw in (
        lambda: gn.plot.curves(history),
        lambda: gn.plot.confusion(y, y),
        lambda: gn.plot.roc(y, x),
        lambda: gn.plot.mistakes(x, y, x),
        lambda: gn.plot.predictions(y, y),
        lambda: gn.plot.residuals(y, y),
        lambda: gn.plot.weights(net),
        lambda: gn.plot.activations(net, x[0]),
        lambda: gn.plot.diagram(net),
        lambda: gn.plot.boundary(net, x, y),
    ):
        with pytest.raises(OptionError, match=r'^pictures need matplotlib: pip install "gpunn\[plot\]"$'):
            draw()


def test_a_figure_is_written_whole_and_shown_in_a_notebook(tmp_path):
    figure = style.finish(style.new_figure(2, 1), tmp_path / "f.png")
    written = (tmp_path / "f.png").read_bytes()
    assert written.startswith(b"\x89PNG")
    assert figure._repr_png_() == written
    assert [path.name for path in tmp_path.iterdir()] == ["f.png"]
    with pytest.raises(FileError, match=r"no/f\.png: cannot be written"):
        style.finish(figure, tmp_path / "no" / "f.png")


@pytest.mark.parametrize("text", ["$x", "$a$", r"$\frac$", "漢字", "a\nb", "%d", "\\"])
def test_any_text_can_be_drawn(text):
    figure = style.new_figure(2, 1)
    figure.text(0, 0, style.plain(text))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        style.png(figure)


def test_long_names_are_cut_and_classes_without_names_are_numbers():
    assert style.plain("a" * 30, 10) == "a" * 9 + "…"
    assert style.plain("two\nlines") == "two lines"
    assert [style.name_of(c, ["cat"]) for c in (0, 1)] == ["cat", "1"]


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (1.0, ">99.9%"),
        (0.9996, ">99.9%"),
        (0.9994, "99.9%"),
        (0.5, "50%"),
        (0.004, "0.4%"),
        (0.0004, "<0.1%"),
        (0.0, "<0.1%"),
    ],
)
def test_what_is_nearly_sure_is_not_said_to_be_sure(p, text):
    assert style.percent(p) == text


def test_a_mosaic_is_in_reading_order():
    images = np.arange(1, 6)[:, None, None] * np.ones((5, 2, 3))
    sheet = style.mosaic(images, 2)
    assert sheet.shape == (8, 7)
    np.testing.assert_array_equal(sheet[::3, ::4], [[1, 2], [3, 4], [5, np.nan]])
    assert np.isnan(sheet[2]).all()
    assert np.isnan(sheet[:, 3]).all()
