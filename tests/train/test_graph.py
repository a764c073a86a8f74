"""Captured steps beside the usual ones, on a stand-in for a GPU; see tests/kernels/cuda/fake_cupy.py."""

import importlib.util
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import gpunn as gn
from benchmarks.workloads import Workload
from gpunn.kernels.cuda import product
from gpunn.train import graph
from tests.train.callbacks import StopAfter
from tests.train.greedy import Greedy

rng = np.random.default_rng(3)
X = rng.standard_normal((44, 6)).astype("float32")
LABELS = rng.integers(0, 3, 44)


def trainer(fake_gpu, graph="auto", net=None, optimizer=None, loss=None, **options):
    net = net or gn.Sequential(gn.Linear(6, 5), gn.Tanh(), gn.Dropout(0.3), gn.Linear(5, 3))
    return gn.Trainer(net, loss, optimizer or gn.Adam(0.05), device=fake_gpu.device, graph=graph, **options)


def test_the_numbers_are_those_of_the_usual_steps(fake_gpu):
    runs = []
    for how in (False, True):
        t = trainer(fake_gpu, how, clip_norm=0.5)
        history = t.fit((X, LABELS), epochs=5, batch_size=8)  # five whole batches, and one of four
        runs.append((history["loss"], gn.to_host(t.net.store.values), [gn.to_host(a) for a in t.state.values()]))
        assert t.steps == 30
        assert bool(fake_gpu.state.replays) == how
    assert runs[0][0] == runs[1][0]
    for a, b in zip([runs[0][1], *runs[0][2]], [runs[1][1], *runs[1][2]], strict=True):
        assert np.array_equal(a, b)


def ends_alike(fake_gpu, make, fit=lambda t: t.fit((X, LABELS), epochs=4, batch_size=8), insist=True):
    """What a trainer has after a fit with graphs, having checked that it is what it has without them."""
    ends = []
    for how in (False, insist):
        t = make(how)
        losses = fit(t)
        arrays = [gn.to_host(a) for a in t._kept()]
        ends.append((losses["loss"] if isinstance(losses, gn.History) else losses, t.steps, arrays))
    (losses, steps, arrays), (others, also, found) = ends
    assert losses == others
    assert steps == also
    for a, b in zip(arrays, found, strict=True):
        assert np.array_equal(a, b)
    return t


@pytest.mark.slow
@pytest.mark.parametrize("name", gn.testing.layer_cases())
def test_every_layer_can_be_captured(fake_gpu, name):
    make, shape = gn.testing.layer_cases()[name]
    layer = make()
    out = int(np.prod(layer.output_shape(shape[1:])))
    x = rng.standard_normal((24, *shape[1:])).astype("float32")

    def trainer_of(how):
        net = gn.Sequential(make(), gn.Flatten(), gn.Linear(out, 3))
        return trainer(fake_gpu, how, net, gn.SGD(0.01))

    ends_alike(fake_gpu, trainer_of, lambda t: t.fit((x, LABELS[:24]), epochs=2, batch_size=8))
    assert fake_gpu.state.replays > 2


@pytest.mark.slow
@pytest.mark.parametrize("name", gn.testing.loss_cases())
def test_every_loss_can_be_captured(fake_gpu, name):
    loss, _, y = gn.testing.loss_cases()[name]
    y = np.concatenate([y] * 6)
    x = rng.standard_normal((36, 6)).astype("float32")
    ends_alike(
        fake_gpu,
        lambda how: trainer(fake_gpu, how, gn.mlp([6, 4]), gn.SGD(0.01), loss),
        lambda t: t.fit((x, y), epochs=1, batch_size=6),
    )
    assert fake_gpu.state.replays > 2


def test_rows_of_different_weight(fake_gpu):
    weights = rng.random(44)
    loss = gn.losses.Weighted(gn.SoftmaxCrossEntropy())
    ends_alike(
        fake_gpu,
        lambda how: trainer(fake_gpu, how, loss=loss),
        lambda t: t.fit((X, (LABELS, weights)), epochs=2, batch_size=8),
    )


CHANGING = gn.schedules.Warmup(5, gn.schedules.Cosine(0.05, steps=18))
OPTIMIZERS = [
    gn.SGD(CHANGING), gn.SGD(0.1, momentum=gn.schedules.Polynomial(0.5, 15, end=0.9)), gn.SGD(CHANGING, 0.9, True),
    gn.Adam(CHANGING, weight_decay=0.1), gn.AdamW(CHANGING, weight_decay=0.1), gn.NAdam(CHANGING), gn.Adamax(CHANGING),
    gn.Lion(CHANGING, weight_decay=0.1), gn.Muon(CHANGING, weight_decay=0.1), gn.Adadelta(CHANGING),
    gn.RMSprop(CHANGING), gn.Adagrad(CHANGING),
    gn.Adam(0.05, groups={"linear1": {"lr_factor": 0.1, "weight_decay": 0.2}, "linear2.b": {"lr_factor": 0.0}}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_every_optimiser_goes_by_its_schedule(fake_gpu, optimizer):
    ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how, optimizer=optimizer))
    assert fake_gpu.state.replays > 10


