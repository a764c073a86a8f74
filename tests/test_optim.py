import numpy as np
import pytest

import gpunn as gn
from gpunn.testing import assert_close

OPTIMISERS = {
    "SGD": lambda **k: gn.SGD(0.1, **k),
    "momentum": lambda **k: gn.SGD(0.1, momentum=0.9, **k),
    "nesterov": lambda **k: gn.SGD(0.1, momentum=0.9, nesterov=True, **k),
    "Adam": lambda **k: gn.Adam(0.1, **k),
    "AdamW": lambda **k: gn.AdamW(0.1, **{"weight_decay": 0.0} | k),
    "RMSprop": lambda **k: gn.RMSprop(0.1, **k),
    "Adagrad": lambda **k: gn.Adagrad(0.1, **k),
}


def two_steps(optimiser, backend, gradient=1.0):
    net = gn.Linear(2, 1, init=gn.init.Constant(2.0), bias_init=gn.init.Constant(2.0))
    net.init(device=backend.device, dtype="float64")
    state = optimiser.start(net.store)
    for t in range(2):
        for param in net.params().values():
            param.add_grad(param.value * 0 + gradient)
        optimiser.update(net.store, state, t)
    return net, state


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_goes_against_the_gradient(backend, name):
    net, state = two_steps(OPTIMISERS[name](), backend)
    assert all((array < 2).all() for array in net.state_dict().values())
    assert set(state) == set(OPTIMISERS[name]().keeps)
    for array in state.values():
        assert_close(array, backend.device.to_host(array), like=net.store.values)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_weight_decay_spares_biases(backend, name):
    decayed, _ = two_steps(OPTIMISERS[name](weight_decay=0.5), backend, gradient=0.0)
    assert (decayed.state_dict()["W"] < 2).all()
    assert (decayed.state_dict()["b"] == 2).all()


def test_weight_decay_is_the_gradient_of_half_lambda_w_squared(backend):
    net, _ = two_steps(gn.SGD(0.1, weight_decay=0.5), backend)
    w = 2.0
    for _ in range(2):
        w -= 0.1 * (1 + 0.5 * w)
    assert net.state_dict()["W"][0, 0] == pytest.approx(w, rel=1e-15)


def test_adamw_decays_apart_from_the_step(backend):
    net, _ = two_steps(gn.AdamW(0.1, weight_decay=0.5), backend)
    w = 2.0
    for _ in range(2):  # a constant gradient makes every step of Adam eta long
        w = (1 - 0.1 * 0.5) * w - 0.1
    assert net.state_dict()["W"][0, 0] == pytest.approx(w, rel=1e-7)


def test_adamw_is_pytorchs():
    torch = pytest.importorskip("torch")
    w = torch.full((2, 1), 2.0, dtype=torch.float64, requires_grad=True)
    theirs = torch.optim.AdamW([w], lr=0.1, weight_decay=0.5)
    for _ in range(2):
        w.grad = torch.ones_like(w)
        theirs.step()
    net, _ = two_steps(gn.AdamW(0.1, weight_decay=0.5), next(b for b in gn.testing.backends() if b.name == "numpy"))
    np.testing.assert_allclose(net.state_dict()["W"], w.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gn.SGD(-0.1), "learning rate must be at least 0, got -0.1"),
        (lambda: gn.SGD(0.1, momentum=1.0), "momentum must be at least 0 and below 1, got 1.0"),
        (lambda: gn.SGD(0.1, nesterov=True), "nesterov=True needs a momentum above 0"),
        (lambda: gn.Adam(beta1=-0.1), "beta1 must be at least 0 and below 1"),
        (lambda: gn.Adam(beta2=1.0), "beta2 must be at least 0 and below 1"),
        (lambda: gn.Adam(epsilon=0.0), "epsilon must be above 0, got 0.0"),
        (lambda: gn.AdamW(weight_decay=-1.0), "weight_decay must be at least 0, got -1.0"),
        (lambda: gn.RMSprop(rho=2.0), "rho must be"),
        (lambda: gn.Adagrad(epsilon=float("nan")), "epsilon must be"),
    ],
)
def test_constants_out_of_range_are_named(make, message):
    with pytest.raises(gn.OptionError, match=message):
        make()


def test_an_optimiser_shows_its_constants():
    assert repr(gn.SGD(0.5, momentum=0.9)) == (
        "SGD(lr=Constant(eta0=0.5), weight_decay=0.0, momentum=0.9, nesterov=False)"
    )


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (gn.Adam, "Adam(lr=Constant(eta0=0.001), weight_decay=0.0, beta1=0.9, beta2=0.999, epsilon=1e-08)"),
        (gn.AdamW, "AdamW(lr=Constant(eta0=0.001), weight_decay=0.01, beta1=0.9, beta2=0.999, epsilon=1e-08)"),
        (gn.RMSprop, "RMSprop(lr=Constant(eta0=0.001), weight_decay=0.0, rho=0.9, epsilon=1e-08)"),
        (gn.Adagrad, "Adagrad(lr=Constant(eta0=0.01), weight_decay=0.0, epsilon=1e-10)"),
    ],
)
def test_the_usual_constants_are_the_published_ones(make, shown):
    assert repr(make()) == shown
