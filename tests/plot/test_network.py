import numpy as np
import pytest

import gpunn as gn
from gpunn.data.table import Column, Table
from gpunn.errors import NotInitialised, OptionError, ShapeError
from gpunn.plot.network import _stages
from gpunn.plot.style import png

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)


def cnn(channels=1):
    layers = [gn.Conv2d(channels, 4, 3), gn.BatchNorm(4), gn.ReLU(), gn.MaxPool2d(2), gn.Conv2d(4, 20, 2), gn.Flatten()]
    return gn.Sequential(*layers, gn.Dropout(0.5), gn.Linear(20, 3), output="softmax").init()


# --- weights and filters


def test_the_weights_of_unit_k_are_tile_k():
    net = gn.mlp([12, 5, 2]).init()
    axes = gn.plot.weights(net, image_shape=(3, 4, 1)).axes[0]
    sheet, W = np.asarray(axes.images[0].get_array()), net.state_dict()["linear1.W"]
    columns = (sheet.shape[1] + 1) // 5
    for k in range(5):
        top, left = k // columns * 4, k % columns * 5
        np.testing.assert_array_equal(sheet[top : top + 3, left : left + 4], W[:, k].reshape(3, 4))
    low, high = axes.images[0].get_clim()
    assert low == -high


def test_the_shape_of_the_image_is_in_the_file_and_what_comes_before_the_weights_is_passed_over():
    net = gn.Sequential(gn.Standardize(np.zeros(4), np.ones(4)), gn.Linear(4, 70)).init()
    net.about = {"image_shape": [2, 2, 1]}
    axes = gn.plot.weights(net).axes[0]
    assert axes.get_title() == "weights of the first layer, the first 64 of 70 units"
    assert axes.images[0].get_array().shape == (23, 23)


def test_other_inputs_are_one_picture_with_a_row_for_each_unit():
    net = gn.mlp([6, 9, 2]).init()
    axes = gn.plot.weights(net).axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), net.state_dict()["linear1.W"].T)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("input", "unit")


def test_images_of_three_channels_are_in_colour():
    net = gn.mlp([48, 4, 2]).init()
    sheet = gn.plot.weights(net, image_shape=(4, 4, 3)).axes[0].images[0].get_array()
    assert sheet.shape == (9, 9, 3)
    assert gn.plot.filters(cnn(3)).axes[0].images[0].get_array().shape == (7, 7, 3)


def test_filter_k_is_tile_k_and_deeper_ones_have_a_row_each():
    net = cnn()
    first, second = (net.state_dict()[f"conv2d{i}.W"] for i in (1, 2))
    sheet = gn.plot.filters(net).axes[0].images[0].get_array()
    np.testing.assert_array_equal(sheet[:3, 4:7], first[:, :, 0, 1])
    np.testing.assert_array_equal(sheet[4:7, :3], first[:, :, 0, 2])
    sheet = gn.plot.filters(net, layer=1).axes[0].images[0].get_array()
    assert sheet.shape == (16 * 3 - 1, 4 * 3 - 1)
    np.testing.assert_array_equal(sheet[3 * 5 : 3 * 5 + 2, 6:8], second[:, :, 2, 5])


def test_what_a_network_does_not_have_is_said():
    dense = gn.mlp([2, 2]).init()
    with pytest.raises(OptionError, match="no Conv2d layer"):
        gn.plot.filters(dense)
    with pytest.raises(OptionError, match=r"layer must be from 0 to 1, .*, got 2"):
        gn.plot.filters(cnn(), layer=2)
    with pytest.raises(OptionError, match="no Linear layer"):
        gn.plot.weights(gn.Sequential(gn.ReLU()).init())
    with pytest.raises(ShapeError, match=r"2 inputs, and an image of \(3, 3, 1\)"):
        gn.plot.weights(dense, image_shape=(3, 3, 1))
    with pytest.raises(NotInitialised):
        gn.plot.weights(gn.mlp([2, 2]))


