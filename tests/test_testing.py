import numpy as np
import pytest

import gpunn as gn
from gpunn.testing import assert_close, slope

X = np.random.default_rng(0).standard_normal((5, 4))


class Wrong(gn.Linear):
    """A linear layer with one thing wrong on the way back."""

    def __init__(self, mistake):
        super().__init__(4, 3, bias_init="normal")
        self.mistake = mistake

    def backward(self, dy, cache, *, need_dx=True):
        dx = super().backward(dy, cache)
        if self.mistake == "x":
            return dx * 1.001
        if self.mistake == "b":
            self.b.add_grad(self.b.value * 1e-3)
        else:
            self.W.add_grad(dx[0, 0] * self.W.value)
        return dx


@pytest.mark.parametrize("mistake", ["x", "W", "b"])
def test_a_wrong_gradient_is_found_and_named(backend, mistake):
    errors = gn.gradcheck(Wrong(mistake), backend.asarray(X))
    assert errors.pop(mistake) > 1e-5
    assert max(errors.values()) < 1e-9


def test_the_network_is_left_as_it_was():
    net = gn.mlp([4, 3, 2])
    gn.gradcheck(net, X)
    assert not net.initialised
    net.init(seed=2)
    before = net.state_dict()
    gn.gradcheck(net, X)
    assert net.store.dtype == "float32"
    assert all(np.array_equal(before[name], array) for name, array in net.state_dict().items())


def test_lists_will_do():
    assert set(gn.gradcheck(gn.Linear(2, 2), [[1.0, 2.0]])) == {"x", "W", "b"}


def test_slope_of_known_functions():
    assert slope(lambda t: np.sin(1 + t)) == pytest.approx(np.cos(1), rel=1e-10)
    assert slope(lambda t: (2 + t) ** 3) == pytest.approx(12, rel=1e-10)


def test_assert_close_looks_at_library_device_type_shape_and_values(backend):
    x = backend.asarray([1.0, 2.0])
    assert_close(x, [1.0, 2.0], like=x)
    for actual, expected in [
        (backend.asarray([1.0, 2.0], "float32"), [1.0, 2.0]),
        (x, [[1.0, 2.0]]),
        (x, [1.0, 2.1]),
        (gn.device("strict:device2").asarray([1.0, 2.0]), [1.0, 2.0]),
    ]:
        with pytest.raises(AssertionError):
            assert_close(actual, expected, like=x)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_is_no_agreement():
    class Broken(gn.Identity):
        def backward(self, dy, cache, *, need_dx=True):
            return dy * np.nan

    assert gn.gradcheck(Broken(), X) == {"x": np.inf}


def test_weights_that_are_there_are_those_that_are_checked():
    class Strange(gn.Linear):
        """Its gradient is wrong where a weight is 1000."""

        def backward(self, dy, cache, *, need_dx=True):
            dx = super().backward(dy, cache)
            return dx * 2 if float(self.W.value[0, 0]) == 1000.0 else dx

    net = gn.Sequential(gn.Tanh(), Strange(4, 2)).init(dtype="float64")
    net.layers[1].W.value[0, 0] = 1000.0
    for part in (net, net.layers[1]):
        assert gn.gradcheck(part, X)["x"] > 0.1
    assert gn.gradcheck(Strange(4, 2), X)["x"] < 1e-9


def test_targets_of_a_loss_may_lie_anywhere(backend):
    labels = np.array([0, 1, 2, 3, 0])
    assert gn.gradcheck(gn.SoftmaxCrossEntropy(), backend.asarray(X), labels)["z"] < 1e-9
    with pytest.raises(gn.DataError, match="label 4 in row 0"):
        gn.gradcheck(gn.SoftmaxCrossEntropy(), backend.asarray(X), labels + 4)


def test_what_cannot_be_checked_is_named():
    with pytest.raises(gn.OptionError, match="what gradcheck checks must be an instance of Layer or Loss, got 7"):
        gn.gradcheck(7, X)
    with pytest.raises(gn.OptionError, match=r"what gradcheck checks must be an object of the class: write Linear\("):
        gn.gradcheck(gn.Linear, X)
    assert gn.gradcheck(gn.Tanh, X)["x"] < 1e-9


@pytest.mark.parametrize(("wrong", "shape"), [(lambda dy: None, "None"), (lambda dy: dy[:, :1], r"\(5, 1\)")])
def test_a_gradient_of_another_shape_is_named(wrong, shape):
    class Short(gn.Identity):
        def backward(self, dy, cache, *, need_dx=True):
            return wrong(dy)

    with pytest.raises(gn.ShapeError, match=rf"a gradient of shape {shape} for x, expected \(5, 4\)"):
        gn.gradcheck(Short(), X)


def test_a_gradient_check_may_be_of_training():
    class WrongInTraining(gn.Identity):
        def forward(self, x, *, train=False, key=None):
            return (x * 2.0 if train else x), None

    assert gn.gradcheck(WrongInTraining(), X)["x"] < 1e-9
    assert gn.gradcheck(WrongInTraining(), X, train=True)["x"] == pytest.approx(0.5)
