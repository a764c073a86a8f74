import inspect
import re
import sys
import time

import numpy as np
import pytest

import gpunn as gn
from tests.train.callbacks import StopAfter
from tests.train.greedy import Greedy

rng = np.random.default_rng(11)
X = rng.standard_normal((60, 4)).astype("float32")
LABELS = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype("int64") + (X[:, 2] > 1)


def trainer(net=None, loss=None, optimizer=None, **options):
    net = net or gn.mlp([4, 8, 3], hidden="tanh")
    return gn.Trainer(net, loss, optimizer or gn.Adam(0.01), **{"device": "cpu"} | options)


class Jump(gn.SGD):
    """Takes one step so far that the loss is not finite after it; keeps something, as Adam does."""

    keeps = ("v",)

    def __init__(self, at, by=1e30):
        super().__init__(0.01)
        self.at, self.by = at, by

    def step(self, w, g, v, *, eta, t):
        v += g
        w -= (self.by if t == self.at else eta) * v


# --- steps


def test_a_step_is_forward_backward_update(backend):
    net = gn.Linear(4, 3).init(seed=4, device=backend.device, dtype="float64")
    W, b = net.state_dict()["W"], net.state_dict()["b"]
    t = trainer(net, gn.SoftmaxCrossEntropy(), gn.SGD(0.5), device=backend.device)
    x, y = X[:5].astype("float64"), LABELS[:5]
    loss = t.step(backend.asarray(x), backend.asarray(y))

    p = np.exp(x @ W + b)
    p /= p.sum(1, keepdims=True)
    assert float(loss) == pytest.approx(-np.log(p[np.arange(5), y]).mean(), rel=1e-12)
    dz = (p - np.eye(3)[y]) / 5
    np.testing.assert_allclose(net.state_dict()["W"], W - 0.5 * x.T @ dz, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(net.state_dict()["b"], b - 0.5 * dz.sum(0), rtol=1e-10, atol=1e-14)
    assert t.steps == 1


def test_the_loss_is_a_0d_array_on_the_device(backend):
    loss = trainer(device=backend.device).step(X[:5], LABELS[:5])
    assert loss.shape == ()
    assert loss.dtype == backend.device.dtype("float32")


def test_arrays_of_any_library_and_lists_are_taken(backend):
    losses = []
    for x, y in [(X, LABELS), (X.astype("float64"), LABELS.astype("uint8")), (X.tolist(), LABELS.tolist())]:
        for move in (lambda a: a, lambda a: backend.asarray(a)):
            losses.append(float(trainer().step(move(x), move(y))))
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-6)


def test_bytes_are_scaled_to_0_1(backend):
    images = rng.integers(0, 256, (6, 4)).astype("uint8")
    as_bytes = trainer(device=backend.device).step(backend.asarray(images), LABELS[:6])
    as_numbers = trainer(device=backend.device).step(images / 255, LABELS[:6])
    assert float(as_bytes) == pytest.approx(float(as_numbers), rel=1e-6)


def test_a_long_gradient_is_shortened():
    net = gn.Linear(4, 1, init="zeros")
    t = trainer(net, gn.MeanSquaredError(), gn.SGD(1.0), clip_norm=0.5)
    t.step(X, 1000 * np.ones(60))
    step = np.concatenate([a.ravel() for a in net.state_dict().values()])
    assert np.linalg.norm(step) == pytest.approx(0.5, rel=1e-6)


def test_gradients_of_one_step_do_not_leak_into_the_next():
    once, twice = trainer(optimizer=gn.SGD(0.1)), trainer(optimizer=gn.SGD(0.1))
    twice.step(X[:10], LABELS[:10])
    twice.net.load_state_dict(once.net.state_dict())
    for t in (once, twice):
        t.step(X[10:20], LABELS[10:20])
    assert np.array_equal(once.net.store.values, twice.net.store.values)


# --- the network it is given


def test_a_network_without_weights_is_given_them_by_the_seed():
    assert np.array_equal(trainer(seed=3).net.store.values, gn.mlp([4, 8, 3], hidden="tanh").init(3).store.values)
    assert trainer(dtype="float64").net.store.dtype == "float64"


def test_a_network_with_weights_keeps_them_and_moves(backend):
    net = gn.mlp([4, 8, 3]).init(seed=9, dtype="float64")
    before = net.state_dict()
    t = trainer(net, device=backend.device, seed=1)
    assert t.dtype == "float64"
    assert net.store.device == backend.device
    assert all(np.array_equal(before[name], array) for name, array in net.state_dict().items())
    trainer(net, dtype="float32")
    assert net.store.dtype == "float32"


