import numpy as np
import pytest

import gpunn as gn
from gpunn.train import History
from tests.train.callbacks import StopAfter

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 3)), RNG.integers(0, 2, 40)


def cuts(values, patience=2, column="valid_loss"):
    return gn.Plateau(patience=patience).cuts(History([{column: value} for value in values]), column)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([], 0),
        ([5, 4, 3, 2], 0),
        ([5, 6], 0),
        ([5, 6, 5], 1),  # equal is not better
        ([5, 6, 4, 5, 3], 0),
        ([5, 6, 7, 8, 9], 2),  # counted anew after a cut
        ([5, 6, 7, 4, 5, 5], 2),
        ([np.nan, 5, np.nan, 6, np.nan, 6], 1),  # epochs that were not measured
    ],
)
def test_the_rate_is_cut_where_epochs_bring_nothing_better(losses, expected):
    assert cuts(losses) == expected


def test_more_accuracy_is_better():
    assert cuts([0.5, 0.6, 0.7, 0.8], column="valid_accuracy") == 0
    assert cuts([0.8, 0.7, 0.6], column="valid_accuracy") == 1


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_the_cuts_are_pytorchs(patience):
    torch = pytest.importorskip("torch")
    values = RNG.standard_normal(60).cumsum() - 0.1 * np.arange(60)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    # its patience is the number of epochs that are forgiven
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience - 1, threshold=0.0, eps=0
    )
    for n, value in enumerate(values, start=1):
        theirs.step(value)
        assert 0.5 ** cuts(values[:n], patience) == optimizer.param_groups[0]["lr"]


def new():
    schedule = gn.schedules.Step(0.3, every=30, factor=0.5)
    return gn.Trainer(gn.mlp([3, 4, 2]), optimizer=gn.SGD(schedule, momentum=0.9), device="cpu", dtype="float64")


def fit(trainer, epochs, *more, **options):
    callbacks = [gn.Plateau(0.5, patience=2), *more]
    return trainer.fit((X, Y), valid=0.25, epochs=epochs, batch_size=10, callbacks=callbacks, **options)


def test_it_works_beside_a_schedule():
    trainer = new()
    history = fit(trainer, 20)
    expected = [
        trainer.optimizer.lr(row["step"] - 1) * 0.5 ** cuts(history["valid_loss"][:epoch])
        for epoch, row in enumerate(history)
    ]
    assert history["lr"] == expected
    assert cuts(history["valid_loss"]) >= 2
    assert trainer.optimizer.scale == 1.0  # it belongs to the fit, not to the optimiser


def test_the_weights_feel_it():
    trainer = gn.Trainer(gn.Linear(1, 1, init="zeros", bias=False), gn.MeanAbsoluteError(), gn.SGD(1.0), device="cpu")

    class Worse(gn.Callback):
        def on_epoch(self, trainer, row):
            row["made_up"] = 1.0

    where = []

    class Watch(gn.Callback):
        def on_step(self, trainer):
            where.append(float(trainer.net.state_dict()["W"][0, 0]))

    callbacks = [Worse(), gn.Plateau(0.5, patience=1, monitor="made_up"), Watch()]
    trainer.fit(([[1.0]], [[100.0]]), epochs=4, batch_size=1, callbacks=callbacks)  # the gradient is -1
    assert where == [1.0, 2.0, 2.5, 2.75]


@pytest.mark.parametrize("stop", [30, 31, 44])
def test_a_resumed_run_goes_on_with_the_same_rate(tmp_path, stop):
    whole, first, second = new(), new(), new()
    fit(whole, 20)
    fit(first, 20, StopAfter(stop))
    gn.save_checkpoint(tmp_path / "c.safetensors", first)
    gn.load_checkpoint(tmp_path / "c.safetensors", second)
    assert 0 < cuts(second.history["valid_loss"]) < cuts(whole.history["valid_loss"])
    fit(second, 20 - second.epoch)
    assert second.history["lr"] == whole.history["lr"]
    assert second.history["loss"] == whole.history["loss"]
    assert np.array_equal(second.net.store.values, whole.net.store.values)


@pytest.mark.parametrize("told", [False, True])
def test_it_goes_by_what_the_fit_monitors_or_what_it_is_told(told):
    trainer = new()
    plateau = gn.Plateau(0.5, patience=2, monitor="loss" if told else None)
    fit_by = "valid_accuracy" if told else "loss"
    history = trainer.fit((X, Y), valid=0.25, epochs=30, batch_size=10, monitor=fit_by, callbacks=[plateau])
    found = [lr / trainer.optimizer.lr(row["step"] - 1) for lr, row in zip(history["lr"], history, strict=True)]

    def rates(column):
        return [0.5 ** cuts(history[column][:epoch], column=column) for epoch in range(30)]

    assert found == rates("loss")
    assert found != rates("valid_loss")
    assert found != rates("valid_accuracy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 1.0}, "Plateau: factor must be at least 0 and below 1, got 1.0"),
        ({"factor": -0.1}, "Plateau: factor must be at least 0"),
        ({"patience": 0}, "Plateau: patience must be a whole number, 1 or more, got 0"),
    ],
)
def test_constants_out_of_range_are_named(options, message):
    with pytest.raises(gn.OptionError, match=message):
        gn.Plateau(**options)


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(gn.OptionError, match="history has no column 'f1'; it has epoch, step, lr"):
        new().fit((X, Y), epochs=1, callbacks=[gn.Plateau(monitor="f1")])
