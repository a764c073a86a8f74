"""Training in bfloat16 with weights in float32, on a stand-in for a GPU; see tests/kernels/cuda/fake_cupy.py."""

import copy
import math
import sys

import numpy as np
import pytest

import gpunn as gn
from gpunn.train import run
from gpunn.train.config import Config
from tests.train.callbacks import StopAfter
from tests.train.greedy import Greedy

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
rng = np.random.default_rng(3)
X = rng.standard_normal((44, 6)).astype("float32")
LABELS = np.argmax(X[:, :3] + 0.5 * X[:, 3:], axis=1)
IMAGES = rng.integers(0, 150, (44, 6, 6, 1)).astype("uint8")
for image, label in zip(IMAGES, LABELS, strict=True):
    image[2 * label : 2 * label + 2] += 100  # a bar, high, in the middle or low


def trainer(fake_gpu, net=None, optimizer=None, loss=None, dtype="bfloat16", graph="auto", **options):
    net = net or gn.Sequential(gn.Linear(6, 16), gn.Tanh(), gn.Dropout(0.3), gn.Linear(16, 3))
    return gn.Trainer(
        net, loss, optimizer or gn.Adam(0.02), device=fake_gpu.device, dtype=dtype, graph=graph, **options
    )


def cnn():
    return gn.Sequential(
        *(gn.Conv2d(1, 4, 3), gn.BatchNorm(4), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(16, 8)),
        *(gn.LayerNorm(8), gn.GELU(), gn.Residual(gn.Linear(8, 8), gn.SiLU()), gn.Linear(8, 3)),
    )


def far():
    """Features that differ in their fourth digit only, as times and years do."""
    return 1000.0 + X, gn.Sequential(gn.Standardize.of(1000.0 + X), gn.Linear(6, 16), gn.ReLU(), gn.Linear(16, 3))


