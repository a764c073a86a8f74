import numpy as np
import pytest

from gpunn import ops
from gpunn.testing import assert_close, slope

rng = np.random.default_rng(4)
Z = 2 * rng.standard_normal((6, 4))
SHARES = rng.dirichlet(np.ones(4), 6)
NUMBERS = rng.standard_normal((6, 4))
COUNTS = rng.poisson(2.0, (6, 4)).astype(float)
EXTREME = np.array([[1e4, -1e4, 0, 3], [-1e4, -1e4, -1e4, -1e4], [1e4, 1e4, 9999, 0], [5, -5, 50, -50]])
ONE_HOT = np.eye(4)[[1, 2, 0, 3]]


def long(a):
    return np.asarray(a, dtype=np.longdouble)


def softplus(z):  # log(1 + e^z), exact for every z
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def sigmoid(z):
    return np.exp(-softplus(-z))


def log_softmax(z):
    return np.array([[row[c] - m - np.log(sum(np.exp(row - m))) for c in range(4)] for row in z for m in [row.max()]])


def one_minus_p(z):
    p = np.exp(log_softmax(z))
    others = [[sum(np.delete(row, c)) for c in range(4)] for row in p]  # 1 - p_c would cancel where p_c is near 1
    return np.array(others)


SIGNS = np.where(NUMBERS > 0, 1.0, -1.0)

LOSSES = {  # name: (constants, formula in long double, targets)
    "softmax_cross_entropy": ({}, lambda z, y: -(y * log_softmax(z)).sum() / len(z), SHARES),
    "sigmoid_cross_entropy": ({}, lambda z, y: (y * softplus(-z) + (1 - y) * softplus(z)).sum() / len(z), SHARES),
    "quadratic": ({}, lambda z, y: ((y - sigmoid(z)) ** 2).sum() / 2 / len(z), SHARES),
    "mean_squared_error": ({}, lambda z, y: ((z - y) ** 2).mean(), NUMBERS),
    "mean_absolute_error": ({}, lambda z, y: np.abs(z - y).mean(), NUMBERS),
    "huber": (
        {"delta": 0.7},
        lambda z, y: np.where(np.abs(z - y) <= 0.7, (z - y) ** 2 / 2, 0.7 * (np.abs(z - y) - 0.35)).mean(),
        NUMBERS,
    ),
    "kl_divergence": (
        {},
        lambda z, y: (y * (np.log(np.where(y > 0, y, 1)) - log_softmax(z))).sum() / len(z),
        np.vstack([np.eye(4)[:1], SHARES[1:]]),  # 0 log 0 is 0
    ),
    "focal": ({"gamma": 2.0}, lambda z, y: -(y * one_minus_p(z) ** 2 * log_softmax(z)).sum() / len(z), SHARES),
    "hinge": ({"squared": False}, lambda z, t: np.maximum(1 - t * z, 0).sum() / len(z), SIGNS),
    "squared hinge": ({"squared": True}, lambda z, t: (np.maximum(1 - t * z, 0) ** 2).sum() / len(z), SIGNS),
    "poisson": ({}, lambda z, y: (np.exp(np.minimum(z, 87)) - y * z).mean(), COUNTS),
}


@pytest.fixture(params=LOSSES)
def name(request):
    return request.param


def op(name, suffix=""):
    return getattr(ops, name.removeprefix("squared ") + suffix)


def gradient(name, saved, y):
    constants = LOSSES[name][0]
    targets = () if name.startswith("mean") or name == "huber" else (y,)
    return op(name, "_backward")(saved, *targets, **constants)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize("where", ["moderate", "extreme"])
def test_the_loss_is_the_plain_formula_even_for_extreme_logits(backend, name, dtype, rtol, where):
    constants, formula, targets = LOSSES[name]
    z, y = (Z, targets) if where == "moderate" else (EXTREME, ONE_HOT)
    zb, yb = backend.asarray(z, dtype), backend.asarray(y, dtype)
    loss, saved = op(name)(zb, yb, **constants)
    exact = float(formula(long(backend.device.to_host(zb)), long(backend.device.to_host(yb))))
    assert loss.shape == ()
    assert loss.dtype == zb.dtype
    assert float(loss) == pytest.approx(exact, rel=10 * rtol)
    dz = gradient(name, saved, yb)
    assert np.isfinite(backend.device.to_host(dz)).all()
    assert_close(zb, z.astype(dtype), like=zb)
    assert_close(yb, y.astype(dtype), like=zb)


def test_the_gradient_is_the_slope(backend, name):
    constants, _, targets = LOSSES[name]
    y, u = backend.asarray(targets), np.random.default_rng(5).standard_normal(Z.shape)
    saved = op(name)(backend.asarray(Z), y, **constants)[1]
    dz = backend.device.to_host(gradient(name, saved, y))
    numeric = slope(lambda t: float(op(name)(backend.asarray(Z + t * u), y, **constants)[0]))
    assert numeric == pytest.approx(float(np.sum(dz * u)), rel=1e-7)


def test_float32_gradients_are_those_of_float64(backend, name):
    constants, _, targets = LOSSES[name]
    both = []
    for dtype in ("float64", "float32"):
        y = backend.asarray(targets, dtype)
        both.append(gradient(name, op(name)(backend.asarray(Z, dtype), y, **constants)[1], y))
    assert_close(both[1], backend.device.to_host(both[0]), like=both[1], rtol=1e-5, atol=1e-7)


