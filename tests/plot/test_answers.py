import numpy as np
import pytest

import gpunn as gn
from gpunn.errors import DataError, ShapeError
from gpunn.plot.style import png

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def curve(line):
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


# --- confusion


def test_the_fields_bear_the_counts_in_their_places():
    y, said = RNG.integers(0, 4, 200), RNG.integers(0, 4, 200)
    figure = gn.plot.confusion(y, said, classes=["a", "b", "c", "d"])
    axes = figure.axes[0]
    drawn = {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text()) for t in axes.texts}
    counts = gn.metrics.confusion_matrix(y, said)
    assert drawn == {(i, j): counts[i, j] for i in range(4) for j in range(4)}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("answer of the network", "true class")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c", "d"]


def test_right_and_wrong_have_colours_of_their_own_and_nothing_has_none():
    figure = gn.plot.confusion([0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1])
    wrong, right = figure.axes[0].images
    np.testing.assert_allclose(wrong.get_array().filled(-1), [[-1, 0.25], [-1, -1]])
    np.testing.assert_allclose(right.get_array().filled(-1), [[0.75, -1], [-1, 1]])
    assert (wrong.get_cmap().name, right.get_cmap().name) == ("Oranges", "Blues")


@pytest.mark.parametrize(("said", "label"), [([0, 1, 1], "right"), ([1, 0, 0], "wrong")])
def test_there_is_no_scale_of_what_there_is_none_of(said, label):
    _, *scales = gn.plot.confusion([0, 1, 1], said).axes
    assert [axes.get_ylabel() for axes in scales] == [f"{label} (share of the row)"]


@pytest.mark.parametrize("classes", [2, 21, 100])
def test_any_number_of_classes_fits(classes):
    y = np.arange(3 * classes) % classes
    figure = gn.plot.confusion(y, np.roll(y, 1))
    assert len(texts(figure.axes[0])) == (2 if classes == 2 else 0)
    assert len(figure.axes[0].get_xticks()) <= 40
    png(figure)


def test_probabilities_are_answers_too():
    one = gn.plot.confusion([0, 1, 1], [0.2, 0.9, 0.4])
    two = gn.plot.confusion([0, 1, 1], [[0.8, 0.2], [0.1, 0.9], [0.6, 0.4]])
    assert texts(one.axes[0]) == texts(two.axes[0]) == ["1", "1", "1"]
    assert texts(gn.plot.confusion([0, 1], np.array([0.0, 1.0])).axes[0]) == ["1", "1"]
    with pytest.raises(DataError, match="contains nan"):
        gn.plot.confusion([0, 1], [0.5, np.nan])


# --- ROC


@pytest.mark.parametrize("shape", ["(N,)", "(N, 1)", "(N, 2)"])
def test_two_classes_have_one_curve(shape):
    y = RNG.integers(0, 2, 60)
    p = np.clip(0.5 * y + 0.6 * RNG.random(60), 0, 1)
    given = {"(N,)": p, "(N, 1)": p[:, None], "(N, 2)": np.stack([1 - p, p], axis=1)}[shape]
    axes = gn.plot.roc(y, given, classes=["no", "yes"]).axes[0]
    chance, line = axes.lines
    assert curve(chance)[0].tolist() == [0, 1]
    np.testing.assert_allclose(curve(line), gn.metrics.roc_curve(y, p)[:2])
    assert line.get_label() == f"yes, area {gn.metrics.roc_auc(y, p):.4f}"


def test_more_classes_have_a_curve_each_against_the_rest():
    y, p = RNG.integers(0, 3, 90), RNG.dirichlet(np.ones(3), 90)
    lines = gn.plot.roc(y, p).axes[0].lines[1:]
    assert len(lines) == 3
    for c, line in enumerate(lines):
        np.testing.assert_allclose(curve(line), gn.metrics.roc_curve(y == c, p[:, c])[:2])


def test_of_many_classes_the_worst_are_named():
    y = np.arange(600) % 30
    p = np.eye(30)[y] + 0.1 * RNG.random((600, 30))
    p[y < 3] = RNG.random((60, 30))
    axes = gn.plot.roc(y, p).axes[0]
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(named) == 2 + 7
    assert named[1] == "the 23 others"
    assert {"0", "1", "2"} <= {name.split(",")[0] for name in named}


def test_the_corner_is_shown_where_the_curves_run_there():
    y = np.arange(100) % 2
    figure = gn.plot.roc(y, y + 0.1 * RNG.random(100))
    assert len(figure.axes) == 2
    png(figure)  # which writes the labels
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == [f"{n}.0%" for n in range(6)]
    assert len(gn.plot.roc(y, RNG.random(100)).axes) == 1