CASES = {
    "mlp": lambda: (X, LABELS, gn.mlp([6, 16, 3]), None),
    "images in bytes": lambda: (IMAGES, LABELS, cnn(), None),
    "features far from 0": lambda: (far()[0], LABELS, far()[1], None),
    "numbers far from 0": lambda: (
        *(X, 1000.0 + X[:, :1] * X[:, 1:2]),
        gn.Sequential(gn.Linear(6, 16), gn.Tanh(), gn.Linear(16, 1), gn.Standardize([-1000.0], [1.0])),
        gn.MeanSquaredError(),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_losses_are_near_those_of_float32(fake_gpu, case):
    x, y, *_ = CASES[case]()
    losses, measured = [], []
    for dtype in ("float32", "bfloat16"):
        *_, net, loss = CASES[case]()
        t = trainer(fake_gpu, net, gn.Adam(0.01), loss, dtype)
        losses.append(t.fit((x, y), epochs=12, batch_size=8)["loss"])
        measured.append(t.evaluate((x, y))["loss"])
    assert losses[0][-1] < 0.7 * losses[0][0]  # something was learned
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05, atol=0.01)
    np.testing.assert_allclose(measured[1], measured[0], rtol=0.05, atol=0.01)
    assert losses[1] != losses[0]


def ends_alike(fake_gpu, make, fit=lambda t: t.fit((X, LABELS), epochs=4, batch_size=8)):
    """Fit with graphs and without: the same losses and arrays; returns the trainer that had graphs."""
    ends = []
    for how in (False, True):
        t = make(how)
        losses = fit(t)["loss"]
        ends.append((losses, [gn.to_host(a) for a in t._kept()]))
    assert ends[0][0] == ends[1][0]
    for a, b in zip(ends[0][1], ends[1][1], strict=True):
        assert a.dtype == b.dtype == np.float32
        assert np.array_equal(a, b)
    return t


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_with_graphs_are_those_without(fake_gpu, case):
    def fit(t):
        x, y, *_ = CASES[case]()
        return t.fit((x, y), epochs=6, batch_size=8)

    def make(how):
        *_, net, loss = CASES[case]()
        return trainer(fake_gpu, net, gn.AdamW(0.01, weight_decay=0.1), loss, graph=how, clip_norm=0.5)

    ends_alike(fake_gpu, make, fit)
    assert fake_gpu.state.replays > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", gn.testing.layer_cases())
def test_every_layer_is_trained(fake_gpu, name):
    make, shape = gn.testing.layer_cases()[name]
    out = int(np.prod(make().output_shape(shape[1:])))
    x = rng.standard_normal((24, *shape[1:])).astype("float32")

    def of(dtype, how="auto"):
        net = gn.Sequential(gn.Residual(make()) if name == "Identity" else make(), gn.Flatten(), gn.Linear(out, 3))
        return trainer(fake_gpu, net, gn.SGD(0.01), dtype=dtype, graph=how)

    def fit(t):
        return t.fit((x, LABELS[:24]), epochs=2, batch_size=8)

    t = ends_alike(fake_gpu, lambda how: of("bfloat16", how), fit)
    assert fake_gpu.state.replays > 2
    np.testing.assert_allclose(t.history["loss"], fit(of("float32"))["loss"], rtol=0.02, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", gn.testing.loss_cases())
def test_every_loss_is_of_float32(fake_gpu, name):
    loss, _, y = gn.testing.loss_cases()[name]
    x = rng.standard_normal((36, 6)).astype("float32")

    def fit(t):
        return t.fit((x, np.concatenate([y] * 6)), epochs=1, batch_size=6)

    t = ends_alike(fake_gpu, lambda how: trainer(fake_gpu, gn.mlp([6, 4]), gn.SGD(0.01), loss, graph=how), fit)
    exact = fit(trainer(fake_gpu, gn.mlp([6, 4]), gn.SGD(0.01), loss, "float32"))
    np.testing.assert_allclose(t.history["loss"], exact["loss"], rtol=0.02)
    assert t.step(x[:6], y).dtype == np.float32


def test_steps_that_are_small_against_the_weights_add_up(fake_gpu):
    """Of 8 binary digits: 1 + 1/512 is rounded to 1, so a weight of 1 would never move."""
    moved = {}
    for dtype in ("float32", "bfloat16"):
        net = gn.Sequential(gn.Linear(6, 3, init=gn.init.Constant(1.0)))
        t = trainer(fake_gpu, net, gn.SGD(1e-3), dtype=dtype)
        for _ in range(40):
            before = gn.to_host(net.store.values).copy()
            t.step(X, LABELS)
            step = np.abs(gn.to_host(net.store.values) - before).max()
            assert 0.0 < step < 2.0**-9
        moved[dtype] = gn.to_host(net.layers[0].W.value) - 1.0
    assert np.abs(moved["float32"]).max() > 2.0**-9
    np.testing.assert_allclose(moved["bfloat16"], moved["float32"], rtol=0.05, atol=1e-4)


class Sees(gn.Identity):
    """Keeps the types of what passes in both directions."""

    def __init__(self):
        self.seen = []

    def forward(self, x, *, train=False, key=None):
        self.seen.append(x.dtype)
        return x, None

    def backward(self, dy, cache, *, need_dx=True):
        self.seen.append(dy.dtype)
        return dy


def test_what_passes_is_of_16_bits_and_what_is_kept_of_32(fake_gpu):
    first, between, last = (Sees() for _ in range(3))
    net = gn.Sequential(first, gn.Linear(6, 5), gn.BatchNorm(5), between, gn.ReLU(), gn.Linear(5, 3), last)
    t = trainer(fake_gpu, net, gn.Adam(0.01), graph=False)
    types = []

    class Look(gn.Callback):
        def on_step(self, trainer):
            types.extend(a.dtype for a in [*(p.value for p in net.params().values()), *trainer._kept()])
            types.extend(p.grad.dtype for p in net.params().values())
            types.append(net.infer(fake_gpu.device.asarray(X)).dtype)
            for layer in (first, between, last):
                layer.seen.clear()

    t.fit((X, LABELS), epochs=1, batch_size=8, callbacks=Look())
    assert set(types) == {np.dtype("float32")}
    assert t.dtype == net.store.dtype == "float32"
    assert t.step(X, LABELS).dtype == np.float32
    for layer, count in ((first, 1), (between, 2), (last, 2)):
        assert layer.seen == [bfloat16] * count
    answers = t.predict(X)
    assert isinstance(answers, np.ndarray)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers.sum(1), 1.0, rtol=1e-6)
    assert first.seen[-1] == bfloat16
    assert set(t.evaluate((X, LABELS))) == {"loss", "accuracy"}
    assert last.seen[-1] == bfloat16


def test_the_weights_as_they_are_now_are_computed_with(fake_gpu):
    """Whoever changed them: the copy is made anew each time."""
    net = gn.mlp([6, 3])
    t = trainer(fake_gpu, net)
    t.fit((X, LABELS), epochs=1, batch_size=8)
    net.load_state_dict({name: 0.0 * a for name, a in net.state_dict().items()})
    np.testing.assert_allclose(t.predict(X), 1.0 / 3.0, rtol=1e-6)
    assert float(t.step(X[:8], LABELS[:8])) == pytest.approx(math.log(3.0), rel=1e-6)


def test_weights_that_are_changed_between_captured_steps(fake_gpu):
    def losses(how):
        t = trainer(fake_gpu, graph=how)
        W, found = t.net.layers[0].W.value, []
        for i in range(20):
            found.append(float(t.step(X[:8], LABELS[:8])))
            if i % 3 == 2:
                W *= 0.5
        return found

    assert losses(False) == losses(True)
    assert fake_gpu.state.replays > 10


def test_callbacks_change_the_weights_themselves(fake_gpu):
    def fit(t):
        average, histograms = gn.AverageWeights(0.5), gn.Histograms()
        callbacks = [gn.MaxNorm(0.9), gn.train.L1(0.3), average, histograms]
        t.fit((X, LABELS), epochs=3, batch_size=8, callbacks=callbacks)
        W = gn.to_host(t.net.layers[0].W.value)
        assert np.any(W == 0.0)
        assert np.sqrt((W * W).sum(0)).max() <= 0.9 * (1.0 + 1e-6)
        assert histograms.norms["value", "linear1.W"][-1] == pytest.approx(np.linalg.norm(W), rel=1e-6)
        average.load_into(t.net)
        return t.history

    ends_alike(fake_gpu, lambda how: trainer(fake_gpu, graph=how), fit)


def test_a_run_that_is_stopped_goes_on_here_and_elsewhere(fake_gpu, tmp_path):
    t = trainer(fake_gpu)
    t.fit((X, LABELS), epochs=4, batch_size=8, callbacks=StopAfter(14))
    gn.save_checkpoint(tmp_path / "c", t)
    other = trainer(fake_gpu)
    gn.load_checkpoint(tmp_path / "c", other)
    for one in (t, other):
        one.fit((X, LABELS), epochs=2, batch_size=8)
    assert t.history["loss"] == other.history["loss"]
    assert np.array_equal(gn.to_host(t.net.store.values), gn.to_host(other.net.store.values))
    on_cpu = gn.Trainer(gn.Sequential(gn.Linear(6, 16), gn.Tanh(), gn.Dropout(0.3), gn.Linear(16, 3)), device="cpu")
    gn.load_checkpoint(tmp_path / "c", on_cpu)
    gn.save(tmp_path / "net", t.net)
    answers = gn.Softmax()(gn.load(tmp_path / "net")(X))
    np.testing.assert_allclose(answers, t.predict(X), atol=0.02)


def test_steps_in_parts(fake_gpu):
    def make(how):
        return trainer(fake_gpu, gn.Sequential(gn.Linear(6, 5), Greedy(4), gn.Linear(5, 3)), graph=how)

    with pytest.warns(RuntimeWarning, match="parts of 4 rows"):
        t = ends_alike(fake_gpu, make)
    whole = trainer(fake_gpu, gn.Sequential(gn.Linear(6, 5), gn.Tanh(), gn.Linear(5, 3)))
    whole.fit((X, LABELS), epochs=4, batch_size=8)
    np.testing.assert_allclose(t.history["loss"], whole.history["loss"], rtol=1e-3)
    assert t.net.layers[0].W.value.dtype == np.float32  # though a pass was broken off


def test_a_copy_of_a_trainer_computes_alike(fake_gpu):
    """With the rounded weights of its own network, not with those of the one it was copied from."""
    t = trainer(fake_gpu, graph=False)
    other = copy.deepcopy(t, {id(t.device): t.device})
    for one in (t, other):
        one.fit((X, LABELS), epochs=2, batch_size=8)
    assert t.history["loss"] == other.history["loss"]


def test_every_kind_of_optimiser(fake_gpu):
    for optimizer in (gn.Muon(0.01), gn.Lion(0.003, weight_decay=0.1), gn.SGD(0.1, 0.9, groups={"linear1": {}})):
        losses = []
        for dtype in ("float32", "bfloat16"):
            t = trainer(fake_gpu, gn.mlp([6, 8, 3]), optimizer, dtype=dtype, graph=False)
            losses.append(t.fit((X, LABELS), epochs=4, batch_size=8)["loss"])
        np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)