def test_muon_on_convolutions(fake_gpu):
    x = rng.standard_normal((24, 6, 5, 2)).astype("float32")
    optimizer = gn.Muon(CHANGING, groups={"conv2d1": {"lr_factor": 0.5, "weight_decay": 0.1}})

    def trainer_of(how):
        net = gn.Sequential(gn.Conv2d(2, 3, 3), gn.BatchNorm(3), gn.Flatten(), gn.Linear(36, 3))
        return trainer(fake_gpu, how, net, optimizer)

    ends_alike(fake_gpu, trainer_of, lambda t: t.fit((x, LABELS[:24]), epochs=4, batch_size=8))
    assert fake_gpu.state.replays > 2
    assert "gn_muon_ahead" in fake_gpu.launches


def test_a_smaller_last_batch_has_a_graph_of_its_own(fake_gpu):
    t = ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how), lambda t: t.fit((X, LABELS), epochs=6, batch_size=8))
    assert sorted(key[2] for key in t._graphs._steps) == [4, 8]
    # the first two of each size as usual; two replays when a graph is tried
    assert fake_gpu.state.replays == (30 - 2) + 2 + (6 - 2) + 2


@pytest.mark.parametrize("shuffle", [False, lambda epoch, n: np.roll(np.arange(n), epoch)])
@pytest.mark.parametrize("drop_last", [False, True])
def test_orders(fake_gpu, shuffle, drop_last):
    ends_alike(
        fake_gpu,
        lambda how: trainer(fake_gpu, how),
        lambda t: t.fit((X, LABELS), epochs=3, batch_size=8, shuffle=shuffle, drop_last=drop_last),
    )


def test_images_in_bytes_are_scaled_in_the_graph(fake_gpu):
    images = rng.integers(0, 256, (44, 6)).astype("uint8")
    ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how), lambda t: t.fit((images, LABELS), epochs=2, batch_size=8))


KERNELS = ["begin_step", "softmax_cross_entropy", "adam", "end_step"]


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16"])
def test_the_kernels_of_a_step(fake_gpu, dtype, kind):
    """Each costs the time of a launch: besides the products no other than these, in a fit and in steps one by one."""
    pytest.importorskip("ml_dtypes")
    images, seen = fake_gpu.device.asarray((255 * rng.random((44, 16))).astype(kind)), []
    labels = fake_gpu.device.asarray(rng.integers(0, 10, 44))

    def look(*_):
        ran = fake_gpu.launches, fake_gpu.algorithms, [f for f in fake_gpu.state.computed if f != "isdtype"]
        seen.append([name.removeprefix("gn_") for name in ran[0]] + ["product"] * len(ran[1]) + ran[2])
        for names in (*ran[:2], fake_gpu.state.computed):
            names.clear()

    class Look(gn.Callback):
        on_step = look

    t = trainer(fake_gpu, net=gn.mlp([16, 24, 24, 10]), dtype=dtype)
    t.fit((images, labels), epochs=2, batch_size=8, drop_last=True, callbacks=Look())
    assert seen[-1] == KERNELS + ["product"] * 8
    for _ in range(6):
        t.step(images[:8], labels[:8])
        look()
    assert seen[-1] == KERNELS + ["product"] * 8


@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16"])
def test_a_relu_in_the_kernel_of_the_weights_before_it(fake_gpu, dnn, dtype):
    pytest.importorskip("ml_dtypes")
    x = rng.standard_normal((24, 6, 5, 1)).astype("float32")

    def trainer_of(how):
        net = gn.Sequential(gn.Conv2d(1, 3, 3), gn.ReLU(), gn.Flatten(), gn.Linear(36, 8), gn.ReLU(), gn.Linear(8, 3))
        return trainer(fake_gpu, how, net, dtype=dtype)

    t = ends_alike(fake_gpu, trainer_of, lambda t: t.fit((x, LABELS[:24]), epochs=4, batch_size=8))
    assert fake_gpu.state.replays > 2
    fake_gpu.launches.clear()
    t.step(x[:8], LABELS[:8])
    assert fake_gpu.launches.count("gn_relu_backward") == 1  # the other in the product of the Linear above
    assert "gn_relu" not in fake_gpu.launches  # in cuDNN's kernel, or in that of the product where it is not used


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_augmented_images_enter_the_graph(fake_gpu, dtype):
    images = (255 * rng.random((44, 6, 5, 1))).astype(dtype)
    augment = [gn.data.RandomAffine(shift=1, rotate=10), gn.data.CutOut(2)]

    def trainer_of(how):
        net = gn.Sequential(gn.Conv2d(1, 3, 3), gn.ReLU(), gn.Dropout(0.2), gn.Flatten(), gn.Linear(36, 3))
        return trainer(fake_gpu, how, net, gn.Adam(CHANGING))

    def fit(t):
        history = t.fit((images, LABELS), epochs=4, batch_size=8, augment=augment)
        plain = trainer_of(False).fit((images, LABELS), epochs=4, batch_size=8)
        assert plain["loss"] != history["loss"]
        return history

    t = ends_alike(fake_gpu, trainer_of, fit)
    assert sorted(key[1][0] for key in t._graphs._steps) == [4, 8]
    assert fake_gpu.state.replays == (20 - 2) + 2 + (4 - 2) + 2