def test_a_class_without_rows_has_no_curve():
    p = RNG.dirichlet(np.ones(3), 20)
    assert len(gn.plot.roc(np.arange(20) % 2, p).axes[0].lines) == 1 + 2
    with pytest.raises(DataError, match="y holds one class alone"):
        gn.plot.roc(np.zeros(20), p)


# --- mistakes


def heads(figure):
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def test_the_worst_mistakes_come_first_and_the_pictures_are_theirs():
    x = np.arange(6.0)[:, None] * np.ones((6, 4))
    y = np.array([0, 1, 2, 0, 1, 2])
    p = np.array([[0.9, 0.1, 0], [0.6, 0.3, 0.1], [0.0, 0.995, 0.005], [0.1, 0.2, 0.7], [0, 1, 0], [0, 0, 1.0]])
    figure = gn.plot.mistakes(x, y, p, image_shape=(2, 2, 1), classes=["cat", "dog", "cow"])
    assert heads(figure) == [
        "said dog 99.5%\ntrue cow 0.5%",
        "said cow 70%\ntrue cat 10%",
        "said cat 60%\ntrue dog 30%",
    ]
    assert [axes.images[0].get_array()[0, 0] for axes in figure.axes] == [2, 3, 1]
    assert figure.get_suptitle().startswith("all 3 mistakes")
    assert len(heads(gn.plot.mistakes(x, y, p, image_shape=(2, 2, 1), count=2))) == 2
    assert gn.plot.mistakes(x, y, p, count=2, image_shape=(2, 2, 1)).get_suptitle().startswith("the 2 worst of 3")


def test_rows_that_are_no_images_are_bars():
    figure = gn.plot.mistakes(np.zeros((3, 2)), [0, 1, 1], [0.7, 0.2, 0.9])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["row 1: 1, taken for 0", "row 0: 0, taken for 1"]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [0.8, 0.7, 0.2, 0.3])


def test_colours_stay_colours():
    x = RNG.random((2, 4, 5, 3))
    figure = gn.plot.mistakes(x, [0, 1], [0.9, 0.9])
    assert figure.axes[0].images[0].get_array().shape == (4, 5, 3)


def test_no_mistakes_are_said_so():
    figure = gn.plot.mistakes(np.zeros((2, 2)), [0, 1], [0.1, 0.9])
    assert figure.texts[0].get_text() == "no mistakes: all 2 answers are right"


def test_inputs_of_another_length_are_refused():
    with pytest.raises(ShapeError, match="3 rows of x but 2 of y"):
        gn.plot.mistakes(np.zeros((3, 2)), [0, 1], [0.9, 0.9])


# --- quantities


@pytest.mark.parametrize("columns", [1, 2, 7])
def test_predictions_and_residuals_are_points_of_every_column(columns):
    y = RNG.standard_normal((30, columns))
    said = y + 0.1 * RNG.standard_normal((30, columns))
    shown = min(columns, 6)
    figure = gn.plot.predictions(y, said)
    panels = [axes for axes in figure.axes if axes.collections]
    assert len(panels) == shown
    for c, axes in enumerate(panels):
        np.testing.assert_allclose(axes.collections[0].get_offsets(), np.stack([y[:, c], said[:, c]], axis=1))
        np.testing.assert_array_equal(*axes.lines[0].get_data())
    figure = gn.plot.residuals(y, said)
    assert len(figure.axes) == 2 * shown
    for c in range(shown):
        points, bars = figure.axes[2 * c : 2 * c + 2]
        expected = np.stack([said[:, c], said[:, c] - y[:, c]], axis=1)
        np.testing.assert_allclose(points.collections[0].get_offsets(), expected)
        assert sum(bar.get_width() for bar in bars.patches) == 30


def test_targets_of_one_axis_and_of_one_row_are_fine():
    for draw in (gn.plot.predictions, gn.plot.residuals):
        png(draw(np.ones(1), np.ones(1)))
        png(draw(np.arange(3), np.arange(3.0)[:, None]))
        with pytest.raises(ShapeError):
            draw(np.ones(3), np.ones((3, 2)))


def test_mistakes_of_scores_are_shown_as_scores():
    y, scores = [0, 1], np.array([[-1.5, 3.0], [-2.0, -1.0]])
    axes = gn.plot.mistakes(np.ones((2, 3)), y, scores, classes=("a", "b")).axes[0]
    assert axes.get_xlabel() == "score"
    assert axes.get_xlim()[0] < -1.5
    assert axes.get_xlim()[1] > 3.0
    axes = gn.plot.mistakes(np.ones((2, 4)), y, scores, image_shape=(2, 2, 1)).axes[0]
    assert axes.get_title(loc="left") == "said 1 3.00\ntrue 0 -1.50"
