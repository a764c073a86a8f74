import numpy as np
import pytest

import gpunn as gn
from gpunn.testing import assert_close

rng = np.random.default_rng(14)
IMAGES, ROWS = 1.0 + 3.0 * rng.standard_normal((6, 5, 4, 8)), 1.0 + 3.0 * rng.standard_normal((7, 8))
GAMMA, BETA = rng.standard_normal(8), rng.standard_normal(8)


def with_weights(layer, backend):
    layer.init(device=backend.device, dtype="float64")
    for param, values in zip(layer.params().values(), (GAMMA, BETA), strict=False):
        param.value[...] = backend.asarray(values)
    return layer


def pytorchs(module, x):
    """What PyTorch makes of x, its gradients for a random dy, and dy."""
    torch = pytest.importorskip("torch")
    module = module(torch.nn).double().train()
    for param, values in zip(module.parameters(), (GAMMA, BETA), strict=False):
        param.data = torch.tensor(values)
    images = x.ndim == 4 and not isinstance(module, (torch.nn.LayerNorm, torch.nn.RMSNorm))
    theirs = torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)) if images else x, requires_grad=True)
    back = (lambda a: np.moveaxis(a.detach().numpy(), 1, -1)) if images else (lambda a: a.detach().numpy())
    y = module(theirs)
    dy = np.random.default_rng(1).standard_normal(x.shape)
    y.backward(torch.tensor(np.ascontiguousarray(np.moveaxis(dy, -1, 1)) if images else dy))
    return module, back(y), dy, back(theirs.grad), [p.grad.numpy() for p in module.parameters()]


@pytest.mark.parametrize(
    ("layer", "module", "x"),
    [
        (lambda: gn.BatchNorm(8), lambda nn: nn.BatchNorm1d(8), ROWS),
        (lambda: gn.BatchNorm(8, momentum=0.3, epsilon=1e-3), lambda nn: nn.BatchNorm2d(8, 1e-3, 0.3), IMAGES),
        (lambda: gn.LayerNorm(8), lambda nn: nn.LayerNorm(8), ROWS),
        (lambda: gn.LayerNorm(8), lambda nn: nn.LayerNorm(8), IMAGES),
        (lambda: gn.RMSNorm(8), lambda nn: nn.RMSNorm(8, eps=1e-5), ROWS),
        (lambda: gn.GroupNorm(2, 8), lambda nn: nn.GroupNorm(2, 8), IMAGES),
        (lambda: gn.GroupNorm(4, 8), lambda nn: nn.GroupNorm(4, 8), ROWS),
        (lambda: gn.GroupNorm(8, 8), lambda nn: nn.GroupNorm(8, 8), IMAGES),
    ],
)
def test_values_and_gradients_are_those_of_pytorch(backend, layer, module, x):
    theirs, y, dy, dx, gradients = pytorchs(module, x)
    ours, like = with_weights(layer(), backend), backend.asarray(x)
    got, cache = ours.forward(like, train=True)
    assert_close(got, y, like=like, rtol=1e-10, atol=1e-10)
    assert_close(ours.backward(backend.asarray(dy), cache), dx, like=like, rtol=1e-9, atol=1e-10)
    for param, expected in zip(ours.params().values(), gradients, strict=True):
        assert_close(param.grad, expected, like=like, rtol=1e-9, atol=1e-10)
    if isinstance(ours, gn.BatchNorm):
        assert_close(ours.mean.value, theirs.running_mean.numpy(), like=like, rtol=1e-10)
        assert_close(ours.variance.value, theirs.running_var.numpy(), like=like, rtol=1e-10)
        expected = theirs.eval()(theirs_input(x)).detach().numpy()
        assert_close(
            ours(like), np.moveaxis(expected, 1, -1) if x.ndim == 4 else expected, like=like, rtol=1e-10, atol=1e-10
        )


def theirs_input(x):
    import torch

    return torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x)


def test_running_statistics_come_to_those_of_the_data(backend):
    layer = gn.BatchNorm(8, momentum=0.5).init(device=backend.device, dtype="float64")
    x = backend.asarray(ROWS)
    for _ in range(60):
        layer.forward(x, train=True)
    assert_close(layer.mean.value, ROWS.mean(axis=0), like=x, rtol=1e-12)
    assert_close(layer.variance.value, ROWS.var(axis=0, ddof=1), like=x, rtol=1e-12)
    before = gn.to_host(layer.mean.value).copy()
    layer.forward(10 * x)
    layer(10 * x)
    assert np.array_equal(gn.to_host(layer.mean.value), before)


def test_running_statistics_are_saved_and_not_learned(tmp_path):
    net = gn.Sequential(gn.Linear(8, 8), gn.BatchNorm(8), gn.ReLU(), gn.Linear(8, 2))
    t = gn.Trainer(net, device="cpu")
    t.fit((ROWS.astype("float32"), np.array([0, 1] * 3 + [0])), epochs=2, batch_size=3, drop_last=True)
    assert sorted(net.buffers()) == ["batchnorm1.mean", "batchnorm1.variance"]
    assert net.buffers()["batchnorm1.mean"].value.any()
    gn.save(tmp_path / "net.safetensors", net)
    x = ROWS.astype("float32")
    assert np.array_equal(gn.load(tmp_path / "net.safetensors")(x), net(x))
    assert {name for name, p in net.params().items() if p.decay} == {"linear1.W", "linear2.W"}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: gn.BatchNorm(0), gn.OptionError, "BatchNorm: n must be a whole number, 1 or more, got 0"),
        (
            lambda: gn.BatchNorm(4, momentum=0.0),
            gn.OptionError,
            "BatchNorm: momentum must be above 0 and at most 1|got 0.0",
        ),
        (lambda: gn.LayerNorm(4, epsilon=0.0), gn.OptionError, "LayerNorm: epsilon must be above 0, got 0.0"),
        (lambda: gn.GroupNorm(3, 8), gn.OptionError, "8 channels cannot be divided into 3 groups of one size"),
        (lambda: gn.GroupNorm(0, 8), gn.OptionError, "GroupNorm: groups must be a whole number, 1 or more, got 0"),
        (lambda: gn.Sequential(gn.Linear(3, 4), gn.RMSNorm(5)), gn.ShapeError, r"RMSNorm of 5 channels .* \(4,\)"),
        (lambda: gn.LayerNorm(5).init(dtype="float64")(ROWS), gn.ShapeError, r"of shape \(N, 5\), got \(7, 8\)"),
    ],
)
def test_what_does_not_fit_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_one_number_has_no_variance():
    layer = gn.BatchNorm(8).init(dtype="float64")
    with pytest.raises(
        gn.DataError, match=r"of shape \(1, 8\) has 1 number a channel, expected 2 or more: use a larger"
    ):
        layer.forward(ROWS[:1], train=True)
    assert layer(ROWS[:1]).shape == (1, 8)
    assert np.isfinite(layer.forward(IMAGES[:1], train=True)[0]).all()
    net = gn.Sequential(gn.BatchNorm(8), gn.Linear(8, 2))
    with pytest.raises(gn.DataError, match="drop_last=True if only the last is so small"):
        gn.Trainer(net, device="cpu").fit((ROWS, np.zeros(7, dtype=int)), batch_size=3)