def test_double_precision(fake_gpu):
    ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how, dtype="float64"))


def test_convolutions_by_cudnn(fake_gpu, dnn):
    x = rng.standard_normal((24, 6, 5, 1)).astype("float32")

    def trainer_of(how):
        net = gn.Sequential(gn.Conv2d(1, 3, 3), gn.ReLU(), gn.Conv2d(3, 2, 2), gn.Flatten(), gn.Linear(12, 3))
        return trainer(fake_gpu, how, net, dtype="tf32")

    ends_alike(fake_gpu, trainer_of, lambda t: t.fit((x, LABELS[:24]), epochs=4, batch_size=8))
    assert fake_gpu.state.replays > 2
    assert [kind for kind, *_ in dnn.ran[-5:]] == ["y", "y", "W", "x", "W"]


def test_tf32_is_for_the_products_of_this_trainer_alone(fake_gpu):
    def computes():
        found = {compute for *_, compute in fake_gpu.algorithms}
        fake_gpu.algorithms.clear()
        return found

    t = ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how, dtype="tf32"))
    assert t.dtype == "float32"
    assert 77 in computes()
    t.evaluate((X, LABELS))
    assert 77 in computes()
    t.step(X, LABELS)
    assert computes() == {77}
    t.predict(X)
    assert computes() == {77}
    trainer(fake_gpu).fit((X, LABELS), epochs=1)
    assert computes() == {68}
    with pytest.raises(gn.OptionError, match="dtype 'tf32' needs gpunn's kernels for CUDA GPUs, and the device is cpu"):
        gn.Trainer(gn.mlp([6, 3]), device="cpu", dtype="tf32")
    with pytest.raises(gn.OptionError, match="dtype 'float16' is not known; expected float32 or float64"):
        trainer(fake_gpu, dtype="float16")


@pytest.mark.parametrize(("dtype", "products"), [("float32", {68}), ("tf32", {77}), ("bfloat16", {68, 77})])
def test_products_of_an_update_are_no_finer_than_need_be(fake_gpu, dtype, products):
    """Muon's, in TF32 where the network is computed in less than float32; 68 stands for sums in float32."""
    t = trainer(fake_gpu, False, optimizer=gn.Muon(0.01), dtype=dtype)
    for _ in range(2):
        fake_gpu.algorithms.clear()
        t.step(X, LABELS)
    assert {compute for *_, compute in fake_gpu.algorithms} == products


@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("how", [False, True])
def test_tuning(fake_gpu, monkeypatch, dtype, how):
    """Products are timed in usual steps, not in a captured one; the numbers of the stand-in stay."""
    timed = []
    monkeypatch.setattr(product, "_time", lambda run: (run(), timed.append(fake_gpu.state.capturing), 1.0)[-1])
    runs = []
    for tune in (False, True):
        timed.clear()
        t = trainer(fake_gpu, how, optimizer=gn.Muon(0.01), dtype=dtype, tune=tune)
        t.fit((X, LABELS), epochs=4, batch_size=8)
        assert bool(timed) == tune
        runs.append(t.history["loss"])
        assert bool(fake_gpu.state.replays) == how
    assert runs[0] == runs[1]
    assert not any(timed)
    assert not product._settings.tuning


def test_tuning_is_yes_or_no(fake_gpu):
    with pytest.raises(gn.OptionError, match="tune must be True or False, got 'fast'"):
        trainer(fake_gpu, tune="fast")
    t = gn.Trainer(gn.mlp([6, 3]), device="cpu", tune=True)  # nothing to choose from
    t.step(X, LABELS)