# --- activations


def test_the_outputs_of_the_layers_are_shown_in_their_order(backend):
    net = gn.mlp([25, 30, 3], output="softmax").init(device=backend.device)
    x = RNG.random(25)
    figure = gn.plot.activations(net, x, image_shape=(5, 5, 1), classes=["a", "b", "c"])
    names = [axes.get_title().split("\n")[0] for axes in figure.axes]
    assert names == ["input", "linear1", "relu1", "linear2", "answer"]
    state = net.state_dict()
    hidden = x @ state["linear1.W"] + state["linear1.b"]
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), x.reshape(5, 5), rtol=1e-6)
    drawn = np.asarray(figure.axes[2].images[0].get_array()).reshape(-1)[:30]
    np.testing.assert_allclose(drawn, np.maximum(hidden, 0), rtol=1e-4, atol=1e-6)
    z = np.maximum(hidden, 0) @ state["linear2.W"] + state["linear2.b"]
    p = np.exp(z) / np.exp(z).sum()
    np.testing.assert_allclose([bar.get_width() for bar in figure.axes[3].patches], z, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose([bar.get_width() for bar in figure.axes[4].patches], p, rtol=1e-4)
    assert figure.axes[4].get_title() == f"answer\n{'abc'[p.argmax()]}, {p.max():.0%}"


@pytest.mark.parametrize("hidden", [[30], [30] * 4])
def test_titles_and_numbers_of_the_steps_are_within_the_picture(hidden):
    net = gn.mlp([25, *hidden, 3], output="softmax").init()
    figure = gn.plot.activations(net, RNG.random(25), image_shape=(5, 5, 1))
    png(figure)  # which lays it out
    _, height = figure.bbox.size
    for axes in figure.axes:
        extent = axes.get_tightbbox()
        assert extent.y0 >= 0
        assert extent.y1 <= height


def test_features_of_convolutions_are_pictures():
    net = cnn()
    image = RNG.integers(0, 256, (7, 7, 1)).astype(np.uint8)
    figure = gn.plot.activations(net, image)
    names = [axes.get_title().split("\n")[0] for axes in figure.axes]
    assert names == ["input", "conv2d1", "batchnorm1", "relu1", "maxpool2d1", "conv2d2", "linear1", "answer"]
    y = net.layers[0].infer(net.store.device.asarray(image[None] / 255, "float32"))[0]
    np.testing.assert_allclose(figure.axes[1].images[0].get_array()[6:11, :5], y[:, :, 2], rtol=1e-5)
    assert "20 features of 1x1, 16 shown" in figure.axes[5].get_title()


@pytest.mark.parametrize("n_out", [1, 100])
def test_answers_of_one_number_and_of_many(n_out):
    net = gn.mlp([3, n_out], output="sigmoid" if n_out == 1 else "softmax").init()
    axes = gn.plot.activations(net, np.ones(3)).axes[2]
    assert len(axes.patches) == min(n_out, 12)
    p = np.sort(net(np.ones((1, 3), dtype="float32"))[0])[-12:]
    np.testing.assert_allclose(sorted(bar.get_width() for bar in axes.patches), p, rtol=1e-6)


def test_probabilities_of_a_last_layer_are_probabilities():
    net = gn.Sequential(gn.Linear(3, 2), gn.Softmax()).init()
    (axes,) = (axes for axes in gn.plot.activations(net, np.ones(3)).axes if axes.get_title().startswith("answer"))
    assert axes.get_title().endswith("%")


def test_a_deep_network_is_thinned_and_another_than_a_sequence_is_one_step():
    deep = gn.mlp([4] + [3] * 30 + [2], output="softmax").init()
    assert len(gn.plot.activations(deep, np.ones(4)).axes) == 12
    block = gn.Residual(gn.Linear(3, 3)).init()
    assert [axes.get_title().split("\n")[0] for axes in gn.plot.activations(block, np.ones(3)).axes] == [
        "input",
        "answer",
    ]


# --- the diagram


def test_the_stages_are_the_shapes_and_the_layers_between_them():
    net = cnn()
    assert _stages(net, (7, 7, 1)) == [
        ((7, 7, 1), [], 0),
        ((5, 5, 4), ["Conv2d 3x3", "BatchNorm", "ReLU"], 48),
        ((2, 2, 4), ["MaxPool2d"], 0),
        ((1, 1, 20), ["Conv2d 2x2"], 340),
        ((20,), ["Flatten", "Dropout"], 0),
        ((3,), ["Linear", "Softmax"], 63),
    ]


def test_layers_before_the_first_linear_one_belong_to_it():
    net = gn.Sequential(gn.Standardize([0, 0], [1, 1]), gn.Linear(2, 2), gn.Tanh(), gn.Linear(2, 1), output="identity")
    assert _stages(net, (2,)) == [((2,), [], 0), ((2,), ["Standardize", "Linear", "Tanh"], 6), ((1,), ["Linear"], 3)]


def test_the_diagram_says_sizes_layers_and_parameters():
    figure = gn.plot.diagram(gn.mlp([64, 256, 10], output="softmax"))
    said = [text.get_text() for text in figure.axes[0].texts]
    for text in ("64", "256", "10", "Linear\nReLU", "Linear\nSoftmax", "16,640\nparameters", "2,570\nparameters"):
        assert text in said
    assert [len(points.get_offsets()) for points in figure.axes[0].collections] == [8, 8, 8]
    assert len(gn.plot.diagram(gn.mlp([3, 9, 2])).axes[0].collections[1].get_offsets()) == 9


@pytest.mark.parametrize(
    "net",
    [
        gn.mlp([2] * 20),
        gn.Sequential(gn.Linear(2, 2), *[gn.ReLU()] * 9),
        gn.Sequential(),
        gn.Sequential(gn.ReLU()),
        gn.Residual(gn.Linear(3, 3)),
        gn.Linear(2, 1),
        cnn(),
    ],
    ids=["deep", "many layers in one stage", "empty", "no sizes", "residual", "a layer", "no image shape"],
)
def test_any_network_has_a_diagram(net):
    png(gn.plot.diagram(net))


@pytest.mark.parametrize(
    ("first", "about", "shape"),
    [
        (gn.Sequential(gn.Linear(4, 9), gn.ReLU()), {}, "4"),
        (gn.MaxPool2d(2), {"image_shape": [6, 6, 1]}, "6 x 6 x 1"),
        (gn.Conv2d(1, 1, 3), {}, "?"),
    ],
    ids=["layers within a layer", "an image", "not said"],
)
def test_the_diagram_begins_with_what_the_first_layer_takes(first, about, shape):
    net = gn.Sequential(first, gn.Flatten(), gn.Linear(9, 2))
    net.about = about
    said = [text.get_text() for text in gn.plot.diagram(net).axes[0].texts]
    assert shape in said
    assert "2" in said


def on_a_table(columns):
    net = gn.mlp([sum(column.width for column in columns), 3, 2]).init()
    net.about = {"table": Table("y", tuple(columns)).about()}
    return net


def test_inputs_have_the_names_of_their_columns():
    net = on_a_table([Column("width"), Column("colour", ("", "red"))])
    names = ["width", "colour = (missing)", "colour = red"]
    axes = gn.plot.weights(net).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert axes.get_xticks().tolist() == [0, 1, 2]
    first, second = gn.plot.activations(net, np.ones(3)).axes[:2]
    assert [label.get_text() for label in first.get_yticklabels()] == names
    assert [label.get_text() for label in second.get_yticklabels()] == ["0", "1", "2"]


def test_of_many_inputs_every_second_or_third_is_named():
    net = on_a_table([Column(f"c{i}") for i in range(130)])
    axes = gn.plot.weights(net).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"c{i}" for i in range(0, 130, 3)]
    assert axes.get_xticks().tolist() == list(range(0, 130, 3))
