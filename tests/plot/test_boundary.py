import numpy as np
import pytest

import gpunn as gn
from gpunn.errors import OptionError, ShapeError
from gpunn.plot.style import COLOURS, png

to_rgb = pytest.importorskip("matplotlib.colors").to_rgb
RNG = np.random.default_rng(0)
X = np.array([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]])
Y = np.array([0, 1, 2, 0])


def quadrants(x):
    """Sure answers: class 0 below 0, above it class 2 on the left and class 1 on the right."""
    c = np.where(x[:, 1] < 0, 0, np.where(x[:, 0] < 0, 2, 1))
    return np.eye(3)[c]


def nearest(colour):
    """The class whose colour, paled, this is."""
    paled = np.array([1 - 0.55 * (1 - np.array(to_rgb(c))) for c in COLOURS])
    return int(abs(paled - colour).sum(axis=1).argmin())


def test_the_plane_has_the_colours_of_the_answers():
    axes = gn.plot.boundary(quadrants, X, Y, resolution=40).axes[0]
    plane = np.asarray(axes.images[0].get_array())
    assert plane.shape == (40, 40, 3)
    assert axes.images[0].origin == "lower"
    np.testing.assert_allclose(axes.images[0].get_extent(), [-1.16, 1.16, -1.16, 1.16])
    for (row, column), c in {(5, 5): 0, (5, 35): 0, (35, 5): 2, (35, 35): 1}.items():
        assert nearest(plane[row, column]) == c


def test_the_examples_lie_on_top_each_class_with_a_shape_of_its_own():
    figure = gn.plot.boundary(quadrants, X, Y, classes=["a", "b", "c"])
    points = [c for c in figure.axes[0].collections if c.get_label() in "abc"]
    assert [c.get_label() for c in points] == ["a", "b", "c"]
    for c, drawn in enumerate(points):
        np.testing.assert_array_equal(drawn.get_offsets(), X[c == Y])
        np.testing.assert_allclose(drawn.get_facecolors()[0, :3], to_rgb(COLOURS[c]))
    assert len({len(drawn.get_paths()[0].vertices) for drawn in points}) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]


def lines(figure):
    """The places on the lines between classes."""
    found = [c for c in figure.axes[0].collections if "Contour" in type(c).__name__]
    return np.concatenate([path.vertices for c in found for path in c.get_paths()]) if found else np.empty((0, 2))


def test_the_line_runs_where_two_classes_are_equally_likely():
    net = gn.Sequential(gn.Linear(2, 1), output="sigmoid").init()
    net.load_state_dict({"linear1.W": np.array([[3.0], [0.0]]), "linear1.b": np.array([-1.5])})
    places = lines(gn.plot.boundary(net, X, Y > 0))
    assert len(places)
    np.testing.assert_allclose(places[:, 0], 0.5, atol=0.01)
    sure = gn.plot.boundary(lambda x: np.full(len(x), 0.9), X, Y > 0)
    assert len(lines(sure)) == 0


class Estimator:
    def predict(self, x):
        raise AssertionError("it has probabilities")

    predict_proba = staticmethod(quadrants)


def test_a_network_a_trainer_an_estimator_and_a_function_may_answer(backend):
    net = gn.mlp([2, 3], output="softmax").init(device=backend.device)
    bare = gn.mlp([2, 3]).init(device=backend.device)  # gives logits
    trainer = gn.Trainer(gn.mlp([2, 3]), gn.SoftmaxCrossEntropy(), device=backend.device)
    models = [net, bare, trainer, lambda x: gn.to_host(net(backend.asarray(x.astype("float32"))))]
    planes = [gn.plot.boundary(m, X, Y, resolution=9).axes[0].images[0].get_array() for m in models]
    for plane in planes:
        np.testing.assert_allclose(plane, planes[0], rtol=1e-5)
    assert gn.plot.boundary(Estimator(), X, Y, resolution=9).axes[0].images[0].get_array().shape == (9, 9, 3)


@pytest.mark.parametrize("x", [np.zeros((4, 3)), np.zeros(4), np.zeros((3, 2)), np.zeros((0, 2))])
def test_data_of_other_features_is_refused(x):
    for make in (lambda: gn.plot.boundary(quadrants, x, Y), lambda: gn.plot.BoundaryFilm(x, Y)):
        with pytest.raises(ShapeError):
            make()


def test_points_that_lie_on_one_another_and_many_classes_can_be_drawn():
    png(gn.plot.boundary(lambda x: np.full((len(x), 9), 1 / 9), np.zeros((9, 2)), np.arange(9)))


def trained(epochs, **options):
    film = gn.plot.BoundaryFilm(X, Y > 0, resolution=12, **options)
    trainer = gn.Trainer(gn.mlp([2, 4, 1], output="sigmoid"), gn.SigmoidCrossEntropy(), gn.Adam(0.1), device="cpu")
    trainer.fit((X, Y > 0), epochs=epochs, callbacks=film)
    return film, trainer


def test_a_film_has_a_picture_for_every_epoch_asked_for(tmp_path):
    film, _ = trained(7, every=3)
    assert film.epochs == [3, 6]
    assert film.figure(0).axes[0].get_title() == "epoch 3"
    film.save(tmp_path / "f.gif", seconds=0.25)
    with pytest.importorskip("PIL.Image").open(tmp_path / "f.gif") as gif:
        assert (gif.format, gif.n_frames, gif.info["loop"]) == ("GIF", 2, 0)
        assert gif.info["duration"] == 250
        gif.seek(1)
        assert gif.info["duration"] == 2000
    assert [path.name for path in tmp_path.iterdir()] == ["f.gif"]


def test_the_last_picture_of_a_film_is_the_boundary_of_the_network():
    film, trainer = trained(5)
    plane = film.figure().axes[0].images[0].get_array()
    expected = gn.plot.boundary(trainer, X, Y > 0, resolution=12).axes[0].images[0].get_array()
    np.testing.assert_allclose(plane, expected, atol=1e-6)
    assert abs(np.asarray(film.figure(0).axes[0].images[0].get_array()) - plane).max() > 0.01


def test_a_film_of_nothing_is_refused(tmp_path):
    with pytest.raises(OptionError, match="the film is empty"):
        gn.plot.BoundaryFilm(X, Y).save(tmp_path / "f.gif")
