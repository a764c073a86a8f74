import numpy as np
import pytest

import gpunn as gn


def test_an_mlp_is_linear_layers_with_activations_between():
    net = gn.mlp([784, 100, 30, 10], hidden="tanh", output="softmax")
    by_hand = gn.Sequential(
        gn.Linear(784, 100, init="xavier"),
        gn.Tanh(),
        gn.Linear(100, 30, init="xavier"),
        gn.Tanh(),
        gn.Linear(30, 10, init="xavier"),
        output="softmax",
    )
    assert repr(net) == repr(by_hand)
    x = np.random.default_rng(0).random((3, 784), dtype="float32")
    assert np.array_equal(net.init(seed=1)(x), by_hand.init(seed=1)(x))
    assert net(x).sum(axis=1) == pytest.approx(np.ones(3))


def test_any_activation_for_each_layer():
    net = gn.mlp([4, 5, 6, 2], hidden=["relu", gn.LeakyReLU(0.2)], output=gn.Tanh)
    assert [type(layer).__name__ for layer in net.layers] == ["Linear", "ReLU", "Linear", "LeakyReLU", "Linear"]
    assert type(net.output) is gn.Tanh


@pytest.mark.parametrize("depth", [0, 1, 30])
def test_any_depth_and_width(depth):
    net = gn.mlp([3, *[7] * depth, 1]).init()
    assert net(np.ones((2, 3), dtype="float32")).shape == (2, 1)
    assert sum(isinstance(layer, gn.Linear) for layer in net.layers) == depth + 1


def test_weights_suit_the_activation():
    stds = {}
    for hidden in ("relu", "tanh", "selu", "mish", "hard_swish", "hard_sigmoid"):
        W = gn.mlp([400, 600, 10], hidden=hidden).init().state_dict()["linear1.W"]
        stds[hidden] = W.std()
    assert stds["relu"] == pytest.approx((2 / 400) ** 0.5, rel=0.01)
    assert stds["mish"] == stds["hard_swish"] == stds["relu"]
    assert stds["hard_sigmoid"] == stds["tanh"]
    assert stds["selu"] == pytest.approx((1 / 400) ** 0.5, rel=0.01)
    assert stds["tanh"] == pytest.approx((2 / 1000) ** 0.5, rel=0.01)
    W = gn.mlp([400, 600, 10], init=gn.init.Normal(0.3)).init().state_dict()["linear1.W"]
    assert W.std() == pytest.approx(0.3, rel=0.01)


def test_selu_keeps_mean_0_and_variance_1_through_many_layers():
    x = np.random.default_rng(1).standard_normal((200, 300)).astype("float32")
    deep = gn.mlp([300] * 21, hidden="selu").init(seed=1).layers[:-1]
    for layer in deep:
        x = layer(x)
    assert x.mean() == pytest.approx(0.0, abs=0.1)
    assert x.std() == pytest.approx(1.0, abs=0.1)


def test_wrong_sizes_and_counts_are_named():
    with pytest.raises(gn.OptionError, match=r"at least two sizes.*got \[784\]"):
        gn.mlp([784])
    with pytest.raises(gn.OptionError, match=r"at least two sizes.*got 784"):
        gn.mlp(784)
    with pytest.raises(gn.OptionError, match=r"takes the sizes as one .*: mlp\(\[64, 30, 10\], .*; got 30, 10 bes"):
        gn.mlp(784, 30, 10)
    with pytest.raises(gn.OptionError, match=r"^a size in the shape \(.* 1 or more, got ndarray of shape \(40,\)$"):
        gn.mlp(np.ones((2, 40)))  # in one line
    for wrong in (None, np.tanh):
        with pytest.raises(gn.OptionError, match=f"activation {wrong!r} is not known; expected one of identity"):
            gn.mlp([784, 100, 10], hidden=wrong)
    with pytest.raises(gn.OptionError, match=r"activation 'rellu' is not known; .*softmax. Did you mean 'relu'"):
        gn.mlp([784, 100, 10], hidden="rellu")
    with pytest.raises(gn.OptionError, match="must be a whole number, 1 or more, got 'a'"):
        gn.mlp([784, "a"])
    with pytest.raises(gn.OptionError, match="has 2 hidden layers but hidden= names 1 activations"):
        gn.mlp([784, 100, 30, 10], hidden=["relu"])
    with pytest.raises(gn.OptionError, match="activation 'swoosh' is not known"):
        gn.mlp([784, 100, 10], hidden="swoosh")
