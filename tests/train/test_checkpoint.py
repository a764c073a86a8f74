import functools
import json

import numpy as np
import pytest

import gpunn as gn
from gpunn.errors import Diverged, FileError
from gpunn.io.tensors import read_tensors, write_tensors
from gpunn.train import Trainer, load_checkpoint, save_checkpoint
from tests.train.callbacks import StopAfter

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((22, 3)), RNG.integers(0, 2, 22)
OPTIMIZERS = {
    "sgd": lambda: gn.SGD(0.1),
    "momentum": lambda: gn.SGD(0.1, momentum=0.9),
    "adam": lambda: gn.Adam(gn.schedules.Cosine(0.1, 20)),
    "rmsprop": lambda: gn.RMSprop(0.01),
    "adagrad": lambda: gn.Adagrad(0.1),
    "nadam": lambda: gn.NAdam(0.1),
    "adamax": lambda: gn.Adamax(0.1),
    "adadelta": lambda: gn.Adadelta(),
    "lion": lambda: gn.Lion(0.01),
    "muon": lambda: gn.Muon(0.05),
    "rising momentum": lambda: gn.SGD(0.1, momentum=gn.schedules.Polynomial(0.5, 10, end=0.9)),
    "groups": lambda: gn.Adam(0.1, weight_decay=0.1, groups={"linear1": {"lr_factor": 0.1, "weight_decay": 0.0}}),
}


def new(optimizer="adam", *, device="cpu", dtype="float64", seed=0, width=4, **more):
    hidden = gn.BatchNorm(width), gn.Tanh(), gn.Dropout(0.3)  # which keep something, and draw at random
    net = gn.Sequential(gn.Linear(3, width), *hidden, gn.Linear(width, 2))
    return Trainer(net, optimizer=OPTIMIZERS[optimizer](), device=device, dtype=dtype, seed=seed, **more)


def fit(trainer, epochs, stop=None):
    callbacks = [] if stop is None else [StopAfter(stop)]
    trainer.fit((X, Y), valid=0.2, epochs=epochs, batch_size=5, patience=99, restore_best=True, callbacks=callbacks)
    return trainer


def everything(trainer):
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in trainer.history]
    state = {name: trainer.device.to_host(flat).tolist() for name, flat in trainer.state.items()}
    weights = {name: array.tolist() for name, array in trainer.net.state_dict().items()}
    best = {**trainer.best, "weights": {n: a.tolist() for n, a in trainer.best.get("weights", {}).items()}}
    place = (trainer.epoch, trainer.batch, trainer.steps, trainer.order, trainer.losses.read() if trainer.batch else 0)
    return rows, state, weights, best, place


@functools.cache
def whole(optimizer, device):
    """Everything of a trainer that was not stopped."""
    return everything(fit(new(optimizer, device=device), 4))


@pytest.mark.parametrize("stop", [6, 8], ids=lambda n: f"stopped after step {n} of 4 an epoch")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_trainer_goes_on_to_the_very_same_numbers(tmp_path, backend, optimizer, stop):
    first = fit(new(optimizer, device=backend.device), 4, stop)
    save_checkpoint(tmp_path / "c.safetensors", first, {"lr": 0.1})
    second = new(optimizer, device=backend.device)
    assert load_checkpoint(tmp_path / "c.safetensors", second) == {"lr": 0.1}
    assert everything(second) == everything(first)
    assert second.history.rows == first.history.rows
    fit(second, 4 - second.epoch)
    assert everything(second) == whole(optimizer, backend.device)


def test_float32_comes_back_to_the_bit(tmp_path):
    first = fit(new(dtype="float32"), 4, 6)
    save_checkpoint(tmp_path / "c.safetensors", first)
    second = new(dtype="float32")
    load_checkpoint(tmp_path / "c.safetensors", second)
    assert everything(second) == everything(first)


def test_a_new_trainer_can_be_saved(tmp_path):
    save_checkpoint(tmp_path / "c.safetensors", new())
    second = fit(new(), 1)
    assert load_checkpoint(tmp_path / "c.safetensors", second) == {}
    assert everything(second) == everything(new())


def refused(path, trainer, message):
    before = everything(trainer)
    with pytest.raises(FileError, match=message) as error:
        load_checkpoint(path, trainer)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert everything(trainer) == before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"seed": 1}, "a run with seed 0, and this one has 1"),
        ({"dtype": "float32"}, "a run with dtype 'float64', and this one has 'float32'"),
        ({"optimizer": "sgd"}, "a run with optimizer 'Adam', and this one has 'SGD'"),
        ({"width": 5}, "another network"),
    ],
)
def test_a_checkpoint_of_another_run_changes_nothing(tmp_path, other, message):
    save_checkpoint(tmp_path / "c.safetensors", fit(new(), 1))
    refused(tmp_path / "c.safetensors", new(**other), message)


def test_a_checkpoint_without_momentum_or_of_another_width_changes_nothing(tmp_path):
    save_checkpoint(tmp_path / "c.safetensors", fit(new("sgd"), 1))
    refused(tmp_path / "c.safetensors", new("momentum"), "of an optimiser that keeps nothing, and this one keeps v")
    refused(tmp_path / "c.safetensors", new("sgd", width=5), "linear1.W")


@pytest.mark.parametrize("part", [0, 7, 100, 0.5, -1])
def test_a_truncated_checkpoint_is_named(tmp_path, part):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, fit(new(), 1))
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content)) if isinstance(part, float) else part])
    refused(path, new(), "not a safetensors file, or a damaged one")


def test_a_file_of_something_else_is_named(tmp_path):
    trainer = new()
    gn.save(tmp_path / "net.safetensors", trainer.net)
    refused(tmp_path / "net.safetensors", trainer, "holds a network, expected a checkpoint")
    (tmp_path / "c.safetensors").write_text("weights")
    refused(tmp_path / "c.safetensors", trainer, "not a safetensors file")
    refused(tmp_path / "none.safetensors", trainer, "there is no such file")


@pytest.mark.parametrize("name", ["steps", "epoch", "batch", "order", "seconds", "losses", "history", "best", "config"])
def test_a_description_that_lacks_something_is_named(tmp_path, name):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, fit(new(), 1))
    tensors, about = read_tensors(path, "checkpoint")
    for changed in ({k: v for k, v in about.items() if k != name}, about | {name: "text"}):
        write_tensors(path, "checkpoint", tensors, changed)
        refused(path, new(), f"its description lacks {name!r}")


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_numbers_that_are_not_finite_do_not_replace_the_last_good_checkpoint(tmp_path, wrong):
    path, trainer = tmp_path / "c.safetensors", fit(new(), 1)
    save_checkpoint(path, trainer)
    good = path.read_bytes()
    trainer.state["v"][3] = wrong
    with pytest.raises(Diverged, match=r"NaN or infinity in 'optimizer/v/linear1.W' after step 4 \(epoch 1\)"):
        save_checkpoint(path, trainer)
    trainer = fit(new(), 1)
    trainer.history[-1]["valid_loss"] = wrong
    with pytest.raises(Diverged, match="NaN or infinity in 'valid_loss'"):
        save_checkpoint(path, trainer)
    assert path.read_bytes() == good
    load_checkpoint(path, new())


def test_the_description_is_plain_json(tmp_path):
    save_checkpoint(tmp_path / "c.safetensors", fit(new(), 2, 3), {"data": "été 😀"})
    _, about = read_tensors(tmp_path / "c.safetensors", "checkpoint")
    assert json.loads(json.dumps(about, allow_nan=False)) == about
    assert about["config"] == {"data": "été 😀"}
