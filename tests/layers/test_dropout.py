import numpy as np
import pytest

import gpunn as gn

X = np.ones((40, 6), dtype="float32")


def dropped(net, key):
    return net.forward(X, train=True, key=key)[0] == 0


def test_at_inference_nothing_is_dropped(backend):
    net = gn.Sequential(gn.Dropout(0.5)).init(device=backend.device)
    x = backend.asarray(X)
    assert np.array_equal(gn.to_host(net(x)), X)
    assert np.array_equal(gn.to_host(net.forward(x)[0]), X)
    assert np.array_equal(gn.to_host(gn.Dropout(0.0).forward(x, train=True)[0]), X)


def test_seed_step_and_name_choose():
    net = gn.Sequential(gn.Dropout(0.5))
    first = dropped(net, (1, 0))
    assert np.array_equal(dropped(net, (1, 0)), first)
    for other in ((2, 0), (1, 1)):
        assert not np.array_equal(dropped(net, other), first)
    assert not np.array_equal(
        dropped(gn.Sequential(gn.Residual(gn.Identity()), gn.Sequential(gn.Dropout(0.5))), (1, 0)), first
    )
    # what else the network holds does not matter
    assert np.array_equal(dropped(gn.Sequential(gn.ReLU(), gn.Dropout(0.5)), (1, 0)), first)


def test_one_layer_used_twice_drops_different_units():
    shared = gn.Dropout(0.5)
    y = gn.Sequential(shared, shared).forward(X, train=True, key=(0, 0))[0]
    assert (y != 0).mean() == pytest.approx(0.25, abs=0.1)


def test_without_a_key_there_is_nothing_to_draw_from():
    with pytest.raises(gn.OptionError, match=r"Dropout draws random numbers in training: give .* key=\(seed, step\)"):
        gn.Dropout(0.5).forward(X, train=True)
    for rate in (-0.1, 1.0, np.nan, "half"):
        with pytest.raises(gn.OptionError, match=r"Dropout: rate must be .*at least 0 and below 1, got "):
            gn.Dropout(rate)


def test_a_trainer_drops_the_same_units_on_every_backend(backend):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((30, 6)), rng.integers(0, 3, 30)

    def losses(device):
        net = gn.Sequential(gn.Dropout(0.2), gn.Linear(6, 16), gn.ReLU(), gn.Dropout(0.5), gn.Linear(16, 3))
        t = gn.Trainer(net, device=device, dtype="float64", seed=4)
        return t.fit((x, y), valid=(x, y), epochs=3, batch_size=7)

    here, there = losses("cpu"), losses(backend.device)
    for column in ("loss", "valid_loss"):
        np.testing.assert_allclose(here[column], there[column], rtol=1e-10)


def test_noise_is_added_in_training_alone():
    layer = gn.GaussianNoise(0.5)
    assert np.array_equal(layer(X), X)
    y, cache = layer.forward(X, train=True, key=(0, 1))
    assert (y - X).std() == pytest.approx(0.5, rel=0.2)
    assert np.array_equal(layer.backward(X, cache), X)
    assert not np.array_equal(layer.forward(X, train=True, key=(0, 2))[0], y)
    with pytest.raises(gn.OptionError, match="GaussianNoise draws random numbers in training"):
        layer.forward(X, train=True)
    with pytest.raises(gn.OptionError, match=r"GaussianNoise: std must be at least 0, got -1.0"):
        gn.GaussianNoise(-1.0)


@pytest.mark.parametrize(
    ("key", "message"), [(3, "draws random numbers"), ((0,), "draws random"), ((0, 1.5), "the step in key")]
)
def test_a_key_that_is_none_is_named(key, message):
    with pytest.raises(gn.OptionError, match=message):
        gn.Dropout(0.5).forward(X, train=True, key=key)