def test_gradients_at_extreme_logits(backend):
    z, y = backend.asarray(EXTREME, "float32"), backend.asarray(ONE_HOT, "float32")
    p = ops.softmax_cross_entropy(z, y)[1]
    expected = np.exp(log_softmax(long(EXTREME))).astype(float)
    assert_close(ops.softmax_cross_entropy_backward(p, y), (expected - ONE_HOT) / 4, like=z, rtol=1e-6, atol=1e-7)
    a = ops.sigmoid_cross_entropy(z, y)[1]
    expected = sigmoid(long(EXTREME)).astype(float)
    assert_close(ops.sigmoid_cross_entropy_backward(a, y), (expected - ONE_HOT) / 4, like=z, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_one_hot(backend, dtype):
    labels, like = backend.asarray([2, 0, 1, 1], dtype), backend.asarray(np.zeros((4, 3)), "float32")
    assert_close(ops.one_hot(labels, like), np.eye(3)[[2, 0, 1, 1]], like=like)


def test_labels_in_bytes_for_more_classes_than_bytes_can_number(backend):
    labels, like = backend.asarray(np.array([3, 255], "uint8")), backend.asarray(np.zeros((2, 300)))
    assert_close(ops.one_hot(labels, like), np.eye(300)[[3, 255]], like=like)


def test_losses_agree_with_pytorch(name):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    theirs = {
        "softmax_cross_entropy": functional.cross_entropy,
        "sigmoid_cross_entropy": lambda z, y: 4 * functional.binary_cross_entropy_with_logits(z, y),
        "quadratic": lambda z, y: 2 * functional.mse_loss(torch.sigmoid(z), y),
        "mean_squared_error": functional.mse_loss,
        "mean_absolute_error": functional.l1_loss,
        "huber": lambda z, y: functional.huber_loss(z, y, delta=0.7),
        "kl_divergence": lambda z, y: functional.kl_div(functional.log_softmax(z, 1), y, reduction="batchmean"),
        "focal": lambda z, y: -(y * (1 - functional.softmax(z, 1)) ** 2 * functional.log_softmax(z, 1)).sum() / 6,
        "hinge": lambda z, t: 4 * functional.relu(1 - t * z).mean(),
        "squared hinge": lambda z, t: 4 * functional.relu(1 - t * z).square().mean(),
        "poisson": lambda z, y: functional.poisson_nll_loss(z, y, log_input=True, full=False),
    }[name]
    constants, _, targets = LOSSES[name]
    z = torch.tensor(Z, requires_grad=True)
    expected = theirs(z, torch.tensor(targets))
    expected.backward()
    loss, saved = op(name)(Z, targets, **constants)
    assert float(loss) == pytest.approx(expected.item(), rel=1e-13)
    np.testing.assert_allclose(gradient(name, saved, targets), z.grad.numpy(), rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_gradients_for_any_gamma(backend, gamma):
    y, u = backend.asarray(SHARES), np.random.default_rng(5).standard_normal(Z.shape)
    log_p = ops.focal(backend.asarray(Z), y, gamma=gamma)[1]
    dz = backend.device.to_host(ops.focal_backward(log_p, y, gamma=gamma))
    numeric = slope(lambda t: float(ops.focal(backend.asarray(Z + t * u), y, gamma=gamma)[0]))
    assert numeric == pytest.approx(float(np.sum(dz * u)), rel=1e-7)
    if gamma == 0:
        p = ops.softmax_cross_entropy(backend.asarray(Z), y)[1]
        assert_close(ops.softmax_cross_entropy_backward(p, y), dz, like=p, rtol=1e-12)
    for dtype in ("float32", "float64"):  # p of 1 and of 0
        z, one = backend.asarray(EXTREME, dtype), backend.asarray(ONE_HOT, dtype)
        loss, log_p = ops.focal(z, one, gamma=gamma)
        assert np.isfinite(float(loss))
        assert np.isfinite(backend.device.to_host(ops.focal_backward(log_p, one, gamma=gamma))).all()


def test_a_network_that_gives_the_targets_has_no_divergence(backend):
    z = backend.asarray(np.log(SHARES) + 5.0)
    loss, p = ops.kl_divergence(z, backend.asarray(SHARES))
    assert float(loss) == pytest.approx(0.0, abs=1e-15)
    assert_close(ops.kl_divergence_backward(p, backend.asarray(SHARES)), np.zeros((6, 4)), like=z, atol=1e-15)


def test_targets_on_the_safe_side_of_the_hinge_lose_nothing(backend):
    z, t = backend.asarray([[1.0, -1.0], [0.5, 3.0]]), backend.asarray([[1.0, -1.0], [1.0, -1.0]])
    for squared, expected, slopes in ((False, (0.5 + 4) / 2, [-0.5, 0.5]), (True, (0.25 + 16) / 2, [-0.5, 4.0])):
        loss, h = ops.hinge(z, t, squared=squared)
        assert float(loss) == expected
        assert_close(ops.hinge_backward(h, t, squared=squared), [[0.0, 0.0], slopes], like=z)


def test_a_rate_out_of_range_leaves_the_poisson_loss_finite_and_going_down(backend):
    z = backend.asarray(np.full((50, 40), 1e4), "float32")
    loss, rate = ops.poisson(z, z * 0 + 3)
    assert float(loss) == pytest.approx(np.exp(87.0), rel=1e-5)
    assert (backend.device.to_host(ops.poisson_backward(rate, z * 0 + 3)) > 0).all()
