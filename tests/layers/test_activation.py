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


def test_an_activation_keeps_one_array_for_the_way_back():
    x = np.ones((2, 3))
    assert gn.GELU().forward(x)[1] is x
    y, cache = gn.Sigmoid().forward(x)
    assert cache is y


def test_a_layer_that_learns_is_no_activation():
    with pytest.raises(gn.OptionError, match="has parameters: it is a layer to be put among the others"):
        gn.mlp([4, 3, 2], hidden=gn.Linear(3, 3))
    with pytest.raises(gn.OptionError, match=r"an activation must be an object of the class: write Linear\(...\)"):
        gn.mlp([4, 3], output=gn.Linear)


def test_a_constant_of_numpy_does_not_change_the_data_type():
    x = np.linspace(-2, 2, 5, dtype="float32")
    for kind in (gn.LeakyReLU, gn.ELU):
        assert kind(np.float64(0.1))(x).dtype == np.float32
