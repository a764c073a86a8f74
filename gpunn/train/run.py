"""`gpunn train`: from options to a folder with the trained network, its history, and all it takes to go on."""

import dataclasses
import itertools
import json
import os
import platform
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
from gpunn.errors import DataError, FileError, OptionError
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

__all__ = ["Stopped", "blas", "evaluate", "load_data", "make_network", "open_run", "train", "versions"]

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
        super().__init__(f"stopped by {name}; to go on: gpunn train --resume {folder}")
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
    if not Path(name).is_file():
        raise FileError(f"{name}: there is no such file")
    parts = {"all": read_csv(name, config.target or None)} if suffix == ".csv" else read_npz(name)
    if "all" in parts:
        train, test = parts["all"].split(0.2)
    else:
        train, test = parts["train"], parts["test"]
    return _as_task(train, test, config.task)


def _as_task(train: Dataset, test: Dataset, task: str) -> tuple[Dataset, Dataset]:
    """The targets as class numbers from 0, or as they are where they are quantities."""
    y = np.concatenate([train.y, test.y])
    whole = y.dtype.kind in "biu" and y.ndim == 1
    values = np.unique(y)
    if task == "auto":  # text, or a few whole numbers, each several times over
        few = whole and len(values) <= min(100, len(y) // 2)
        task = "classification" if few or train.classes else "regression"
    if task == "regression" or y.ndim == 2:
        return train, test
    if not whole:
        raise DataError(f"classification needs whole numbers or text as targets, got {y.dtype}; choose task regression")
    if len(values) < 2:
        raise DataError(f"the target has the one value {values[0]}: there is nothing to tell apart")
    names = train.classes or tuple(str(value) for value in values)
    first, second = (
        dataclasses.replace(part, y=np.searchsorted(values, part.y), classes=names) for part in (train, test)
    )
    return first, second


# --- from a config to a trainer


def make_network(config: Config, train: Dataset) -> Sequential:
    """The multilayer perceptron for this data; features that are not pixels are standardised by its first layer."""
    loss = make_loss(config, train)
    n_out = len(train.classes) or train.y[0].size
    net = mlp([train.x.shape[1], *config.hidden, n_out], hidden=config.activation, output=loss.output)
    if train.image_shape is None:
        net = Sequential(Standardize.of(train.x), *net.layers, output=net.output)
    net.about = {"classes": list(train.classes)}
    if train.image_shape is not None:
        white = 1.0 if train.x.dtype == np.uint8 else float(train.x.max())
        net.about |= {"image_shape": list(train.image_shape), "white": white, **_MADE_IN_BOX.get(config.data, {})}
    return net


def make_loss(config: Config, train: Dataset) -> losses.Loss:
    """The loss a config names, or the one that suits the targets."""
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
    rest, valid = everything.split(config.valid, config.seed) if config.valid else (everything, None)
    task = f"{len(rest.classes)} classes" if rest.classes else "regression"
    parts = [f"{len(rest):,} rows to train on", f"{len(test):,} to test on"]
    if valid:
        parts.insert(1, f"{len(valid):,} to watch progress")
    say(f"data     {config.data}: {task}; {', '.join(parts)}")
    net = make_network(config, rest)
    trainer = make_trainer(config, net, rest, where)
    sizes = [layer.n_in for layer in net.layers if isinstance(layer, Linear)] + [*(net.output_shape(None) or ())]
    say(f"network  {'-'.join(map(str, sizes))} {config.activation}, {net.store.size:,} parameters")

    if resume is None:
        folder = _new_folder(config, out)
        say(f"folder   {folder}")
    else:
        folder = Path(resume)
        remove_leftovers(folder)
        _check_same(
            folder / "checkpoint.safetensors", load_checkpoint(folder / "checkpoint.safetensors", trainer), config
        )
        say(f"folder   {folder}, to go on after {trainer.epoch} epochs and {trainer.batch} batches")
    write_atomic(folder / "config.toml", config.to_toml())
    progress = _Progress(folder, config)
    progress.write(trainer)

    with _signals(trainer) as received:
        trainer.fit(
            rest,
            valid=valid,
            epochs=0 if _tired(trainer, config.patience) else max(config.epochs - trainer.epoch, 0),
            batch_size=config.batch_size,
            patience=config.patience or None,
            restore_best=bool(config.patience),
            callbacks=[progress, *([] if quiet else [EpochTable()])],
        )
        if received:
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
    """Writes the checkpoint and the history after every epoch."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.config = folder, dataclasses.asdict(config)

    def write(self, trainer: Trainer) -> None:
        save_checkpoint(self.folder / "checkpoint.safetensors", trainer, self.config)
        write_atomic(self.folder / "history.csv", trainer.history.to_csv())

    def on_epoch(self, trainer: Trainer, row: Row) -> None:
        self.write(trainer)


def _tired(trainer: Trainer, patience: int) -> bool:
    """Whether the run that left the checkpoint had ended for want of a better epoch."""
    return bool(patience and trainer.best) and trainer.epoch - trainer.best["epoch"] >= patience


def _new_folder(config: Config, out: str | None) -> Path:
    if out is None:
        base = Path("runs") / f"{Path(config.data).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        numbered = (base.with_name(f"{base.name}-{i}") for i in itertools.count(2))
        folder = next(path for path in itertools.chain([base], numbered) if not path.exists())
    else:
        folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        used = any(folder.iterdir())
    except OSError as error:
        raise FileError(f"{folder}: cannot be made: {error.strerror}; name another with --out") from None
    if used:
        raise FileError(f"{folder}: is not empty; name another with --out, or go on with --resume {folder}")
    return folder


def _check_same(path: Path, before: dict[str, Any], config: Config) -> None:
    """Raise FileError if the checkpoint was made with options that would lead elsewhere than the config's."""
    may_change = ("epochs", "device", "data_dir", "patience")
    for name, now in dataclasses.asdict(config).items():
        if name not in may_change and before.get(name) != now:
            raise FileError(
                f"{path}: a checkpoint of a run with {name} = {before.get(name)!r}, and config.toml has {now!r}"
            )


@contextmanager
def _signals(trainer: Trainer) -> Iterator[list[int]]:
    """While it lasts, the first SIGINT or SIGTERM lets the step in progress finish; a second one ends the program."""
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        received.append(number)
        trainer.stop = True

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


def open_run(folder: str | Path) -> tuple[Config, Layer]:
    """The config and the trained network of a run folder. Raises FileError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileError(f"{folder}: there is no such run folder")
    return Config.read(folder / "config.toml"), load(folder / "model.safetensors")


def evaluate(folder: str | Path, device: str | None = None, data_dir: str | None = None) -> dict[str, float]:
    """The loss and accuracy of a run's network on its test data."""
    config, net = open_run(folder)
    if data_dir:
        config.data_dir = data_dir
    train, test = load_data(config)
    where = find_device(device or config.device, announce=False)
    return make_trainer(config, net, train, where).evaluate(test)


# --- what a run is recorded with


def versions() -> dict[str, str]:
    """The versions of Python and of every package that the numbers may depend on and that is in use."""
    found = {"python": platform.python_version()}
    for package in ("gpunn", "numpy", "array-api-compat", "safetensors", "cupy-cuda12x", "cupy-cuda13x", "torch"):
        if package.partition("-cuda")[0].replace("-", "_") in sys.modules:
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
        "versions": versions(),
        "blas": blas(),
        "processors": os.cpu_count(),
    }
