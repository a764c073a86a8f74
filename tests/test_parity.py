"""One seed, many array libraries, one run."""

import numpy as np
import pytest

import gpunn as gn


def run(device, dtype, epochs=1):
    train, test = gn.datasets.digits()
    net = gn.mlp([64, 32, 10], hidden="gelu")
    trainer = gn.Trainer(
        net, gn.SoftmaxCrossEntropy(), gn.Adam(3e-3), device=device, dtype=dtype, seed=5, clip_norm=1.0
    )
    losses = []

    class Curve(gn.Callback):
        def on_step(self, trainer):
            losses.append(trainer.losses.look()[0])

    trainer.fit(train, valid=test, epochs=epochs, batch_size=32, callbacks=[Curve()])
    return np.array([*losses, trainer.history[-1]["valid_loss"]])


@pytest.fixture(scope="module", params=["float32", "float64"])
def reference(request):
    return request.param, run("cpu", request.param)


def test_the_loss_curve_is_the_same_on_every_backend(backend, reference):
    dtype, curve = reference
    assert len(curve) == 46
    assert curve[-2] < 0.8 * curve[0]
    np.testing.assert_allclose(run(backend.device, dtype), curve, rtol=0, atol=1e-10 if dtype == "float64" else 1e-4)


def test_batches_are_the_same_on_every_backend(backend):
    x = np.arange(50.0)[:, None]
    for epoch in (0, 7):
        here = [
            gn.to_host(b).ravel().tolist()
            for b, _ in gn.Batches(backend.asarray(x), backend.asarray(x), 8, seed=3).epoch(epoch)
        ]
        there = [b.ravel().tolist() for b, _ in gn.Batches(x, x, 8, seed=3).epoch(epoch)]
        assert here == there
