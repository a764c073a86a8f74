import math

import numpy as np
import pytest

from gpunn import ops
from gpunn.testing import assert_close

GRADIENTS = np.random.default_rng(6).standard_normal((4, 3))  # four steps, three parameters
START = np.array([0.5, -1.0, 2.0])

# name: (constants, how many arrays it keeps, one parameter's course by the published rule)


def sgd(w, g, kept, t, eta):
    return w - eta * g, kept


def momentum(w, g, kept, t, eta, mu):
    v = mu * kept[0] - eta * g  # Sutskever et al., equations 1 and 2: this v is -eta times ours
    return w + v, [v]


def nesterov(w, g, kept, t, eta, mu):
    v = mu * kept[0] - eta * g
    return w + mu * v - eta * g, [v]


def adam(w, g, kept, t, eta, beta1, beta2, epsilon):
    m, v = beta1 * kept[0] + (1 - beta1) * g, beta2 * kept[1] + (1 - beta2) * g**2
    return w - eta * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + epsilon), [m, v]


def rmsprop(w, g, kept, t, eta, rho, epsilon):
    v = rho * kept[0] + (1 - rho) * g**2
    return w - eta * g / (math.sqrt(v) + epsilon), [v]


def adagrad(w, g, kept, t, eta, epsilon):
    v = kept[0] + g**2
    return w - eta * g / (math.sqrt(v) + epsilon), [v]


def nadam(w, g, kept, t, eta, beta1, beta2, epsilon):
    mu = [beta1 * (1 - 0.96 ** (0.004 * i) / 2) for i in range(1, t + 2)]
    m, v = beta1 * kept[0] + (1 - beta1) * g, beta2 * kept[1] + (1 - beta2) * g**2
    bar = (1 - mu[-2]) * g / (1 - math.prod(mu[:-1])) + mu[-1] * m / (1 - math.prod(mu))
    return w - eta * bar / (math.sqrt(v / (1 - beta2**t)) + epsilon), [m, v]


def adamax(w, g, kept, t, eta, beta1, beta2, epsilon):
    m, u = beta1 * kept[0] + (1 - beta1) * g, max(beta2 * kept[1], abs(g))
    return w - eta / (1 - beta1**t) * m / (u + epsilon), [m, u]


def adadelta(w, g, kept, t, eta, rho, epsilon):
    v = rho * kept[0] + (1 - rho) * g**2
    step = math.sqrt(kept[1] + epsilon) / math.sqrt(v + epsilon) * g
    return w - eta * step, [v, rho * kept[1] + (1 - rho) * step**2]


def lion(w, g, kept, t, eta, beta1, beta2):
    return w - eta * math.copysign(1, beta1 * kept[0] + (1 - beta1) * g), [beta2 * kept[0] + (1 - beta2) * g]


TIMED = ("adam", "nadam", "adamax")  # which take the number of the step
RULES = {
    "sgd": (sgd, 0, {"eta": 0.1}),
    "momentum": (momentum, 1, {"eta": 0.1, "mu": 0.9}),
    "nesterov": (nesterov, 1, {"eta": 0.1, "mu": 0.9}),
    "adam": (adam, 2, {"eta": 0.1, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}),
    "rmsprop": (rmsprop, 1, {"eta": 0.1, "rho": 0.9, "epsilon": 1e-3}),
    "adagrad": (adagrad, 1, {"eta": 0.1, "epsilon": 1e-3}),
    "nadam": (nadam, 2, {"eta": 0.1, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}),
    # PyTorch has this epsilon elsewhere, |g| + epsilon; so it is small
    "adamax": (adamax, 2, {"eta": 0.1, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-14}),
    "adadelta": (adadelta, 2, {"eta": 0.5, "rho": 0.9, "epsilon": 1e-3}),
    # with these a sign turns if either takes the place of the other
    "lion": (lion, 1, {"eta": 0.1, "beta1": 0.7, "beta2": 0.8}),
}


def course(name):
    """The parameters after four steps, each number on its own in plain Python."""
    rule, n_kept, constants = RULES[name]
    ends = []
    for i, w in enumerate(START):
        kept = [0.0] * n_kept
        for t, g in enumerate(GRADIENTS[:, i], start=1):
            w, kept = rule(w, g, kept, t, **constants)
        ends.append(w)
    return np.array(ends)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 1e-5)])