def test_steps_one_by_one(fake_gpu):
    """Of two shapes, in turn, with a loss that stays when the next step has been taken."""

    def fit(t):
        losses = [t.step(X[i : i + 8 - 3 * (i % 2)], LABELS[i : i + 8 - 3 * (i % 2)]) for i in range(30)]
        return [float(loss) for loss in losses]

    t = ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how, optimizer=gn.Adam(CHANGING)), fit)
    assert len(t._graphs._steps) == 2
    assert fake_gpu.state.replays == 2 * (15 - 2 + 2)  # two of each as usual; two when one is tried


def test_a_fit_that_is_stopped_goes_on(fake_gpu, tmp_path):
    def fit(t):
        t.fit((X, LABELS), epochs=4, batch_size=8, callbacks=StopAfter(14))
        assert t.steps == 14
        gn.save_checkpoint(tmp_path / "c", t)
        other = trainer(fake_gpu, t._graphs is not None)
        gn.load_checkpoint(tmp_path / "c", other)
        other.fit((X, LABELS), epochs=2, batch_size=8)
        history = t.fit((X, LABELS), epochs=2, batch_size=8)
        assert history["loss"] == other.history["loss"]
        return history

    ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how), fit)


# --- what changes while a network is trained


class Meddle(gn.Callback):
    """Does something to the trainer after some steps."""

    def __init__(self, *changes):
        self.changes = changes

    def on_step(self, trainer):
        if trainer.steps % 5 == 0:
            self.changes[trainer.steps // 5 % len(self.changes)](trainer)


@pytest.mark.parametrize(
    "changes",
    [
        [lambda t: setattr(t.optimizer, "scale", 0.1), lambda t: setattr(t.optimizer, "scale", 1.0)],
        [lambda t: setattr(t.optimizer, "beta1", 0.5), lambda t: setattr(t.optimizer, "beta1", 0.9)],
        [lambda t: setattr(t.optimizer, "lr", gn.schedules.Constant(0.01)), lambda t: None],
        [lambda t: setattr(t.optimizer, "weight_decay", 0.1), lambda t: setattr(t.optimizer, "weight_decay", 0.0)],
        [lambda t: setattr(t, "clip_norm", 0.01), lambda t: setattr(t, "clip_norm", None)],
        [lambda t: setattr(t, "loss", gn.FocalLoss()), lambda t: setattr(t, "loss", gn.SoftmaxCrossEntropy())],
        [lambda t: t.net.load_state_dict({n: a * 0.9 for n, a in t.net.state_dict().items()})],
    ],
    ids=["scale", "beta1", "lr", "decay", "clip", "loss", "weights"],
)
def test_what_a_callback_changes_counts_from_the_next_step(fake_gpu, changes):
    ends_alike(
        fake_gpu,
        lambda how: trainer(fake_gpu, how, optimizer=gn.Adam(0.05)),
        lambda t: t.fit((X, LABELS), epochs=4, batch_size=4, callbacks=Meddle(*changes)),
    )
    assert fake_gpu.state.replays > 20


def test_what_is_changed_between_steps_counts_from_the_next(fake_gpu):
    def fit(t):
        losses = []
        for i in range(32):
            losses.append(t.step(X[:8], LABELS[:8]))
            if i % 8 == 7:
                t.clip_norm = None if t.clip_norm else 0.01
                t.loss = gn.FocalLoss() if i == 15 else gn.SoftmaxCrossEntropy()
        return [float(loss) for loss in losses]

    ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how), fit)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: setattr(t.net.layers[2], "rate", 0.0),
        lambda t: setattr(t, "clip_norm", 0.01),
        lambda t: setattr(t, "loss", gn.FocalLoss()),
        lambda t: setattr(t.optimizer, "weight_decay", 0.5),
        lambda t: setattr(t, "optimizer", gn.SGD(0.01)),
    ],
)
def test_what_is_changed_between_fits_is_in_new_graphs(fake_gpu, change):
    data = fake_gpu.device.asarray(X), fake_gpu.device.asarray(LABELS)  # the same arrays, or graphs would be new anyway

    def fit(t):
        t.fit(data, epochs=2, batch_size=8)
        change(t)
        return t.fit(data, epochs=2, batch_size=8)

    ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how, optimizer=gn.Adam(0.05)), fit)


def test_a_schedule_that_goes_by_the_loss(fake_gpu):
    """It is no pure function, so its values cannot be known in advance: they are looked at in every step."""

    def fit(t):
        t.optimizer.lr = lambda done: 0.01 if t.steps < 17 else 0.001 * (t.steps % 3)
        return t.fit((X, LABELS), epochs=4, batch_size=8)

    ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how, optimizer=gn.SGD(0.1)), fit)