def test_a_loss_that_is_not_finite_is_found(fake_gpu):
    class Jump(gn.SGD):
        def learning_rate(self, done):
            return 1e30 if done == 20 else 0.01

    for how in (False, True):
        t = trainer(fake_gpu, gn.mlp([6, 5, 3]), Jump(0.01), graph=how)
        with pytest.raises(gn.Diverged, match=r"in step 22 .* the output of linear2"):
            t.fit((X, LABELS), epochs=5, batch_size=8)


def test_what_it_needs(fake_gpu, monkeypatch):
    with pytest.raises(
        gn.OptionError, match="dtype 'bfloat16' needs gpunn's kernels for CUDA GPUs, and the device is cpu"
    ):
        gn.Trainer(gn.mlp([6, 3]), device="cpu", dtype="bfloat16")
    net = gn.mlp([6, 3])
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(gn.OptionError, match="dtype 'bfloat16' needs the package ml_dtypes: pip install ml-dtypes"):
        trainer(fake_gpu, net)
    assert not net.initialised
    monkeypatch.setenv("GPUNN_FAST", "0")
    with pytest.raises(gn.OptionError, match="without GPUNN_FAST=0"):
        trainer(fake_gpu, net)


def test_a_run_of_the_command(fake_gpu, monkeypatch, tmp_path):
    """Its folder is read on a CPU as that of any other run."""
    monkeypatch.setattr(
        run, "find_device", lambda name, announce: fake_gpu.device if name == "cuda" else gn.device(name)
    )
    monkeypatch.setattr(run, "draw_curves", lambda *_: False)
    options = {"device": "cuda", "dtype": "bfloat16", "hidden": [16], "epochs": 2, "batch_size": 128}
    folder, summary = run.train(Config.of(options), str(tmp_path / "run"), quiet=True)
    assert summary["dtype"] == "bfloat16"
    assert gn.load(folder / "model.safetensors").store.dtype == "float32"
    measured = run.evaluate(folder, "cpu")
    assert measured["loss"] == pytest.approx(summary["test_loss"], rel=0.02)
    assert run.evaluate(folder)["loss"] == summary["test_loss"]
    again, _ = run.train(run.run_config(folder, {"epochs": 3}), resume=str(folder), quiet=True)
    assert len(again.joinpath("history.jsonl").read_text().splitlines()) == 3


