import numpy as np
import pytest

import gpunn as gn
from gpunn.layers import activation


def test_an_activation_goes_by_name_class_or_instance():
    assert type(activation("leaky_relu")) is gn.LeakyReLU
    assert type(activation(gn.Tanh)) is gn.Tanh
    own = gn.ELU(0.5)
    assert activation(own) is own


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        gn.OptionError, match="activation 'rellu' is not known; expected one of identity, sigmoid, tanh"
    ):
        activation("rellu")
    with pytest.raises(gn.OptionError, match="activation 3 is not known"):
        activation(3)


def test_constants_are_used_and_shown():
    x = np.array([[-2.0, 2.0]], dtype="float32")
    assert gn.LeakyReLU(0.25)(x).tolist() == [[-0.5, 2.0]]
    assert gn.ELU(2.0)(x)[0, 0] == pytest.approx(2 * np.expm1(-2.0))
    assert repr(gn.LeakyReLU(0.25)) == "LeakyReLU(alpha=0.25)"
    assert repr(gn.ReLU()) == "ReLU()"


@pytest.mark.parametrize(
    ("kind", "alpha"), [(gn.LeakyReLU, -0.1), (gn.LeakyReLU, 1.5), (gn.ELU, 0.0), (gn.ELU, float("nan"))]
)
def test_constants_out_of_range_are_named(kind, alpha):
    with pytest.raises(gn.OptionError, match=f"{kind.__name__}: alpha must .*got {alpha}"):
        kind(alpha)


def test_sizes_out_of_range_are_named():
    with pytest.raises(gn.OptionError, match="PReLU: n must be a whole number, 1 or more, got 0"):
        gn.PReLU(0)
    with pytest.raises(gn.OptionError, match="PReLU: alpha must be a number, got inf"):
        gn.PReLU(3, alpha=float("inf"))
    with pytest.raises(gn.OptionError, match="Maxout: pieces must be a whole number, 2 or more, got 1"):
        gn.Maxout(1)
    with pytest.raises(gn.ShapeError, match=r"Maxout\(2\) cannot take inputs of shape \(3,\).*comes after Linear"):
        gn.Sequential(gn.Linear(4, 3), gn.Maxout(2))
    with pytest.raises(gn.ShapeError, match=r"Maxout\(2\) cannot take inputs of shape \(3,\)"):
        gn.Maxout(2)(np.ones((1, 3)))
    with pytest.raises(gn.ShapeError, match=r"PReLU of 4 channels cannot take inputs of shape \(3,\)"):
        gn.Sequential(gn.Linear(4, 3), gn.PReLU(4))
    with pytest.raises(gn.ShapeError, match=r"PReLU expects inputs of shape \(N, 4\), got \(1, 3\)"):
        gn.PReLU(4).init()(np.ones((1, 3), dtype="float32"))


def test_slopes_that_are_learned_start_alike_and_do_not_decay():
    layer = gn.PReLU(3, alpha=0.5).init()
    assert layer.state_dict()["a"].tolist() == [0.5, 0.5, 0.5]
    assert not layer.a.decay
    assert gn.PReLU(1).init().state_dict()["a"].tolist() == [0.25]
    assert repr(gn.PReLU(3)) == "PReLU(n=3, alpha=0.25)"


def test_a_slope_is_learned():
    """Of y = |x| a PReLU of slope -1 makes no error; it comes there from 1/4."""
    x = np.linspace(-1, 1, 40)[:, None]
    net = gn.PReLU(1)
    gn.Trainer(net, gn.MeanSquaredError(), gn.SGD(1.0), device="cpu").fit((x, abs(x)), epochs=60, batch_size=20)
    assert float(net.state_dict()["a"][0]) == pytest.approx(-1.0, abs=1e-3)


def test_an_activation_keeps_one_array_for_the_way_back():
    x = np.ones((2, 3))
    assert gn.GELU().forward(x)[1] is x
    y, cache = gn.Sigmoid().forward(x)
    assert cache is y


def test_a_layer_that_learns_is_no_activation():
    with pytest.raises(gn.OptionError, match="has parameters: it is a layer to be put among the others"):
        gn.mlp([4, 3, 2], hidden=gn.Linear(3, 3))
    with pytest.raises(gn.OptionError, match="has parameters: it is a layer to be put among the others"):
        gn.mlp([4, 3, 2], hidden=gn.PReLU(3))
    with pytest.raises(gn.OptionError, match=r"an activation must be an object of the class: write Linear\(...\)"):
        gn.mlp([4, 3], output=gn.Linear)


def test_a_constant_of_numpy_does_not_change_the_data_type():
    x = np.linspace(-2, 2, 5, dtype="float32")
    for kind in (gn.LeakyReLU, gn.ELU):
        assert kind(np.float64(0.1))(x).dtype == np.float32