def test_auto_announces_the_device(capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["gpunn.device"], "_announced", set())
    gn.Trainer(gn.mlp([4, 3]))
    gn.Trainer(gn.mlp([4, 3]))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("gpunn: device c")


# --- fit


def test_it_learns(backend):
    t = trainer(device=backend.device)
    history = t.fit((backend.asarray(X), LABELS), epochs=30, batch_size=10)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert t.evaluate((X, LABELS))["accuracy"] > 0.85
    assert history["epoch"] == list(range(1, 31))
    assert history["step"] == [6 * e for e in range(1, 31)]


def test_the_loss_of_an_epoch_is_the_mean_over_its_examples():
    t = trainer(optimizer=gn.SGD(0.0))
    history = t.fit((X, LABELS), epochs=2, batch_size=7)  # the last batch has 4
    by_hand = float(gn.SoftmaxCrossEntropy()(t.net(X), LABELS))
    assert history["loss"] == pytest.approx([by_hand] * 2, rel=1e-6)
    assert t.evaluate((X, LABELS), batch_size=7)["loss"] == pytest.approx(by_hand, rel=1e-6)


def test_the_history_has_the_learning_rate_of_the_last_step_and_the_time():
    schedule = gn.schedules.Cosine(0.1, steps=20)
    begun = time.perf_counter()
    history = trainer(optimizer=gn.SGD(schedule)).fit((X, LABELS), epochs=2, batch_size=6)
    assert history["lr"] == [schedule(9), schedule(19)]
    assert all(0 < seconds < time.perf_counter() - begun for seconds in history["seconds"])


def test_two_fits_are_one_long_fit():
    one, two = trainer(), trainer()
    one.fit((X, LABELS), epochs=5, batch_size=10)
    two.fit((X, LABELS), epochs=2, batch_size=10)
    two.fit((X, LABELS), epochs=3, batch_size=10)
    assert np.array_equal(one.net.store.values, two.net.store.values)
    assert one.history["loss"] == two.history["loss"]


def test_the_same_seed_repeats_a_run_and_another_does_not():
    weights = []
    for seed in (0, 0, 1):
        t = trainer(gn.mlp([4, 8, 3]).init(0), seed=seed)
        t.fit((X, LABELS), epochs=2)
        weights.append(np.array(t.net.store.values))
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])  # another order of batches


def test_validation_is_measured_and_never_trained_on():
    t = trainer()
    x = X.copy()
    valid = (x[:20], LABELS[:20])
    history = t.fit((x[20:], LABELS[20:]), valid=valid, epochs=3)
    assert history.columns == ["epoch", "step", "lr", "loss", "valid_loss", "valid_accuracy", "seconds"]
    measured = t.evaluate(valid)
    assert history[-1]["valid_loss"] == measured["loss"]
    assert history[-1]["valid_accuracy"] == measured["accuracy"]
    without = trainer()
    without.fit((x[20:], LABELS[20:]), epochs=3)
    assert np.array_equal(without.net.store.values, t.net.store.values)


def test_a_fraction_is_set_aside_by_the_seed(backend):
    seen = []

    class Look(gn.Callback):
        def on_start(self, trainer, epochs, batches):
            seen.append(batches)

    t = trainer(device=backend.device)
    t.fit((backend.asarray(X), LABELS), valid=0.5, epochs=1, batch_size=10, callbacks=[Look()])
    assert seen == [3]
    part = gn.Dataset(X, LABELS).split(0.5, seed=0)[1]
    assert t.history[-1]["valid_loss"] == pytest.approx(t.evaluate(part)["loss"], rel=1e-6)


class Worsen(gn.Callback):
    """Spoils the network a little more after every epoch from the third on."""

    def on_step(self, trainer):
        if trainer.epoch >= 3:
            trainer.net.store.values[...] *= 1.5


class Keep(gn.Callback):
    """Keeps the weights after every epoch."""

    def __init__(self):
        self.kept = []

    def on_epoch(self, trainer, row):
        self.kept.append(trainer.net.state_dict())


def test_patience_ends_training_and_the_best_weights_come_back():
    t, keep = trainer(optimizer=gn.SGD(0.01)), Keep()
    history = t.fit((X, LABELS), valid=0.2, epochs=50, patience=4, restore_best=True, callbacks=[Worsen(), keep])
    best = int(np.argmin(history["valid_loss"])) + 1
    assert best < 5
    assert len(history) == best + 4
    assert t.best["epoch"] == best
    assert (t.best["monitor"], t.best["value"]) == ("valid_loss", min(history["valid_loss"]))
    for name, array in t.net.state_dict().items():
        assert np.array_equal(array, keep.kept[best - 1][name])