def test_four_steps_follow_the_published_rule(backend, name, dtype, rtol):
    _, n_kept, constants = RULES[name]
    device = backend.device
    w = device.xp.asarray(device.asarray(START, dtype), copy=True)
    kept = [device.zeros(3, dtype) for _ in range(n_kept)]
    for t, row in enumerate(GRADIENTS, start=1):
        g = backend.asarray(row, dtype)
        getattr(ops, name)(w, g, *kept, **constants, **({"t": t} if name in TIMED else {}))
        assert_close(g, row.astype(dtype), like=g)  # a gradient is only read
    assert_close(w, course(name), like=w, rtol=rtol)


@pytest.mark.parametrize("name", RULES)
def test_views_of_a_larger_array_are_changed_in_place(backend, name):
    _, n_kept, constants = RULES[name]
    flat = backend.device.zeros(8, "float64")
    kept = [backend.device.zeros(3, "float64") for _ in range(n_kept)]
    getattr(ops, name)(
        flat[2:5], backend.asarray(np.ones(3)), *kept, **constants, **({"t": 1} if name in TIMED else {})
    )
    host = backend.device.to_host(flat)
    assert (host[2:5] < 0).all()
    assert (np.delete(host, [2, 3, 4]) == 0).all()


@pytest.mark.parametrize("name", RULES)
def test_what_never_had_a_gradient_stays(backend, name):
    """As the unused zeros between two parameters do."""
    _, n_kept, constants = RULES[name]
    w = backend.device.zeros(3, "float32")
    kept = [backend.device.zeros(3, "float32") for _ in range(n_kept)]
    for t in (1, 2):
        g = backend.asarray(np.zeros(3), "float32")
        getattr(ops, name)(w, g, *kept, **constants, **({"t": t} if name in TIMED else {}))
    assert_close(w, np.zeros(3), like=w)


@pytest.mark.parametrize("beta1", [0.0, 0.9, 0.9999])
@pytest.mark.parametrize("t", [99, 100, 101, 5000])
def test_nadam_leaves_out_no_momentum_that_counts(beta1, t):
    """Of the product of all momenta it takes a hundred: its last step is that of the whole product."""
    w, m, v, g = np.zeros(1), np.full(1, 0.5), np.full(1, 0.25), np.ones(1)
    constants = {"eta": 0.1, "beta1": beta1, "beta2": 0.99, "epsilon": 1e-8}
    after, _ = nadam(0.0, 1.0, [0.5, 0.25], t, **constants)
    ops.nadam(w, g, m, v, **constants, t=t)
    np.testing.assert_allclose(w, [after], rtol=1e-14)


@pytest.mark.parametrize(("limit", "length"), [(2.5, 2.5), (5.0, 5.0), (100.0, 5.0)])
def test_a_gradient_is_shortened_to_the_limit_and_no_further(backend, limit, length):
    g = backend.device.xp.asarray(backend.device.asarray([3.0, 0.0, -4.0]), copy=True)
    norm = ops.clip_by_norm(g, limit=limit)
    assert float(norm) == pytest.approx(5.0)
    assert_close(g, np.array([3.0, 0.0, -4.0]) * length / 5, like=g)


def test_a_gradient_of_zero_stays_zero(backend):
    g = backend.device.zeros(3, "float32")
    ops.clip_by_norm(g, limit=1.0)
    assert_close(g, np.zeros(3), like=g)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sgd", lambda torch, p: torch.optim.SGD(p, lr=0.1)),
        ("momentum", lambda torch, p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        ("nesterov", lambda torch, p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)),
        ("adam", lambda torch, p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-3)),
        ("rmsprop", lambda torch, p: torch.optim.RMSprop(p, lr=0.1, alpha=0.9, eps=1e-3)),
        ("adagrad", lambda torch, p: torch.optim.Adagrad(p, lr=0.1, eps=1e-3)),
        ("nadam", lambda torch, p: torch.optim.NAdam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-3)),
        ("adamax", lambda torch, p: torch.optim.Adamax(p, lr=0.1, betas=(0.8, 0.95), eps=1e-14)),
        ("adadelta", lambda torch, p: torch.optim.Adadelta(p, lr=0.5, rho=0.9, eps=1e-3)),
    ],
)
def test_the_rules_are_pytorchs_too(name, make):
    torch = pytest.importorskip("torch")
    w = torch.tensor(START, requires_grad=True)
    optimizer = make(torch, [w])
    for row in GRADIENTS:
        w.grad = torch.tensor(row)
        optimizer.step()
    rtol = 1e-6 if name == "nadam" else 1e-12  # PyTorch keeps the product of NAdam's momenta in float32
    np.testing.assert_allclose(course(name), w.detach().numpy(), rtol=rtol)
