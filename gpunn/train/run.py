"""`gpunn train`: from options to a folder with the trained network, its history, and all it takes to go on."""

import dataclasses
import itertools
import json
import math
import os
import platform
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from gpunn import losses, optim, schedules
from gpunn.data import Dataset, datasets, read_csv, read_npz
from gpunn.device import Device, devices
from gpunn.device import device as find_device
from gpunn.errors import DataError, Diverged, FileError, OptionError
from gpunn.io import load, save
from gpunn.io.atomic import remove_leftovers, write_atomic
from gpunn.layers import Layer, Linear, Sequential, Standardize
from gpunn.models import mlp
from gpunn.plot import draw_curves
from gpunn.train.checkpoint import load_checkpoint, save_checkpoint
from gpunn.train.config import Config
from gpunn.train.history import Row
from gpunn.train.table import EpochTable
from gpunn.train.trainer import Callback, Trainer

__all__ = ["Stopped", "blas", "evaluate", "load_data", "make_network", "open_run", "run_config", "train", "versions"]

_LOSSES = {
    "softmax": losses.SoftmaxCrossEntropy,
    "sigmoid": losses.SigmoidCrossEntropy,
    "quadratic": losses.Quadratic,
    "mse": losses.MeanSquaredError,
    "mae": losses.MeanAbsoluteError,
    "huber": losses.Huber,
}
_OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
}


_MADE_IN_BOX = {"digits": {"box": 8}, "mnist": {"box": 20}}  # how large the digits are in their images; see read_image


class Stopped(Exception):
    """A signal ended the run in good order; `number` is the signal's."""

    def __init__(self, number: int, folder: Path) -> None:
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name}; to go on: gpunn train --resume {shlex.quote(str(folder))}")
        self.number = number


# --- data


def load_data(config: Config) -> tuple[Dataset, Dataset]:
    """(train, test) of the data a config names: digits, mnist, a .npz or a .csv file. Raises FileError or DataError."""
    name = config.data
    if name == "digits":
        return datasets.digits()
    if name == "mnist":
        return datasets.mnist(config.data_dir or None)
    suffix = Path(name).suffix.lower()
    if suffix not in (".npz", ".csv"):
        raise OptionError(f"data {name!r} is not known; expected digits, mnist, or a file that ends in .npz or .csv")
    if not os.path.isfile(name):  # which, unlike Path, answers for names that no file can have
        raise FileError(f"{name}: there is no such file; a path begins in the folder you are in")
    parts = {"all": read_csv(name, config.target or None)} if suffix == ".csv" else read_npz(name)
    train, test = _split(parts["all"], 0.2, name) if "all" in parts else (parts["train"], parts["test"])
    try:
        return _as_task(train, test, config.task)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def _split(data: Dataset, fraction: float, name: str, seed: int = 0, hint: str = "") -> tuple[Dataset, Dataset]:
    try:
        return data.split(fraction, seed)
    except DataError as error:
        raise DataError(f"{name}: {error}{hint}") from None