def test_the_history_of_two_data_sets_in_turn(fake_gpu):
    def fit(t):
        for _ in range(3):
            t.fit((X, LABELS), epochs=1, batch_size=8)
            t.fit((X[:20], LABELS[:20]), epochs=1, batch_size=8)
        return t.history

    t = ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how), fit)
    assert len(t._graphs._steps) <= 2


# --- what cannot be captured


class Looks(gn.Identity):
    def forward(self, x, *, train=False, key=None):
        if train and float(x[0, 0]) > 1e9:
            raise ValueError
        return x, None


class Tosses(gn.Identity):
    generator = np.random.default_rng(0)

    def forward(self, x, *, train=False, key=None):
        return x * float(self.generator.random()), None


class Counts(gn.Identity):
    def forward(self, x, *, train=False, key=None):
        return x * (1.0 if not train or int(key[1]) % 2 else 0.5), None


class Moves(gn.SGD):
    def step(self, w, g, *kept, eta, t):
        w -= eta * g


class OtherUpdates(gn.SGD):
    def step(self, w, g, *kept, eta, t):
        for _ in range(1 + t % 2):
            gn.ops.sgd(w, g, eta=eta)


def between(layer):
    return gn.Sequential(gn.Linear(6, 5), layer, gn.Linear(5, 3))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"net": between(Looks())}, r"looks1 \(Looks\): RuntimeError: the current stream is capturing"),
        ({"net": between(gn.Residual(Looks()))}, r"residual1.looks1 \(Looks\): "),
        ({"net": between(Counts())}, r"counts1 \(Counts\): "),
        ({"net": between(Tosses())}, "it did not give the numbers that the step itself gives"),
        ({"optimizer": Moves(0.1)}, "the optimiser changes arrays otherwise than by gpunn.ops"),
        ({"optimizer": OtherUpdates(0.1)}, "the optimiser does not make the same updates in every step"),
    ],
)
def test_what_cannot_be_captured_is_said_once_and_training_goes_on(fake_gpu, options, why):
    t = trainer(fake_gpu, **options)
    with pytest.warns(RuntimeWarning, match=f"^training goes on without a CUDA graph, slower: {why}") as said:
        t.fit((X, LABELS), epochs=3, batch_size=8)
    assert len(said) == 1
    assert t.steps == 18
    assert fake_gpu.state.capturing is None
    if not isinstance(t.net.layers[1], Tosses):
        plain = trainer(fake_gpu, False, **options)
        plain.net.init(0, device=fake_gpu.device)
        plain = trainer(fake_gpu, False, plain.net, options.get("optimizer"))
        plain.fit((X, LABELS), epochs=3, batch_size=8)
        assert plain.history["loss"] == t.history["loss"]
    with pytest.raises(gn.CaptureError, match=f"the step cannot be captured in a CUDA graph: {why}"):
        trainer(fake_gpu, True, **options).fit((X, LABELS), epochs=3, batch_size=8)


def test_a_replay_that_differs_is_not_used(fake_gpu, monkeypatch):
    """Whatever the cause: here a product that a replay leaves out."""
    launch = type(fake_gpu.library).call

    def left_out(self, name, *args, **named):
        return 0 if name == "Matmul" and fake_gpu.state.capturing is not None else launch(self, name, *args, **named)

    monkeypatch.setattr(type(fake_gpu.library), "call", left_out)
    with pytest.warns(RuntimeWarning, match="did not give the numbers that the step itself gives"):
        ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how), insist="auto")


def test_an_order_with_numbers_that_are_no_rows_is_not_captured(fake_gpu):
    with pytest.warns(RuntimeWarning, match="the order is not of 44 numbers from 0 to 43"):
        trainer(fake_gpu).fit((X, LABELS), epochs=1, batch_size=8, shuffle=lambda epoch, n: -1 - np.arange(n))


def test_data_that_does_not_lie_in_one_piece_is_not_captured(fake_gpu):
    x = fake_gpu.device.asarray(np.ascontiguousarray(X.T)).T
    with pytest.warns(RuntimeWarning, match="the data does not lie in one piece"):
        ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how), lambda t: t.fit((x, LABELS), epochs=1), "auto")


def test_without_cublaslt(fake_gpu, monkeypatch):
    monkeypatch.setattr("gpunn.kernels.cuda.product._library", lambda: None)
    with pytest.warns(RuntimeWarning, match=r"linear1 \(Linear\): NotImplementedError: calling cuBLAS"):
        ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how), insist="auto")


def test_a_loss_that_is_not_finite_is_found_as_ever(fake_gpu):
    class Jump(gn.SGD):
        def learning_rate(self, done):
            return 1e30 if done == 20 else 0.01

    found = []
    for how in (False, True):
        t = trainer(fake_gpu, how, gn.mlp([6, 5, 3]), Jump(0.01))
        with pytest.raises(gn.Diverged) as error:
            t.fit((X, LABELS), epochs=5, batch_size=8)
        found.append((str(error.value), t.steps, t.batch, t.losses.read(), gn.to_host(t.net.store.values).tolist()))
    assert "in step 22" in found[0][0]
    assert found[0] == found[1]


