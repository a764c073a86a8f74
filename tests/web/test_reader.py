import numpy as np
import pytest

import gpunn as gn
from gpunn.web.reader import Reader
from tests.web.drawings import blot, network


def test_an_answer_is_that_of_the_network_for_the_picture_it_sees():
    net = network(white=3.0)
    shares, picture, *layers = Reader(net).read(blot())
    assert picture.shape == (28, 28)
    assert picture.max() == pytest.approx(1.0)
    for sums in (picture.sum(axis=0), picture.sum(axis=1)):
        assert abs((sums @ np.arange(28)) / sums.sum() - 14.0) < 0.01
    x = (3.0 * picture.reshape(1, 784)).astype("float32")
    np.testing.assert_array_equal(shares, net(x)[0])
    np.testing.assert_array_equal(layers[1], np.maximum(layers[0], 0.0))
    np.testing.assert_array_equal(layers[2], net.infer(x)[0])


def test_layers_that_change_no_number_are_not_shown():
    net = gn.Sequential(
        gn.Reshape((28, 28, 1)), gn.Conv2d(1, 3, 5), gn.Flatten(), gn.Dropout(), gn.Linear(1728, 10), output="softmax"
    )
    description = Reader(network(net)).description()
    assert description["layers"] == [
        {"name": "conv2d1", "type": "Conv2d", "shape": (24, 24, 3)},
        {"name": "linear1", "type": "Linear", "shape": (10,)},
    ]
    assert description["parameters"] == 78 + 17290


def test_a_network_that_takes_images_and_not_rows_gets_them():
    net = gn.Sequential(gn.Conv2d(1, 10, 28), gn.GlobalAvgPool2d(), output="softmax")
    assert Reader(network(net)).read(blot())[0].sum() == pytest.approx(1.0)


def test_a_network_without_output_function_gives_shares_too():
    bare = gn.mlp([784, 10])
    assert Reader(network(bare)).read(blot())[0].sum() == pytest.approx(1.0)
    within = network(gn.Sequential(gn.Linear(784, 10), gn.Softmax()))
    shares, picture, *_ = Reader(within).read(blot())  # not twice
    np.testing.assert_array_equal(shares, within(picture.reshape(1, 784).astype("float32"))[0])


@pytest.mark.parametrize(
    ("layers", "output", "scores"),
    [
        ([], "softmax", False),
        ([], "sigmoid", False),
        ([], None, False),
        ([gn.Softmax()], None, False),
        ([], "identity", True),
        ([], "softplus", True),
    ],
)
def test_scores_are_told_from_probabilities(layers, output, scores):
    reader = Reader(network(gn.Sequential(gn.Linear(784, 10), *layers, output=output)))
    assert reader.description()["scores"] is scores
    answer, picture, *_ = reader.read(blot())
    if output:
        np.testing.assert_array_equal(answer, reader.net(picture.reshape(1, 784).astype("float32"))[0])


def test_a_layer_of_ones_own_is_read():
    class Halve(gn.Layer):
        def forward(self, x, *, train=False, key=None):
            return x / 2, None

    net = network(gn.Sequential(gn.Linear(784, 10), Halve(), output="softmax"))
    shown = Reader(net).description()["layers"]
    assert [layer["name"] for layer in shown] == ["linear1", "halve1"]


def test_without_a_box_the_whole_drawing_is_shrunk():
    net = gn.mlp([6 * 12, 10])
    reader = Reader(network(net, image_shape=[6, 12, 1], box=None))
    assert reader.size == (140, 280)
    drawing = np.random.default_rng(0).integers(0, 256, (140, 280)).astype(np.uint8)
    found = reader.prepare(drawing)
    columns = np.repeat(drawing.repeat(6, axis=0), 12, axis=1).reshape(6, 140, 12, 280)
    np.testing.assert_allclose(found, columns.mean(axis=(1, 3)) / 255)


def test_a_narrow_image_is_drawn_on_a_narrow_paper():
    assert Reader(network(gn.mlp([784, 10]), image_shape=[1, 784, 1], box=None)).size == (1, 280)


def test_a_network_in_float64_gets_float64():
    net = network().to("cpu", "float64")
    assert Reader(net).read(blot())[0].dtype == np.float64


@pytest.mark.parametrize(
    ("net", "about", "message"),
    [
        (gn.mlp([784, 10]), {"classes": []}, r"before gn.save, give it net.about = \{"),
        (gn.mlp([784, 10]), {"image_shape": [28, 28, 3]}, r"takes images of \[28, 28, 3\]"),
        (gn.mlp([784, 10]), {"classes": 10}, r'"classes" must be a list of names, got 10'),
        (gn.mlp([784, 10]), {"image_shape": 28}, r'"image_shape" must be \[height, width, channels\], got 28'),
        (gn.mlp([784, 10]), {"image_shape": [0, 0, 1]}, r'"image_shape" must be a whole number, 1 or more, got 0'),
        (gn.mlp([784, 10]), {"white": None}, r'"white" must be above 0, got None'),
        (gn.mlp([784, 10]), {"box": 29}, r'"box" must be above 0 and at most 28, got 29'),
        (gn.mlp([64, 10]), {}, r"does not take images of \(28, 28\)"),
        (gn.mlp([784, 7]), {}, r"gives \(7,\) numbers for 10 classes"),
    ],
)
def test_a_network_that_is_not_for_drawings_is_named(net, about, message):
    with pytest.raises(gn.OptionError, match=message):
        Reader(network(net, **about))


def test_an_empty_drawing_is_named():
    with pytest.raises(gn.DataError, match="there is no ink on this drawing"):
        Reader(network()).read(np.zeros((280, 280), np.uint8))