def _as_task(train: Dataset, test: Dataset, task: str) -> tuple[Dataset, Dataset]:
    """The targets as class numbers from 0, or as they are where they are quantities."""
    y = np.concatenate([train.y, test.y])
    if y.ndim == 2 and y.shape[1] == 1:
        train, test = (dataclasses.replace(part, y=part.y[:, 0]) for part in (train, test))
        return _as_task(train, test, task)
    values = np.unique(y)
    whole = y.ndim == 1 and (y.dtype.kind in "biu" or bool((values == np.round(values)).all()))
    if task == "auto":  # text, or a few whole numbers, each several times over
        few = whole and len(values) <= min(100, len(y) // 2)
        task = "classification" if few or train.classes else "regression"
    if task == "regression":
        if train.classes:
            raise DataError(f"regression needs numbers as targets, got text such as {train.classes[0]!r}")
        return train, test
    if not whole:
        what = f"rows of {y.shape[1]}" if y.ndim > 1 else "such as " + str(values[values != np.round(values)][0])
        raise DataError(f"classification needs whole numbers or text as targets, got {what}; choose task regression")
    if len(values) < 2:
        raise DataError(f"the target has the one value {values[0]}: there is nothing to tell apart")
    names = train.classes or tuple(str(v) if y.dtype.kind == "b" else str(int(v)) for v in values)
    first, second = (
        dataclasses.replace(part, y=np.searchsorted(values, part.y), classes=names) for part in (train, test)
    )
    return first, second


# --- from a config to a trainer


def make_network(config: Config, train: Dataset) -> Sequential:
    """The multilayer perceptron for this data; its first layer standardises features, and brings pixels to 0 ... 1."""
    loss = make_loss(config, train)
    n_out = len(train.classes) or train.y[0].size
    net = mlp([train.x.shape[1], *config.hidden, n_out], hidden=config.activation, output=loss.output)
    in_bytes = train.x.dtype == np.uint8  # which the trainer divides by 255
    white = 1.0 if in_bytes else float(train.x.max())
    if train.image_shape is None:
        net = Sequential(Standardize.of(train.x / 255 if in_bytes else train.x), *net.layers, output=net.output)
    elif white > 1.0:
        scale = np.full(train.x.shape[1], white)
        net = Sequential(Standardize(0 * scale, scale), *net.layers, output=net.output)
    net.about = {"classes": list(train.classes)}
    if train.image_shape is not None:
        net.about |= {"image_shape": list(train.image_shape), "white": white, **_MADE_IN_BOX.get(config.data, {})}
    return net


def make_loss(config: Config, train: Dataset) -> losses.Loss:
    """The loss a config names, or the one that suits the targets. Raises OptionError for one that does not."""
    if train.classes and config.loss in ("mse", "mae", "huber"):
        raise OptionError(f"loss {config.loss} is for quantities, and the targets are classes; choose softmax, say")
    return _LOSSES[config.loss or ("softmax" if train.classes else "mse")]()


def make_optimizer(config: Config, steps: int) -> optim.Optimizer:
    """The optimiser and schedule a config names, over `steps` steps in all."""
    steps = max(steps, 1)
    makers: dict[str, Callable[[], schedules.Schedule]] = {
        "constant": lambda: schedules.Constant(config.lr),
        "step": lambda: schedules.Step(config.lr, every=-(-steps // 3)),
        "exponential": lambda: schedules.Exponential(config.lr, steps, factor=0.01),
        "inverse": lambda: schedules.InverseTime(config.lr, half=-(-steps // 4)),
        "cosine": lambda: schedules.Cosine(config.lr, steps),
    }
    schedule = makers[config.schedule]()
    if config.warmup:
        schedule = schedules.Warmup(config.warmup, schedule)
    more = {"momentum": config.momentum} if config.optimizer == "sgd" else {}
    return _OPTIMIZERS[config.optimizer](schedule, weight_decay=config.weight_decay, **more)


# --- the run


def train(
    config: Config, out: str | None = None, *, resume: str | None = None, quiet: bool = False
) -> tuple[Path, dict[str, Any]]:
    """Train as the config says; returns the run folder and the summary that is written there.

    The folder is `out`, which must be new or empty, or runs/NAME-<time>. With `resume`, the folder of a run, training
    begins where its checkpoint stands. Raises Stopped after SIGINT or SIGTERM, once the step in progress is done and
    the checkpoint written.
    """

    def say(text: str) -> None:
        if not quiet:
            print(text, flush=True)

    where = find_device(config.device, announce=False)
    say(f"device   {where.name}: {where.reason}")
    everything, test = load_data(config)
    rest, valid = everything, None
    if config.valid:
        hint = "; --valid 0 sets none aside"
        rest, valid = _split(everything, config.valid, config.data, config.seed, hint)
    task = f"{len(rest.classes)} classes" if rest.classes else "regression"
    parts = [f"{len(rest):,} rows to train on", f"{len(test):,} to test on"]
    if valid:
        parts.insert(1, f"{len(valid):,} to watch progress")
    say(f"data     {config.data}: {task}; {', '.join(parts)}")
    if not rest.classes and not 0.01 < np.abs(rest.y).max() < 100:
        say(f"note     targets go up to {np.abs(rest.y).max():.3g}; rescale them to about 1, and it will learn better")
    net = make_network(config, rest)
    trainer = make_trainer(config, net, rest, where)
    sizes = [layer.n_in for layer in net.layers if isinstance(layer, Linear)] + [*(net.output_shape(None) or ())]
    say(f"network  {'-'.join(map(str, sizes))} {config.activation}, {net.store.size:,} parameters")
    trainer.fit(rest, valid=valid, epochs=0, batch_size=config.batch_size)  # looks at all data before a file is made
    trainer.evaluate(test)

    if resume is None:
        folder = _new_folder(config, out)
        say(f"folder   {folder}")
    else:
        folder = Path(resume)
        _go_on(folder, trainer, config, len(rest))
        done = f"{trainer.epoch} of {config.epochs} epochs done"
        say(f"folder   {folder}, {done}{f' and {trainer.batch} batches' if trainer.batch else ''}")
    write_atomic(folder / "config.toml", config.to_toml())
    table = EpochTable()
    with _signals() as received:
        progress = _Progress(folder, config, received)
        progress.write(trainer)
        try:
            trainer.fit(
                rest,
                valid=valid,
                epochs=0 if _tired(trainer, config.patience) else config.epochs - trainer.epoch,
                batch_size=config.batch_size,
                patience=config.patience or None,
                restore_best=bool(config.patience),
                callbacks=[*([] if quiet else [table]), progress],
            )
        finally:
            table.close()
        if received:
            if trainer.stop:  # otherwise training has ended: its checkpoint is there, and the best weights are back
                progress.write(trainer)
            save(folder / "model.safetensors", net)
            raise Stopped(received[0], folder)
    save(folder / "model.safetensors", net)
    return folder, _summarize(config, folder, trainer, len(rest), test)


def make_trainer(config: Config, net: Layer, train: Dataset, where: Device) -> Trainer:
    """The trainer that a config describes."""
    batches = -(-len(train) // config.batch_size)
    return Trainer(
        net,
        make_loss(config, train),
        make_optimizer(config, config.epochs * batches),
        device=where,
        dtype=config.dtype,
        seed=config.seed,
        clip_norm=config.clip_norm or None,
    )


class _Progress(Callback):
    """Writes the checkpoint and the history after every epoch, and ends the fit once a signal was received."""

    def __init__(self, folder: Path, config: Config, received: list[int]) -> None:
        self.folder, self.config, self.received = folder, dataclasses.asdict(config), received

    def write(self, trainer: Trainer) -> None:
        save_checkpoint(self.folder / "checkpoint.safetensors", trainer, self.config)
        write_atomic(self.folder / "history.csv", trainer.history.to_csv())

    def on_step(self, trainer: Trainer) -> None:
        if self.received:
            trainer.stop = True

    def on_epoch(self, trainer: Trainer, row: Row) -> None:
        self.write(trainer)
        self.on_step(trainer)


def _tired(trainer: Trainer, patience: int) -> bool:
    """Whether the run that left the checkpoint had ended for want of a better epoch."""
    return bool(patience and trainer.best) and trainer.epoch - trainer.best["epoch"] >= patience


def _new_folder(config: Config, out: str | None) -> Path:
    base = Path("runs") / f"{Path(config.data).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = Path(out) if out is not None else base
    try:
        if out is None:
            base.parent.mkdir(exist_ok=True)
            numbered = (base.with_name(f"{base.name}-{i}") for i in itertools.count(2))
            return next(path for path in itertools.chain([base], numbered) if _is_new(path))
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        used = any(folder.iterdir())
    except OSError as error:
        raise FileError(f"{folder}: cannot be made: {error.strerror}; name another with --out") from None
    if used:
        go_on = f"gpunn train --resume {shlex.quote(str(folder))}"
        raise FileError(f"{folder}: is not empty; name another with --out, or go on with the run in it: {go_on}")
    return folder


def _is_new(folder: Path) -> bool:
    """Make a folder; whether nobody was quicker."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _go_on(folder: Path, trainer: Trainer, config: Config, rows: int) -> None:
    """Bring the trainer to where the run in the folder stands. Raises FileError or OptionError if they do not fit."""
    path = folder / "checkpoint.safetensors"
    remove_leftovers(folder)
    if not path.exists() and not (folder / "model.safetensors").exists():
        return  # the run was ended before it had written its first
    before = load_checkpoint(path, trainer)
    for name, now in dataclasses.asdict(config).items():
        if name not in ("epochs", "device", "data_dir", "patience") and before.get(name) != now:
            raise FileError(
                f"{path}: a checkpoint of a run with {name} = {before.get(name)!r}, and config.toml has {now!r}"
            )
    if (found := trainer.order.get("rows", rows)) != rows:
        raise FileError(f"{path}: a checkpoint of a run on {found} rows of {config.data}, which now has {rows}")
    begun = trainer.epoch + (trainer.batch > 0)
    if config.epochs < begun:
        raise OptionError(f"epochs must be at least {begun}, the epoch that {folder} has come to, got {config.epochs}")
    if config.patience and trainer.best and "weights" not in trainer.best:
        raise OptionError(f"{folder}: the run had no patience, so its best weights were not kept; leave out --patience")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """While it lasts, the first SIGINT or SIGTERM is only noted in the list; a second one ends the program."""
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        received.append(number)

    if threading.current_thread() is not threading.main_thread():  # signals are not for us
        yield received
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _summarize(config: Config, folder: Path, trainer: Trainer, rows: int, test: Dataset) -> dict[str, Any]:
    history = trainer.history
    measured = trainer.evaluate(test)
    if not math.isfinite(measured["loss"]):
        raise Diverged(f"the test loss is {measured['loss']} after epoch {trainer.epoch}; try a smaller learning rate")
    seconds = sum(history["seconds"]) if len(history) else 0.0
    summary = {
        "name": config.data,
        "device": trainer.device.name,
        "device_reason": trainer.device.reason,
        "backend": trainer.device.backend,
        "dtype": trainer.dtype,
        "seed": config.seed,
        "epochs": trainer.epoch,
        "best_epoch": trainer.best.get("epoch"),
        "parameters": trainer.net.store.size,
        "train_loss": history[-1]["loss"] if len(history) else None,
        "test_loss": measured["loss"],
        "test_accuracy": measured.get("accuracy"),
        "seconds": seconds,
        "samples_per_second": rows * trainer.epoch / seconds if seconds else None,
        "versions": versions(),
        "blas": blas(),
    }
    write_atomic(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    draw_curves(history, folder / "curves.png")
    return summary


# --- using a run


def run_config(folder: str | Path, more: dict[str, Any] | None = None) -> Config:
    """The config of a run folder, with the options in `more` over it. Raises FileError or OptionError."""
    path = os.path.join(folder, "config.toml")
    if not os.path.isfile(path):
        raise FileError(f"{folder}: there is no run in this folder: it has no config.toml")
    return Config.read(path, more)


def open_run(folder: str | Path) -> tuple[Config, Layer]:
    """The config and the trained network of a run folder. Raises FileError."""
    return run_config(folder), load(Path(folder) / "model.safetensors")


def evaluate(folder: str | Path, device: str | None = None, data_dir: str | None = None) -> dict[str, float]:
    """The loss and accuracy of a run's network on its test data."""
    config, net = open_run(folder)
    if data_dir:
        config.data_dir = data_dir
    train, test = load_data(config)
    if list(train.classes) != net.about.get("classes"):
        raise DataError(f"{config.data}: the classes are not those that the network in {folder} was trained on")
    where = find_device(device or config.device, announce=False)
    return make_trainer(config, net, train, where).evaluate(test)


# --- what a run is recorded with


def versions(in_use: bool = True) -> dict[str, str]:
    """The versions of Python and the packages that numbers may depend on: of those in use, or of all that are here."""
    found = {"python": platform.python_version()}
    packages = ("gpunn", "numpy", "array-api-compat", "safetensors", "cupy-cuda12x", "cupy-cuda13x", "torch")
    for package in (*packages, "array-api-strict"):
        if not in_use or package.partition("-cuda")[0].replace("-", "_") in sys.modules:
            with suppress(metadata.PackageNotFoundError):
                found[package] = metadata.version(package)
    return found


def blas() -> list[dict[str, Any]]:
    """The libraries that multiply matrices here: name, version, kernel (the processor it is written for), threads.

    The last bits of a result depend on the kernel and the number of threads.
    """
    from threadpoolctl import threadpool_info

    return [
        {
            "library": pool["internal_api"],
            "version": pool["version"],
            "kernel": pool.get("architecture"),
            "threads": pool["num_threads"],
        }
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]


def information() -> dict[str, Any]:
    """What `gpunn info` tells: devices with reasons, versions, matrix libraries, processors."""
    return {
        "devices": [dataclasses.asdict(report) for report in devices()],
        "auto": str(find_device("auto", announce=False)),
        "versions": versions(in_use=False),
        "blas": blas(),
        "processors": os.cpu_count(),
    }
