import numpy as np
import pytest

import gpunn as gn

rng = np.random.default_rng(18)
X, Y = rng.standard_normal((40, 5)), rng.integers(0, 3, 40)


def trainer(device="cpu", **more):
    net = gn.Sequential(gn.Reshape((5, 1, 1)), gn.Conv2d(1, 4, (2, 1)), gn.Flatten(), gn.ReLU(), gn.Linear(16, 3))
    return gn.Trainer(net, optimizer=gn.SGD(1.0), device=device, dtype="float64", **more)


def norms(net):
    return [np.sqrt((a**2).reshape(-1, a.shape[-1]).sum(axis=0)) for n, a in net.state_dict().items() if n[-1] == "W"]


def test_no_neuron_has_longer_weights_than_the_limit(backend):
    free, held = trainer(backend.device), trainer(backend.device)
    free.fit((X, Y), epochs=3, batch_size=10)
    held.fit((X, Y), epochs=3, batch_size=10, callbacks=gn.MaxNorm(0.7))
    assert max(norm.max() for norm in norms(free.net)) > 0.71
    assert max(norm.max() for norm in norms(held.net)) == pytest.approx(0.7, rel=1e-12)
    assert any((norm < 0.69).any() for norm in norms(held.net))  # shorter ones stay


def test_max_norm_by_hand(backend):
    w = backend.device.asarray(np.array([[3.0, 0.3], [4.0, 0.4]]))
    gn.ops.max_norm(w, limit=1.0)
    np.testing.assert_allclose(gn.to_host(w), [[0.6, 0.3], [0.8, 0.4]])


def test_the_average_is_over_the_steps(backend):
    t, average, seen = trainer(backend.device), gn.AverageWeights(0.5), []

    class Keep(gn.Callback):
        def on_step(self, trainer):
            seen.append(np.array(gn.to_host(trainer.net.store.values)))

    t.fit((X, Y), epochs=2, batch_size=10, callbacks=[Keep(), average])
    expected = seen[0]
    for step, w in enumerate(seen, start=1):
        d = min(0.5, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * w
    average.load_into(t.net)
    np.testing.assert_allclose(gn.to_host(t.net.store.values), expected, rtol=1e-12, atol=1e-15)


def test_what_cannot_be_is_named():
    with pytest.raises(gn.OptionError, match="MaxNorm: limit must be above 0, got 0"):
        gn.MaxNorm(0)
    with pytest.raises(gn.OptionError, match=r"AverageWeights: decay must be at least 0 and below 1, got 1.0"):
        gn.AverageWeights(1.0)
    with pytest.raises(gn.OptionError, match="there is no average yet"):
        gn.AverageWeights().load_into(trainer().net)


def test_l1_brings_weights_to_0_and_spares_biases(backend):
    w = backend.asarray([1.0, -1.0, 0.05, -0.05, 0.0])
    w = backend.device.xp.asarray(w, copy=True)
    gn.ops.soft_threshold(w, by=0.1)
    np.testing.assert_allclose(gn.to_host(w), [0.9, -0.9, 0.0, 0.0, 0.0])

    t = gn.Trainer(gn.Linear(5, 3, bias_init="normal"), optimizer=gn.SGD(0.1), device=backend.device, dtype="float64")
    t.fit((X, Y), epochs=30, batch_size=10, callbacks=gn.L1(0.5))
    state = t.net.state_dict()
    assert not state["W"].any()  # too strong for any weight to stay
    assert state["b"].all()
    gentle = gn.Trainer(gn.Linear(5, 3), optimizer=gn.SGD(0.1), device=backend.device, dtype="float64")
    gentle.fit((X, Y), epochs=30, batch_size=10, callbacks=gn.L1(0.08))
    zeros = (gentle.net.state_dict()["W"] == 0).mean()
    assert 0 < zeros < 1


def test_l1_takes_the_step_of_the_learning_rate():
    t = gn.Trainer(gn.Linear(5, 3), optimizer=gn.SGD(gn.schedules.Step(0.2, every=1, factor=0.5)), device="cpu")
    other = gn.Trainer(gn.Linear(5, 3), optimizer=gn.SGD(gn.schedules.Step(0.2, every=1, factor=0.5)), device="cpu")
    t.fit((X, Y), epochs=1, batch_size=40, callbacks=gn.L1(0.1))
    other.fit((X, Y), epochs=1, batch_size=40)
    w = other.net.state_dict()["W"]
    np.testing.assert_allclose(t.net.state_dict()["W"], np.sign(w) * np.maximum(abs(w) - 0.02, 0), atol=1e-7)
    with pytest.raises(gn.OptionError, match="L1: rate must be at least 0, got -1"):
        gn.L1(-1)


@pytest.mark.parametrize("callback", [gn.L1(0.1), gn.MaxNorm(0.1)])
def test_a_group_that_does_not_learn_is_left_alone(callback):
    groups = {"linear1": {"lr_factor": 0.0}}
    net = gn.Sequential(gn.Linear(5, 4), gn.Tanh(), gn.Linear(4, 3))
    t = gn.Trainer(net, optimizer=gn.SGD(0.1, groups=groups), device="cpu")
    before = t.net.state_dict()
    t.fit((X, Y), epochs=3, batch_size=10, callbacks=callback)
    after = t.net.state_dict()
    assert np.array_equal(before["linear1.W"], after["linear1.W"])
    assert not np.array_equal(before["linear2.W"], after["linear2.W"])


def test_an_average_is_of_one_network():
    one, two, average = trainer(), trainer(), gn.AverageWeights()
    one.fit((X, Y), epochs=1, callbacks=average)
    for use in (lambda: two.fit((X, Y), epochs=1, callbacks=average), lambda: average.load_into(two.net)):
        with pytest.raises(gn.OptionError, match="this average is of another network"):
            use()