# --- when there are graphs


def test_few_steps_are_not_worth_one(fake_gpu):
    trainer(fake_gpu, True).fit((X, LABELS), epochs=2, batch_size=44)
    assert fake_gpu.state.replays == 0


def test_only_a_gpu_with_its_kernels_has_them(fake_gpu, monkeypatch):
    assert gn.Trainer(gn.mlp([6, 3]), device="cpu")._graphs is None
    for spec in ("cpu", "strict:device1"):
        with pytest.raises(gn.OptionError, match=f"graph=True needs a CUDA GPU, and the device is {spec}"):
            gn.Trainer(gn.mlp([6, 3]), device=spec, graph=True)
    with pytest.raises(gn.OptionError, match="graph must be True, False or 'auto', got 'yes'"):
        trainer(fake_gpu, "yes")
    assert trainer(fake_gpu)._graphs is not None
    assert trainer(fake_gpu, False)._graphs is None
    monkeypatch.setenv("GPUNN_FAST", "0")
    assert trainer(fake_gpu)._graphs is None


def test_shapes_without_end_do_not_fill_the_memory(fake_gpu, monkeypatch):
    monkeypatch.setattr(graph, "MOST", 2)
    t = trainer(fake_gpu)
    for size in (3, 4, 5, 6):
        for _ in range(4):
            t.step(X[:size], LABELS[:size])
    assert len(t._graphs._steps) == 2
    assert t.steps == 16


def test_steps_in_parts_are_captured_too(fake_gpu):
    def make(how):
        return trainer(fake_gpu, how, gn.Sequential(gn.Linear(6, 5), gn.Dropout(0.2), Greedy(4), gn.Linear(5, 3)))

    with pytest.warns(RuntimeWarning, match="parts of 4 rows"):
        ends_alike(fake_gpu, make)
    assert fake_gpu.state.replays > 10
    assert fake_gpu.state.freed == [1] * (2 + 3)  # for want of memory in both fits, and for three graphs


def test_a_graph_gets_the_memory_that_usual_steps_have_left_over(fake_gpu, monkeypatch):
    given, captured = [], graph.Graph
    monkeypatch.setattr(graph, "Graph", lambda *args: given.append(len(fake_gpu.state.freed)) or captured(*args))
    trainer(fake_gpu).fit((X, LABELS), epochs=4, batch_size=8)
    assert given == [1, 2]


def test_too_little_memory_for_a_graph_is_no_end(fake_gpu, monkeypatch):
    def no_memory(*_):
        raise MemoryError("Out of memory allocating 512 bytes")

    monkeypatch.setattr(graph, "Graph", no_memory)
    with pytest.warns(RuntimeWarning, match="slower: MemoryError: Out of memory allocating 512 bytes"):
        ends_alike(fake_gpu, lambda how: trainer(fake_gpu, how), insist="auto")


def test_graphs_give_way_to_a_usual_step_that_lacks_their_memory(fake_gpu):
    class Beside(gn.Tanh):
        """Has no memory for four rows while there is a graph of eight."""

        def forward(self, x, *, train=False, key=None):
            if x.shape[0] == 4 and t._graphs is not None and t._graphs._steps:
                raise MemoryError
            return super().forward(x, train=train, key=key)

    def make(how):
        nonlocal t
        t = trainer(fake_gpu, how, gn.Sequential(gn.Linear(6, 5), Beside(), gn.Linear(5, 3)))
        return t

    t = None
    with pytest.warns(RuntimeWarning, match="slower: the memory that graphs hold is wanted") as said:
        ends_alike(fake_gpu, make, insist="auto")
    assert len(said) == 1
    assert fake_gpu.state.replays == 2 + 3  # tried, and taken
    assert t._most == np.inf


@pytest.mark.parametrize("use", ["predict", "evaluate", "valid"])
def test_graphs_give_way_to_answers_that_lack_their_memory(fake_gpu, use):
    class Beside(gn.Tanh):
        """Has no memory for answers to more than one row while there is a graph."""

        def infer(self, x):
            pieces.append(x.shape[0])
            if x.shape[0] > 1 and t._graphs is not None and t._graphs._steps:
                raise MemoryError
            return super().infer(x)

    def found(how):
        nonlocal t
        t = trainer(fake_gpu, how, gn.Sequential(gn.Linear(6, 5), Beside(), gn.Linear(5, 3)))
        if use == "valid":
            return t.fit((X, LABELS), valid=(X, LABELS), epochs=2, batch_size=11)["valid_loss"]
        t.fit((X, LABELS), epochs=1, batch_size=11)
        return t.predict(X).tolist() if use == "predict" else t.evaluate((X, LABELS))

    pieces, t = [], None
    wanted = found(False)
    with pytest.warns(RuntimeWarning, match="slower: the memory that graphs hold is wanted") as said:
        assert found("auto") == wanted
    assert len(said) == 1
    assert fake_gpu.state.replays == 2 + 2  # tried, and taken
    assert {*pieces} == {1, 44}  # the one row tells how many outputs there are