def test_the_last_weights_stay_unless_the_best_are_asked_for():
    t, keep = trainer(optimizer=gn.SGD(0.01)), Keep()
    t.fit((X, LABELS), valid=0.2, epochs=50, patience=2, callbacks=[Worsen(), keep])
    assert t.best["epoch"] < len(keep.kept) < 50
    assert all(np.array_equal(array, keep.kept[-1][name]) for name, array in t.net.state_dict().items())


def test_what_is_monitored_can_be_chosen():
    t = trainer()
    history = t.fit((X, LABELS), valid=0.2, epochs=6, monitor="valid_accuracy")
    assert (t.best["monitor"], t.best["value"]) == ("valid_accuracy", max(history["valid_accuracy"]))
    assert t.best["epoch"] == history["valid_accuracy"].index(max(history["valid_accuracy"])) + 1
    numbers = trainer(gn.mlp([4, 1]), gn.MeanSquaredError())
    with pytest.raises(
        gn.OptionError, match="monitor 'valid_accuracy' is not measured in this fit; expected valid_loss or"
    ):
        numbers.fit((X, X[:, 0]), valid=0.2, monitor="valid_accuracy")
    with pytest.raises(gn.OptionError, match="monitor 'accuracy' is not measured in this fit; expected loss"):
        t.fit((X, LABELS), monitor="accuracy")


@pytest.mark.parametrize("stop_after", [1, 3, 6, 8, 12])
def test_a_fit_that_is_stopped_goes_on_from_that_very_batch(stop_after):
    whole, broken = trainer(), trainer()
    whole.fit((X, LABELS), valid=0.2, epochs=3, batch_size=8)
    broken.fit((X, LABELS), valid=0.2, epochs=3, batch_size=8, callbacks=StopAfter(stop_after))
    assert broken.steps == stop_after
    broken.fit((X, LABELS), valid=0.2, epochs=3 - broken.epoch, batch_size=8)
    assert np.array_equal(whole.net.store.values, broken.net.store.values)
    for column in ("loss", "valid_loss", "step"):
        assert whole.history[column] == broken.history[column]


def test_an_epoch_begun_with_other_batches_is_not_gone_on_with():
    t = trainer()
    t.fit((X, LABELS), batch_size=8, callbacks=StopAfter(1))
    with pytest.raises(gn.OptionError, match="the epoch that was begun"):
        t.fit((X[:-1], LABELS[:-1]), batch_size=8)
    with pytest.raises(
        gn.OptionError, match=r"epoch that was begun had .*'batch_size': 8.*go on with the same data and batches"
    ):
        t.fit((X, LABELS), batch_size=9)


def test_the_last_batch_can_be_dropped_and_the_order_kept():
    sizes = []

    class Spy(gn.Linear):
        def forward(self, x, *, train=False, key=None):
            if train:
                sizes.append(len(x))
            return super().forward(x, train=train, key=key)

    trainer(Spy(4, 3)).fit((X, LABELS), epochs=1, batch_size=25, drop_last=True, shuffle=False)
    assert sizes == [25, 25]


