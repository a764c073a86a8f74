import numpy as np
import pytest

import gpunn as gn

rng = np.random.default_rng(6)


def test_weights_are_kernel_by_inputs_by_outputs():
    layer = gn.Conv2d(3, 8, (5, 2))
    assert {name: p.shape for name, p in layer.params().items()} == {"W": (5, 2, 3, 8), "b": (8,)}
    assert list(gn.Conv2d(3, 8, 5, bias=False).params()) == ["W"]
    std = gn.Conv2d(20, 40, 5).init().W.value.std()
    assert std == pytest.approx(np.sqrt(2 / (5 * 5 * 20)), rel=0.02)  # He: by the 500 inputs that a neuron sums over


def test_one_number_stands_for_rows_and_columns():
    layer = gn.Conv2d(1, 1, 3, stride=2, padding=1)
    assert (layer.kernel, layer.stride, layer.padding) == ((3, 3), (2, 2), (1, 1))
    assert gn.Conv2d(1, 1, (5, 3), padding="same").padding == (2, 1)
    assert gn.Conv2d(1, 1, (5, 3), padding="same").output_shape((9, 9, 1)) == (9, 9, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gn.Conv2d(1, 1, 0), "Conv2d: kernel must be a whole number, 1 or more, got 0"),
        (
            lambda: gn.Conv2d(1, 1, (3, 3, 3)),
            r"kernel must be a whole number or two of them, \(rows, columns\), got \(3,",
        ),
        (lambda: gn.Conv2d(1, 1, 3, stride=0), "Conv2d: stride must be a whole number, 1 or more, got 0"),
        (lambda: gn.Conv2d(1, 1, 3, padding=-1), "Conv2d: padding must be a whole number, 0 or more, got -1"),
        (
            lambda: gn.Conv2d(1, 1, 3, padding="all"),
            "Conv2d: padding must be 'same', a whole .*, got 'all'",
        ),
        (
            lambda: gn.Conv2d(1, 1, 4, padding="same"),
            r'padding="same" needs stride 1 and an odd kernel, got \(1, 1\) and \(4',
        ),
        (lambda: gn.Conv2d(1, 1, 3, stride=2, padding="same"), r"needs stride 1 and an odd kernel, got \(2, 2\)"),
        (lambda: gn.Conv2d(0, 1, 3), r"a size in the shape \(3, 3, 0, 1\) must be a whole number, 1 or more, got 0"),
        (lambda: gn.MaxPool2d(0), "MaxPool2d: window must be a whole number, 1 or more, got 0"),
        (lambda: gn.AvgPool2d(2, stride=0), "AvgPool2d: stride must be a whole number, 1 or more, got 0"),
        (lambda: gn.Reshape((2, 0)), "Reshape: a size must be a whole number, 1 or more, got 0"),
    ],
)
def test_sizes_out_of_range_are_named(make, message):
    with pytest.raises(gn.OptionError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            gn.Conv2d(3, 1, 3),
            (8, 8, 1),
            r"(expects images of shape \(height, width, 3\), got|inputs of shape \(N, any, any, 3\))",
        ),
        (
            gn.Conv2d(1, 1, 3),
            (64,),
            r"(\(height, width, 1\), got \(64,\)|inputs of shape \(N, any, any, 1\), got \(4, 64\))",
        ),
        (
            gn.Conv2d(1, 1, 5, padding=1),
            (9, 2, 1),
            r"a kernel of \(5, 5\) does not fit on images of \(9, 2\) with padding \(1,",
        ),
        (gn.MaxPool2d(3), (2, 9, 1), r"MaxPool2d: a window of \(3, 3\) does not fit on images of \(2, 9\)"),
        (gn.AvgPool2d((1, 4)), (3, 3, 1), r"AvgPool2d: a window of \(1, 4\) does not fit on images of \(3, 3\)"),
        (gn.MaxPool2d(2), (64,), r"MaxPool2d expects images of shape \(height, width, channels\), got \(64,\)"),
        (gn.GlobalAvgPool2d(), (64,), r"GlobalAvgPool2d expects images of shape .* got \(64,\)"),
        (gn.Reshape((8, 8, 1)), (65,), r"Reshape cannot lay out inputs of shape \(65,\) as \(8, 8, 1\)"),
    ],
)
def test_images_that_do_not_fit_are_named(layer, shape, message):
    with pytest.raises(gn.ShapeError, match=message):
        layer.init().forward(rng.random((4, *shape), dtype="float32"))
    with pytest.raises(gn.ShapeError, match=message):
        layer.output_shape(shape)


def test_layers_of_images_are_fitted_when_the_network_is_built():
    rows = gn.Reshape((8, 8, 1))
    with pytest.raises(gn.ShapeError, match=r"a kernel of \(9, 9\) does not fit .*, which comes after Reshape"):
        gn.Sequential(rows, gn.Conv2d(1, 4, 9))
    with pytest.raises(gn.ShapeError, match=r"Linear\(100, 10\) cannot take inputs of shape \(36,\)"):
        gn.Sequential(rows, gn.Conv2d(1, 4, 3), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(100, 10))
    net = gn.Sequential(rows, gn.Conv2d(1, 4, 3), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(36, 10))
    assert net.output_shape((64,)) == (10,)
    assert net.init()(rng.random((2, 64), dtype="float32")).shape == (2, 10)