def test_the_memory_of_a_graph_that_goes_is_given_back(fake_gpu):
    t = trainer(fake_gpu)
    t.fit((X, LABELS), epochs=4, batch_size=8)
    pools = [step.graph._pool for step in t._graphs._steps.values()]
    assert [pool.emptied for pool in pools] == [False, False]
    t._graphs.forget_data(())
    assert [pool.emptied for pool in pools] == [True, True]


# --- the script that is to be run on a GPU


@pytest.fixture
def gpu_check():
    path = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"
    spec = importlib.util.spec_from_file_location("gpu_check", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


PART = "import json, os, pathlib, sys, time; folder = pathlib.Path(sys.argv[1]); "
ENDS = {
    "well": ("", True, None),
    "wrong": ("(folder / 'wrong.json').write_text('{}'); sys.exit(1)", False, {}),
    "dies": ("print('the reason', file=sys.stderr, flush=True); os.abort()", False, "the reason"),
    "hangs": ("time.sleep(60)", False, "stopped after 2 s"),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_becomes_of_one_part_of_the_script_is_written_and_ends_no_other(gpu_check, name, tmp_path):
    code, well, found = ENDS[name]
    (tmp_path / f"{name}.json").write_text("of another run")
    command = [sys.executable, "-c", PART + code, str(tmp_path)]
    assert gpu_check.apart(tmp_path, name, command, 2 if name == "hangs" else 60) is well
    if well:
        return
    told = json.loads((tmp_path / f"{name}.json").read_text())
    assert told == found or found in told["error"]


def test_a_row_of_the_script_that_fails_leaves_the_others(gpu_check):
    rows = []
    for n in (1, 0, 2):
        gpu_check.attempt(rows, lambda n=n: [{"n": 2 / n, "ok": True}], n=n)
    assert [row["n"] for row in rows] == [2.0, 0, 1.0]
    assert "ZeroDivisionError" in rows[1]["error"]
    assert not rows[1]["ok"]


def test_the_parts_of_the_script_find_the_packages_of_this_process(gpu_check, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setenv("PYTHONPATH", "wheels")

    def run(command, env, **_):
        seen.append(env)
        return types.SimpleNamespace(returncode=1, stderr="")

    monkeypatch.setattr(gpu_check.subprocess, "run", run)
    gpu_check.steps(tmp_path)
    assert {env["PYTHONPATH"] for env in seen} == {f"{gpu_check.HERE}{os.pathsep}wheels"}


@pytest.mark.slow
def test_the_script_compares_convolutions_by_columns_and_by_cudnn(fake_gpu, dnn, gpu_check, monkeypatch):
    monkeypatch.setattr(gpu_check, "microseconds", lambda f: (f(), 1.0)[1])
    trained = {"arrays": [np.ones(3)], "step_us": 1.0, "fit_us": 1.0, "graphs": 3, "grown_bytes": 0}
    monkeypatch.setattr(gpu_check, "_trained", lambda *_: trained)
    monkeypatch.setattr("gpunn.kernels.cuda.product._time", lambda f: (f(), 1.0)[1])
    shapes = [((2, 5, 6, 2), (3, 3, 2, 4), (1, 1), (0, 0)), ((2, 7, 7, 4), (3, 2, 4, 3), (2, 3), (1, 2))]
    found, well = gpu_check.convolutions(shapes, ("float32", "tf32", "float64"), fake_gpu.device)
    assert well, found
    assert [row["by"] for row in found["rows"]] == ["columns", "first", "fastest"] * 6
    assert all(row["error_W"] < 1e-5 for row in found["rows"])
    assert [row["engine"] for row in found["engines"][:3]] == ["engine 3"] * 3
    assert len(found["engines"]) == 2 * (3 + 9 + 9)
    assert {(row["by"], row["precision"]) for row in found["steps"]} >= {("columns", "tf32"), ("fastest", "float32")}
    dnn.engines = [(notes, size, 0.1) for notes, size, _ in dnn.engines]
    found, well = gpu_check.convolutions(shapes[:1], ("tf32",), fake_gpu.device)
    assert not well
    assert not found["engines"][0]["ok"]


@pytest.mark.slow
def test_the_script_compares_fits_with_graphs_and_without(fake_gpu, gpu_check):
    pytest.importorskip("ml_dtypes")
    w, muon = (Workload("mlp", (12, 5, 10), 4, optimizer=name) for name in ("adam", "muon"))
    more = [(muon, ()), (w, [gn.data.CutOut(2)])]
    found, well = gpu_check.graphs(fake_gpu.device, [w], steps=15, more=more)
    assert well, found
    for row in found["rows"]:
        assert row["same_bits"]
        assert row["graphs"] == 3 - bool(row["augment"])  # of the fit's two sizes, and of the steps one by one
        assert min(row["eager_us"], row["captured_us"], row["fit_us"]) > 0


@pytest.mark.slow
def test_the_script_compares_precisions(fake_gpu, gpu_check):
    pytest.importorskip("ml_dtypes")
    found, well = gpu_check.precisions(fake_gpu.device, rows=256, epochs=2)
    assert well, found
    assert [row["precision"] for row in found["rows"]] == 2 * list(gpu_check.PRECISIONS)
    assert found["rows"][0]["losses"] != found["rows"][2]["losses"]


@pytest.mark.slow
def test_the_script_compares_fits_on_data_that_are_streamed(fake_gpu, gpu_check, monkeypatch):
    found, well = gpu_check.streaming(fake_gpu.device, [Workload("mlp", (12, 5, 10), 4)], n=48, batch=8)
    assert well, found
    assert [row["graph"] for row in found["rows"]] == [False, True]
    rates = found["rates"]
    assert min(*rates["epoch_s"].values(), *rates["gb_per_s"].values()) > 0
    monkeypatch.setattr("gpunn.kernels.cuda.ring.Ring.receive", lambda ring, half: None)
    monkeypatch.setattr(gpu_check, "_rates_of_streaming", lambda *_: {})
    assert not gpu_check.streaming(fake_gpu.device, [Workload("mlp", (12, 5, 10), 4)], n=48, batch=8)[1]


@pytest.mark.slow
def test_the_script_trains_on_mnist(fake_gpu, gpu_check, monkeypatch, tmp_path):
    pytest.importorskip("ml_dtypes")
    labels = np.arange(400) % 10
    images = np.zeros((400, 784), "uint8")
    for i in range(784):
        images[labels == i % 10, i] = 255  # as easily told as can be
    images ^= rng.integers(0, 60, images.shape, "uint8")
    train, test = (gn.data.Dataset(images[part], labels[part], (28, 28, 1)) for part in (slice(300), slice(300, 400)))
    monkeypatch.setenv("GPUNN_DATA_DIR", str(tmp_path))  # without the published curve
    found, well = gpu_check.mnist(fake_gpu.device, (train, test))
    assert not well
    on_cpu, curve, *learned, cold, warm = found["rows"]
    assert on_cpu["ok"]
    assert "overfitting.json: there is no such file" in curve["error"]
    assert [(row["precision"], row["run"], row["ok"]) for row in learned] == [
        (precision, run, True) for precision in gpu_check.PRECISIONS for run in ("cold", "warm")
    ]
    assert all(row["accuracy"] >= 0.98 and row["seconds"] > 0 for row in learned)
    assert all(row["epochs"] == 1 and 0 <= row["accuracy"] <= 100 for row in (cold, warm))
    theirs = [(1.5, 9000, 0.5, 990), (1.25, 9100, 0.25, 995)]
    example = types.SimpleNamespace(published=lambda: theirs, run=lambda epochs, device: theirs[:epochs])
    for off, same in ((0, 2), (1, 1)):
        example.run = lambda epochs, device, off=off: [theirs[0], (1.25, 9100 + off, 0.25, 995)]
        (row,) = gpu_check._beside(example, fake_gpu.device, 2)
        assert (row["same_counts"], row["ok"]) == (same, not off)


def test_the_script_sets_steps_beside_those_of_peers_and_a_floor(gpu_check):
    w = gpu_check.rows()[0]
    rows = [
        {"workload": w.name, "precision": "float32", "who": who, "step_us": us, "losses": [2.0, 1.0 + off]}
        for who, us, off in (("gpunn, graph", 10.0, 0.0), ("torch-cuda", 40.0, 1e-4), ("jax-cuda", 20.0, 0.0))
    ]
    rate = {"product_flops": 1e30, "copy_bytes": 1e30}
    (row,) = gpu_check._compared(rows, rate)
    assert row["of_best_peer"] == 0.5
    assert row["losses_agree"]
    rows[1]["losses"][1] = 1.1
    assert not gpu_check._compared(rows, rate)[0]["losses_agree"]