def test_a_run_goes_on_where_it_cannot_be_computed_so(fake_gpu, monkeypatch, tmp_path, capsys):
    """In float32, which is said; and back on a GPU, in bfloat16 again."""
    devices = {"cuda": fake_gpu.device, "cpu": gn.device("cpu")}
    monkeypatch.setattr(run, "find_device", lambda name, announce: devices[name])
    monkeypatch.setattr(run, "draw_curves", lambda *_: False)
    options = {"device": "cuda", "dtype": "bfloat16", "hidden": [16], "epochs": 1, "batch_size": 128}
    folder, _ = run.train(Config.of(options), str(tmp_path / "run"), quiet=True)
    note = "note     bfloat16 needs gpunn's kernels for CUDA GPUs: the run goes on in float32\n"
    for epochs, where, fast, dtype in (
        (2, "cpu", "1", "float32"),
        (3, "cuda", "1", "bfloat16"),
        (4, "cuda", "0", "float32"),
    ):
        monkeypatch.setenv("GPUNN_FAST", fast)
        config = run.run_config(folder, {"epochs": epochs, "device": where})
        _, summary = run.train(config, resume=str(folder))
        assert (summary["epochs"], summary["dtype"]) == (epochs, dtype)
        assert run.run_config(folder).dtype == "bfloat16"
        assert (note in capsys.readouterr().out) == (dtype == "float32")
        assert run.evaluate(folder)["loss"] == summary["test_loss"]
    # a new run is not made otherwise than asked for
    with pytest.raises(gn.OptionError, match="dtype 'bfloat16' needs"):
        run.train(Config.of(options), str(tmp_path / "new"), quiet=True)