def test_a_table_is_printed_on_request(capsys):
    trainer().fit((X, LABELS), valid=0.2, epochs=2, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "valid accuracy" in lines[0]
    trainer().fit((X, LABELS), epochs=2)
    assert capsys.readouterr().out == ""


def test_no_epochs_change_nothing():
    t = trainer()
    before = np.array(t.net.store.values)
    assert len(t.fit((X, LABELS), epochs=0)) == 0
    assert np.array_equal(t.net.store.values, before)


# --- using the network


def test_predictions_are_answers_in_the_library_of_the_question(backend):
    t = trainer(gn.mlp([4, 8, 3], output="softmax"))
    p = t.predict(backend.asarray(X), batch_size=13)
    assert gn.device_of(p) == backend.device
    np.testing.assert_allclose(gn.to_host(p), t.net(X), rtol=1e-6)
    assert isinstance(t.predict(X.tolist()), np.ndarray)


def test_predictions_of_logits_have_the_losss_output_applied():
    t = trainer(gn.mlp([4, 8, 3]), gn.SoftmaxCrossEntropy())
    np.testing.assert_allclose(t.predict(X).sum(axis=1), np.ones(60), rtol=1e-6)
    assert trainer(gn.mlp([4, 8, 1]), gn.MeanSquaredError()).predict(X).shape == (60, 1)


def test_evaluation_does_not_depend_on_the_size_of_its_pieces(backend):
    t = trainer(device=backend.device)
    whole, pieces = t.evaluate((X, LABELS)), t.evaluate((backend.asarray(X), LABELS), batch_size=7)
    assert whole == pytest.approx(pieces, rel=1e-5)
    right = (np.argmax(t.net.store.device.to_host(t.predict(X)), axis=1) == LABELS).mean()
    assert whole["accuracy"] == pytest.approx(right)
    assert set(trainer(gn.mlp([4, 1]), gn.MeanSquaredError()).evaluate((X, X[:, 0]))) == {"loss"}


@pytest.mark.parametrize("loss", [gn.MeanSquaredError(), gn.MeanAbsoluteError(), gn.Huber()], ids=repr)
def test_numbers_are_learned_too(loss):
    t = trainer(gn.mlp([4, 16, 1], hidden="tanh"), loss, gn.Adam(0.02))
    y = np.sin(X[:, 0]) + X[:, 1]
    history = t.fit((X, y), epochs=60)
    assert history["loss"][-1] < 0.1 * history["loss"][0]


# --- what goes wrong


@pytest.mark.parametrize(
    ("net", "lr", "where"),
    [
        (gn.mlp([4, 8, 1], hidden="identity"), 1e200, r"the weights linear1\.W"),
        (gn.mlp([4, 8, 1], hidden="identity"), 1e38, "the output of linear1"),
        (gn.mlp([4, 8, 1], hidden="identity"), 1e20, "the output of linear2"),
        (gn.mlp([4, 8, 1], hidden="identity"), 1e15, "the loss itself"),
        (gn.Sequential(gn.Residual(gn.Linear(4, 4), gn.Linear(4, 4))), 1e20, r"the output of residual1\.linear2"),
        (gn.Linear(4, 1), 1e38, "the output of Linear"),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_layer(net, lr, where):
    t = trainer(net, gn.MeanSquaredError(), gn.SGD(lr))
    y = np.ones((60, net.output_shape((4,))[0]))
    rate = re.escape(f"{lr:g}")
    message = rf"became (inf|nan) in step 2 \(epoch 1\);.* are in {where}\. Try a smaller .* \(it is {rate}\)"
    with pytest.raises(gn.Diverged, match=message):
        t.fit((X, y), epochs=100)
    assert t.steps == 1


def test_the_step_that_is_named_is_the_step():
    class Spoil(gn.Callback):
        def on_step(self, trainer):
            if trainer.steps == 9:
                trainer.net.layers[2].W.value[...] = np.inf

    t = trainer()
    with pytest.raises(gn.Diverged, match=r"in step 10 \(epoch 2\); .* in the weights linear2.W"):
        t.fit((X, LABELS), epochs=3, batch_size=10, callbacks=[Spoil()])
    assert t.steps == 9
    with pytest.raises(gn.Diverged, match="in the inputs"):
        trainer().step(X * np.float32("nan"), LABELS)


def test_on_a_gpu_losses_are_looked_at_now_and_then(monkeypatch):
    monkeypatch.setattr("gpunn.train.trainer.READ_EVERY", 4)

    class Count(gn.Callback):
        steps = 0

        def on_step(self, trainer):
            self.steps += 1

    found = {}
    for on_host in (True, False):  # the second counts as a device whose losses cost a wait to read
        monkeypatch.setattr(gn.Device, "on_host", on_host)
        t = trainer(gn.mlp([4, 8, 3]), optimizer=Jump(at=8), device="strict:device1")
        with pytest.raises(gn.Diverged) as error:
            t.fit((X, LABELS), epochs=3, batch_size=10, callbacks=[count := Count()])
        assert count.steps == (8 if on_host else 10)  # noticed before the fifth batch of the second epoch
        found[on_host] = (
            str(error.value),
            t.steps,
            t.batch,
            t.losses.read(),
            [a.tolist() for a in map(gn.to_host, t._kept())],
        )
    assert re.match(r"the loss became (nan|inf) in step 9 \(epoch 2\).* the output of linear2\. Try", found[True][0])
    assert found[False] == found[True]


def test_what_a_callback_did_is_not_taken_for_the_steps_fault(monkeypatch):
    monkeypatch.setattr(gn.Device, "on_host", False)

    class Spoil(gn.Callback):
        def on_step(self, trainer):
            if trainer.steps == 7:
                trainer.net.layers[2].W.value[...] = np.inf

    t = trainer(device="strict:device1")
    with pytest.raises(gn.Diverged, match=r"in step 8 \(epoch 2\)"):
        t.fit((X, LABELS), epochs=3, batch_size=10, callbacks=[Spoil()])
    assert np.isfinite(gn.to_host(t.net.store.values)).all()


def test_a_gpu_run_gives_the_same_history(monkeypatch):
    plain = trainer().fit((X, LABELS), valid=0.2, epochs=2, batch_size=5)
    monkeypatch.setattr(gn.Device, "on_host", False)
    monkeypatch.setattr("gpunn.train.trainer.READ_EVERY", 4)
    later = trainer().fit((X, LABELS), valid=0.2, epochs=2, batch_size=5)
    assert plain["loss"] == later["loss"]


def with_nan(x):
    x = x.copy()
    x[17, 2] = np.nan
    return x


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (lambda: (with_nan(X), LABELS), gn.DataError, "inputs contain NaN or infinity, first in row 17"),
        (lambda: (X[:0], LABELS[:0]), gn.DataError, "there are no rows"),
        (lambda: (np.float32(3), LABELS), gn.DataError, r"inputs have shape \(\)"),
        (lambda: (X, LABELS[:50]), gn.DataError, "60 inputs but 50 targets"),
        (lambda: (X, LABELS + 1), gn.DataError, "label 3 in row .* is out of range"),
        (lambda: (X, X[:, :2]), gn.ShapeError, r"expects targets of shape \(N, 3\), or class numbers 0 to 2"),
        (
            lambda: (X[:, :3], LABELS),
            gn.ShapeError,
            r"Linear expects inputs of shape \(N, 4\), got \(1, 3\) \(the first row of inputs of shape \(60, 3\)\)",
        ),
        (lambda: (X.reshape(60, 2, 2), LABELS), gn.ShapeError, r"put gn.Flatten\(\) before it"),
        (lambda: (X.astype(str), LABELS), gn.DtypeError, "where real numbers are expected"),
        (lambda: (X + 1j, LABELS), gn.DtypeError, "complex64 where real numbers are expected"),
        (lambda: ([[1.0, 2.0], [3.0]], LABELS), gn.DtypeError, "not a rectangular array of numbers"),
        (lambda: X, gn.DataError, r"expected data as a pair \(X, Y\) or a gpunn Dataset, got ndarray"),
        (lambda: X[:2], gn.DataError, "got ndarray"),
        (lambda: {"x": X, "y": LABELS}, gn.DataError, "got dict"),
        (lambda: (gn.Dataset(X, LABELS),) * 2, gn.DataError, r"expected inputs X, got Dataset\(.*too: fit\(train\)"),
        (lambda: (X, LABELS.astype(str)), gn.DtypeError, "names of classes with numpy.unique"),
        (lambda: None, gn.DataError, "got NoneType"),
    ],
)
@pytest.mark.parametrize("use", ["fit", "valid", "evaluate"])
def test_data_that_does_not_fit_is_named(data, error, message, use):
    t = trainer()
    before = np.array(t.net.store.values)
    with pytest.raises(error, match=message):
        if use == "valid" and data() is not None:
            t.fit((X, LABELS), valid=data())
        elif use == "evaluate":
            t.evaluate(data())
        else:
            t.fit(data())
    assert np.array_equal(t.net.store.values, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs must be a whole number, 0 or more, got -1"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number, 1 or more, got 0"),
        ({"patience": 0}, "patience must be a whole number, 1 or more, got 0"),
        ({"valid": 1.5}, "a part of 1.5 of 60 rows"),
        ({"valid": np.float32(1.5)}, "a part of 1.5 of 60 rows"),
        ({"valid": 0.001}, "leaves at least one row on each side"),
        ({"batch_size": 100, "drop_last": True}, "60 rows cannot fill a batch of 100: nothing to train on"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(gn.GpunnError, match=message):
        trainer().fit((X, LABELS), **options)


def test_arguments_that_go_by_name_are_told_so():
    message = r"^fit takes the data as one argument, all else by name: fit\(\(X, y\), .*; got "
    with pytest.raises(gn.OptionError, match=rf"{message}ndarray of shape \(60,\) besides$"):
        trainer().fit(X, LABELS)
    with pytest.raises(gn.OptionError, match=f"{message}5, 8 besides$"):
        trainer().fit((X, LABELS), 5, 8)
    assert list(inspect.signature(gn.Trainer.fit).parameters)[:3] == ["self", "data", "valid"]


def test_a_trainer_takes_a_network():
    with pytest.raises(gn.OptionError, match=r"an instance of Layer, got ndarray of shape \(60, 4\)$"):
        gn.Trainer(X, LABELS)
    with pytest.raises(gn.OptionError, match=r"the network to train must be an instance of Layer, got .Linear"):
        gn.Trainer([gn.Linear(4, 3)], device="cpu")
    for wrong in (0, np.nan, np.inf):
        with pytest.raises(gn.OptionError, match=f"clip_norm must be above 0, got {wrong!r}"):
            trainer(clip_norm=wrong)
    with pytest.raises(gn.OptionError, match="loss must be an instance of Loss, got 'softmax'; make the object"):
        trainer(loss="softmax")
    with pytest.raises(gn.OptionError, match="optimizer must be an instance of Optimizer, got 'adam'; make the object"):
        trainer(optimizer="adam")
    by_class = trainer(loss=gn.SigmoidCrossEntropy, optimizer=gn.RMSprop, seed=np.int64(3))
    assert (repr(by_class.loss), type(by_class.optimizer), by_class.seed) == ("SigmoidCrossEntropy()", gn.RMSprop, 3)


def test_a_batch_that_is_refused_leaves_running_means_as_they_were():
    net = gn.Sequential(gn.Linear(4, 5), gn.BatchNorm(5), gn.ReLU(), gn.Linear(5, 3))
    t = trainer(net)
    t.step(X, LABELS)
    before = net.state_dict()
    with pytest.raises(gn.Diverged, match="are in the inputs"):
        t.step(with_nan(X), LABELS)
    for name, array in net.state_dict().items():
        assert np.array_equal(array, before[name])


def test_a_step_or_an_answer_for_data_that_does_not_fit_is_refused():
    t = trainer()
    with pytest.raises(gn.DataError, match=r"the inputs have shape \(0, 4\): there are no rows"):
        t.step(X[:0], LABELS[:0])
    with pytest.raises(gn.Diverged, match=r"in step 1 .* are in the inputs. Remove such rows, or fill them in$"):
        t.step(with_nan(X), LABELS)
    with pytest.raises(gn.DataError, match="NaN or infinity, first in row 17"):
        t.predict(with_nan(X))
    with pytest.raises(gn.DataError, match=r"the inputs have shape \(\)"):
        t.predict(1.0)
    for use in (lambda size: t.predict(X, size), lambda size: t.evaluate((X, LABELS), size)):
        with pytest.raises(gn.OptionError, match="batch_size must be a whole number, 1 or more, got 0"):
            use(0)


def test_another_question_of_what_is_best_begins_anew():
    t = trainer()
    t.fit((X, LABELS), valid=0.2, epochs=2)
    assert t.best.keys() == {"epoch", "monitor", "value"}
    t.fit((X, LABELS), valid=0.2, epochs=1, monitor="valid_accuracy")
    assert (t.best["epoch"], t.best["monitor"]) == (3, "valid_accuracy")
    t.fit((X, LABELS), valid=0.2, epochs=1, monitor="valid_accuracy", restore_best=True)
    assert t.best["epoch"] == 4
    assert t.best["weights"].keys() == t.net.state_dict().keys()


def test_patience_counts_over_fits():
    t = trainer(optimizer=gn.SGD(0.0))  # no epoch is better than the first
    assert len(t.fit((X, LABELS), valid=0.2, epochs=2, patience=3)) == 2
    assert len(t.fit((X, LABELS), valid=0.2, epochs=9, patience=3)) == 4


def test_numbers_of_numpy_are_numbers():
    history = trainer().fit((X, LABELS), valid=np.float32(0.2), epochs=np.int64(2), batch_size=np.int32(10))
    assert len(history) == 2


def test_a_validation_loss_that_is_not_finite_is_named_too():
    far = X.copy()
    far[7] = 3e38
    with pytest.raises(
        gn.Diverged, match=r"validation loss became nan in step 6 \(epoch 1\).* the output of Linear\. Try a smaller"
    ):
        trainer(gn.Linear(4, 3)).fit((X, LABELS), valid=(far, LABELS), batch_size=10)


@pytest.mark.parametrize("valid", [None, 0.2])
def test_a_last_step_that_spoils_the_weights_is_found(valid):
    t = trainer(optimizer=Jump(at=6, by=np.inf))  # the last of the epoch: no training loss sees it
    with pytest.raises(gn.Diverged, match=r"the weights became NaN or infinite in step 6 \(epoch 1\).* linear1\.W"):
        t.fit((X, LABELS), valid=valid and (X, LABELS), batch_size=10)
    assert len(t.history) == 0


@pytest.mark.parametrize("how", ["runs out", "is stopped", "fails"])
def test_callbacks_hear_of_the_end_however_it_comes(how):
    heard = []

    class Listen(gn.Callback):
        def on_start(self, trainer, epochs, batches):
            heard.append("start")

        def on_step(self, trainer):
            trainer.stop = how == "is stopped"
            if how == "fails":
                raise KeyboardInterrupt

        def on_end(self, trainer):
            heard.append("end")

    try:
        trainer().fit((X, LABELS), epochs=1, callbacks=[Listen()])
    except KeyboardInterrupt:
        assert how == "fails"
    assert heard == ["start", "end"]


def test_a_step_that_was_broken_off_leaves_nothing_behind(monkeypatch):
    whole, broken = trainer(), trainer()

    def broken_off(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(broken.optimizer, "update", broken_off)
        with pytest.raises(KeyboardInterrupt):
            broken.fit((X, LABELS), epochs=1)
    for t in (whole, broken):
        t.fit((X, LABELS), epochs=1)
    assert np.array_equal(whole.net.store.values, broken.net.store.values)


def test_constants_of_numpy_are_kept_in_a_checkpoint(tmp_path, backend):
    optimizer = gn.Adam(np.float64(0.01), beta1=np.float64(0.9), weight_decay=np.float32(0.1))
    t = trainer(optimizer=optimizer, device=backend.device, clip_norm=np.float64(1.0))
    t.fit((X, LABELS), epochs=np.int64(1), batch_size=np.int64(10), shuffle=np.bool_(True))
    gn.save_checkpoint(tmp_path / "c", t)
    momentum = trainer(optimizer=gn.SGD(np.float64(0.1), momentum=np.float64(0.9)), device=backend.device)
    momentum.fit((X, LABELS), epochs=1)
    assert momentum.net.store.values.dtype == backend.device.dtype("float32")


def test_callbacks_may_be_one_or_none_or_a_class():
    class Count(gn.Callback):
        steps = ended = 0

        def on_step(self, trainer):
            type(self).steps += 1

        def on_end(self, trainer):
            type(self).ended += 1

    for callbacks in (Count(), Count, [Count], None, (), [Count(), Count()]):
        trainer().fit((X, LABELS), epochs=1, batch_size=20, callbacks=callbacks)
    assert Count.steps == 3 * 5
    with pytest.raises(gn.OptionError, match="a callback must be an instance of Callback, got 'x'"):
        trainer().fit((X, LABELS), callbacks=["x"])
    with pytest.raises(gn.OptionError, match="must be an instance of Callback, got <built-in function print>"):
        trainer().fit((X, LABELS), callbacks=print)

    class Fails(gn.Callback):
        def on_start(self, trainer, epochs, batches):
            raise ValueError

    Count.ended = 0
    with pytest.raises(ValueError):
        trainer().fit((X, LABELS), callbacks=[Count(), Fails()])
    assert Count.ended == 1


def test_numbers_that_the_data_type_cannot_hold_are_named():
    with pytest.raises(gn.DataError, match="NaN or infinity, first in row 0, in float32"):
        trainer().fit((X.astype("float64") * 1e39, LABELS))


def test_on_a_gpu_nothing_is_looked_at_in_between(monkeypatch):
    """Each look at a number would wait for the GPU: only losses are looked at, and only now and then."""
    strict = pytest.importorskip("array_api_strict")
    device = gn.device("strict:device1")
    monkeypatch.setattr(gn.Device, "on_host", False)
    monkeypatch.setattr("gpunn.losses.on_host", lambda x: False)
    looks = []
    array = type(strict.zeros(1))
    for name in ("__bool__", "__float__", "__int__"):
        method = getattr(array, name)
        monkeypatch.setattr(array, name, lambda self, m=method, n=name: looks.append(n) or m(self))
    t = trainer(device=device, clip_norm=1.0)
    x, y = device.asarray(X), device.asarray(LABELS)
    for _ in range(3):
        t.step(x, y)
    assert looks == []
    t.fit((x, y), epochs=0)  # the data is looked at once
    at_start = len(looks)
    t.fit((x, y), epochs=2, batch_size=10)
    assert len(looks) - 2 * at_start == 2 * (6 + 1)  # each epoch: its six losses, and whether weights are finite


def test_a_stop_with_a_loss_that_was_not_looked_at_names_it(monkeypatch):
    monkeypatch.setattr(gn.Device, "on_host", False)
    t = trainer(gn.mlp([4, 8, 3]), optimizer=Jump(at=8), device="strict:device1")
    with pytest.raises(gn.Diverged, match=r"in step 9 \(epoch 2\)"):
        t.fit((X, LABELS), epochs=3, batch_size=10, callbacks=StopAfter(9))


def test_going_back_takes_running_statistics_and_random_numbers_with_it(monkeypatch):
    found = []
    for on_host in (True, False):
        monkeypatch.setattr(gn.Device, "on_host", on_host)
        net = gn.Sequential(gn.Linear(4, 8), gn.BatchNorm(8), gn.ReLU(), gn.Dropout(0.3), gn.Linear(8, 3))
        t = trainer(net, optimizer=Jump(at=8), device="strict:device1")
        with pytest.raises(gn.Diverged, match=r"in step 9 \(epoch 2\)"):
            t.fit((X, LABELS), epochs=2, batch_size=10)
        found.append(t.net.state_dict())
    for name, array in found[0].items():
        assert np.array_equal(array, found[1][name], equal_nan=True)


# --- too little memory


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_that_does_not_fit_is_taken_in_parts(backend, late, weighted):
    ends = []
    for most in (60, 4):
        layer = Greedy(most, late)
        net = gn.Sequential(gn.Linear(4, 8), layer, gn.Linear(8, 3))
        loss = gn.losses.Weighted(gn.SoftmaxCrossEntropy()) if weighted else None
        t = trainer(net, loss, device=backend.device, dtype="float64", clip_norm=0.1)
        y = (LABELS, np.arange(60)) if weighted else LABELS
        if most == 60:
            t.fit((X, y), epochs=2, batch_size=25)
        else:
            with pytest.warns(
                RuntimeWarning, match="too little memory for a batch of 25 rows: gradients .* of 13"
            ) as w:
                t.fit((X, y), epochs=2, batch_size=25)
            assert len(w) == 1
            assert layer.passes[:9] == [25, 13, 7, 4, 4, 4, 4, 4, 4]
            assert sorted(set(layer.passes[3:])) == [1, 2, 4]  # the last batch is of ten rows
        ends.append((t.history["loss"], gn.to_host(t.net.store.values)))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-12)
    np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-10, atol=1e-14)


def test_the_parts_of_a_batch_have_masks_of_their_own():
    masks = []

    class Spy(gn.Dropout):
        def forward(self, x, *, train=False, key=None):
            y, mask = super().forward(x, train=train, key=key)
            if train:
                masks.append(np.array(mask))
            return y, mask

    t = trainer(gn.Sequential(gn.Linear(4, 8), Spy(0.5), Greedy(30), gn.Linear(8, 3)))
    with pytest.warns(RuntimeWarning, match="too little memory"):
        t.step(X, LABELS)
    assert [len(mask) for mask in masks] == [60, 30, 30]
    assert not np.array_equal(masks[1], masks[2])


def no_memory(x):
    raise MemoryError


def test_answers_and_measures_in_as_many_pieces_as_fit():
    class Small(gn.Identity):
        def infer(self, x):
            if x.shape[0] > 7:
                raise MemoryError
            return x

    small, plain = trainer(gn.Sequential(gn.Linear(4, 3), Small())), trainer(gn.Linear(4, 3))
    small.net.load_state_dict({f"linear1.{name}": array for name, array in plain.net.state_dict().items()})
    np.testing.assert_allclose(small.predict(X), plain.predict(X), rtol=1e-6)
    assert small.evaluate((X, LABELS)) == pytest.approx(plain.evaluate((X, LABELS)), rel=1e-6)
    small.net.layers[1].infer = no_memory
    with pytest.raises(MemoryError):
        small.predict(X)


def test_when_not_even_one_row_fits_it_is_said_what_is_there():
    t = trainer(gn.Sequential(gn.Linear(4, 8), Greedy(0), gn.Linear(8, 3)))
    before = np.array(t.net.store.values)
    message = r"cpu has too little memory for a step on a single row: 67 parameters, .* what Adam keeps, take 0.0 MiB, "
    with (
        pytest.warns(RuntimeWarning, match="of 60 rows"),
        pytest.raises(gn.OutOfMemory, match=message + r"and [\d,]+ of [\d,]+ MiB are free\. A smaller network"),
    ):
        t.step(X, LABELS)
    assert np.array_equal(t.net.store.values, before)
    assert isinstance(gn.OutOfMemory(""), MemoryError)
