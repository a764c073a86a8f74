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
    "NAdam": lambda **k: gn.NAdam(0.1, **k),
    "Adamax": lambda **k: gn.Adamax(0.1, **k),
    "Adadelta": lambda **k: gn.Adadelta(**k),
    "Lion": lambda **k: gn.Lion(0.1, **k),
    "Muon": lambda **k: gn.Muon(0.1, **k),
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


@pytest.mark.parametrize(("kind", "rel"), [(gn.AdamW, 1e-7), (gn.Lion, 1e-15)])
def test_weight_decay_may_be_apart_from_the_step(backend, kind, rel):
    net, _ = two_steps(kind(0.1, weight_decay=0.5), backend)
    w = 2.0
    for _ in range(2):  # a constant gradient makes every step of theirs eta long
        w = (1 - 0.1 * 0.5) * w - 0.1
    assert net.state_dict()["W"][0, 0] == pytest.approx(w, rel=rel)


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
        (lambda: gn.SGD("0.1"), "learning rate must be a number, at least 0, got '0.1'"),
        (lambda: gn.SGD(0.1, momentum=1.0), "momentum must be at least 0 and below 1, got 1.0"),
        (lambda: gn.SGD(0.1, nesterov=True), "nesterov=True needs a momentum above 0"),
        (lambda: gn.Adam(beta1=-0.1), "beta1 must be at least 0 and below 1"),
        (lambda: gn.Adam(beta2=1.0), "beta2 must be at least 0 and below 1"),
        (lambda: gn.Adam(epsilon=0.0), "epsilon must be above 0, got 0.0"),
        (lambda: gn.AdamW(weight_decay=-1.0), "weight_decay must be at least 0, got -1.0"),
        (lambda: gn.RMSprop(rho=2.0), "rho must be"),
        (lambda: gn.Adagrad(epsilon=float("nan")), "epsilon must be"),
        (lambda: gn.Adadelta(rho=1.0), "rho must be at least 0 and below 1, got 1.0"),
        (lambda: gn.Adadelta(epsilon=0.0), "epsilon must be above 0, got 0.0"),
        (lambda: gn.NAdam(beta1=1.0), "beta1 must be at least 0 and below 1, got 1.0"),
        (lambda: gn.Adamax(epsilon=-1.0), "epsilon must be above 0, got -1.0"),
        (lambda: gn.Lion(beta1=1.0), "beta1 must be at least 0 and below 1, got 1.0"),
        (lambda: gn.Lion(beta2=-0.5), "beta2 must be at least 0 and below 1, got -0.5"),
        (lambda: gn.Muon(momentum=1.0), "momentum must be at least 0 and below 1, got 1.0"),
        (lambda: gn.Muon(beta1=1.0), "beta1 must be"),
        (lambda: gn.Muon(beta2=1.0), "beta2 must be"),
        (lambda: gn.Muon(epsilon=0.0), "epsilon must be above 0, got 0.0"),
        (lambda: gn.SGD(0.1, groups={"a": {"lr": 0.1}}), "'a' has 'lr', expected lr_factor or weight_decay"),
        (lambda: gn.SGD(0.1, groups={"a": {"lr_factor": -1.0}}), "lr_factor of 'a' must be at least 0, got -1.0"),
        (lambda: gn.SGD(0.1, groups={"a": 0.1}), "the group 'a' must be an instance of Mapping, got 0.1"),
        (lambda: gn.SGD(0.1, groups=["a"]), "groups must be an instance of Mapping"),
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
        (gn.NAdam, "NAdam(lr=Constant(eta0=0.002), weight_decay=0.0, beta1=0.9, beta2=0.999, epsilon=1e-08)"),
        (gn.Adamax, "Adamax(lr=Constant(eta0=0.002), weight_decay=0.0, beta1=0.9, beta2=0.999, epsilon=1e-08)"),
        (gn.Adadelta, "Adadelta(lr=Constant(eta0=1.0), weight_decay=0.0, rho=0.95, epsilon=1e-06)"),
        (gn.Lion, "Lion(lr=Constant(eta0=0.0001), weight_decay=0.0, beta1=0.9, beta2=0.99)"),
    ],
)
def test_the_usual_constants_are_the_published_ones(make, shown):
    assert repr(make()) == shown


# --- momentum that changes


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_may_follow_a_schedule(backend, nesterov):
    schedule = gn.schedules.Polynomial(0.5, 2, end=0.9)
    assert (schedule(0), schedule(1)) == (0.5, 0.7)
    net, state = two_steps(gn.SGD(0.1, momentum=schedule, nesterov=nesterov), backend)
    w, v = 2.0, 0.0
    for mu in (0.5, 0.7):
        v = mu * v + 1
        w -= 0.1 * (1 + mu * v if nesterov else v)
    assert net.state_dict()["W"][0, 0] == pytest.approx(w, rel=1e-15)
    assert set(state) == {"v"}


def test_a_momentum_of_1_is_noticed_in_its_step(backend):
    with pytest.raises(gn.OptionError, match="momentum in step 2 must be at least 0 and below 1, got 1"):
        two_steps(gn.SGD(0.1, momentum=lambda t: 0.5 * (t + 1)), backend)


# --- groups

SIZES = [3, 5, 4, 2]


def trained(optimiser, backend, steps=3):
    """The parameters of a small network, by name, after a few steps along random gradients, and before."""
    net = gn.mlp(SIZES, bias_init="normal").init(device=backend.device, dtype="float64")
    before = net.state_dict()
    state, rng = optimiser.start(net.store), np.random.default_rng(2)
    for t in range(steps):
        for param in net.params().values():
            param.add_grad(backend.asarray(rng.standard_normal(param.shape)))
        optimiser.update(net.store, state, t)
    return net.state_dict(), before


GROUPS = {"linear1": {"lr_factor": 0.5}, "linear3.W": {"weight_decay": 0.3}, "linear3": {"lr_factor": 0.0}}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_group_is_trained_as_by_an_optimiser_of_its_own(backend, name):
    grouped, before = trained(OPTIMISERS[name](weight_decay=0.1, groups=GROUPS), backend)
    whole, _ = trained(OPTIMISERS[name](weight_decay=0.1), backend)
    decayed, _ = trained(OPTIMISERS[name](weight_decay=0.3), backend)
    slow = OPTIMISERS[name](weight_decay=0.1)
    slow.lr = gn.schedules.Constant(slow.lr.eta0 / 2)
    slow, _ = trained(slow, backend)
    expected = {
        "linear1.W": slow,
        "linear1.b": slow,
        "linear2.W": whole,
        "linear2.b": whole,
        "linear3.W": decayed,  # of two groups the longer name
        "linear3.b": before,
    }
    for param, source in expected.items():
        np.testing.assert_array_equal(grouped[param], source[param], err_msg=param)
    assert not np.array_equal(slow["linear1.W"], whole["linear1.W"])
    assert not np.array_equal(decayed["linear3.W"], whole["linear3.W"])


def test_a_group_of_no_parameter_is_named():
    for name in ("linear4", "lin", "linear1.w"):
        optimiser = gn.Adam(groups={name: {"lr_factor": 0.5}})
        with pytest.raises(
            gn.OptionError, match=f"no parameter is of '{name}'; there are linear1.W, linear1.b, linear2"
        ):
            gn.Trainer(gn.mlp(SIZES), optimizer=optimiser, device="cpu")


def test_groups_are_shown():
    shown = repr(gn.SGD(0.1, groups={"linear1": {"lr_factor": 0.5}}))
    assert "weight_decay=0.0, groups={'linear1': {'lr_factor': 0.5}}, momentum=0.0" in shown


# --- Muon


def orthogonal(G):
    """The five steps by the singular values, in which each goes its own way."""
    U, S, Vt = np.linalg.svd(G, full_matrices=False)
    s = S / (np.sqrt((S**2).sum()) + 1e-7)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (U * s) @ Vt


def test_muon_orthogonalises_the_momentum_of_weights_and_gives_the_rest_to_adam(backend):
    kernel = (2, 3, 2, 4)
    net = gn.Sequential(gn.Conv2d(2, 4, (2, 3)), gn.BatchNorm(4), gn.Flatten(), gn.Linear(8, 3))
    net.init(device=backend.device, dtype="float64")
    w, optimiser = net.state_dict(), gn.Muon(0.1, momentum=0.8, weight_decay=0.5)
    assert w["conv2d1.W"].shape == kernel
    state, rng, v = optimiser.start(net.store), np.random.default_rng(2), {}
    gradients = [{n: rng.standard_normal(p.shape) for n, p in net.params().items()} for _ in range(3)]
    for t, g in enumerate(gradients):
        for name, param in net.params().items():
            param.add_grad(backend.asarray(g[name]))
        optimiser.update(net.store, state, t)
        for name in ("conv2d1.W", "linear1.W"):
            v[name] = 0.8 * v.get(name, 0.0) + g[name]
            G = (g[name] + 0.8 * v[name]).reshape(-1, w[name].shape[-1])
            step = 0.1 * 0.2 * np.sqrt(max(G.shape)) * orthogonal(G)
            w[name] = (1 - 0.1 * 0.5) * w[name] - step.reshape(w[name].shape)
    for name in ("conv2d1.W", "linear1.W"):
        np.testing.assert_allclose(net.state_dict()[name], w[name], rtol=1e-7, atol=1e-9)
    rest = ["conv2d1.b", "batchnorm1.gamma", "batchnorm1.beta", "linear1.b"]
    flat, moments = np.concatenate([w[name] for name in rest]), np.zeros((2, 4 + 4 + 4 + 3))
    for t, g in enumerate(gradients, start=1):
        g = np.concatenate([g[name] for name in rest])
        gn.ops.adam(flat, g, *moments, eta=0.1, beta1=0.9, beta2=0.95, epsilon=1e-8, t=t)
    np.testing.assert_allclose(np.concatenate([net.state_dict()[name] for name in rest]), flat, rtol=1e-12)


def test_muon_is_pytorchs_as_far_as_its_bfloat16_goes():
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    net = gn.Linear(6, 4, bias=False).init(seed=1)
    w = torch.tensor(net.state_dict()["W"].T.copy(), requires_grad=True)
    theirs = torch.optim.Muon([w], lr=0.1, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    optimiser, rng = gn.Muon(0.1, momentum=0.9, weight_decay=0.1), np.random.default_rng(3)
    state = optimiser.start(net.store)
    for t in range(4):
        g = rng.standard_normal((6, 4)).astype("float32")
        net.W.add_grad(g)
        optimiser.update(net.store, state, t)
        w.grad = torch.tensor(g.T.copy())
        theirs.step()
    np.testing.assert_allclose(net.state_dict()["W"], w.detach().numpy().T, atol=0.01)


def test_muon_learns_the_digits():
    train, test = gn.datasets.digits()
    trainer = gn.Trainer(gn.mlp([64, 64, 10]), optimizer=gn.Muon(0.02), device="cpu")
    trainer.fit(train, epochs=10, batch_size=64)
    assert trainer.evaluate(test)["accuracy"] > 0.95
