"""`gpunn train`: from options to a folder with the trained network, its history, and all it takes to go on."""

import dataclasses
import itertools
import json
import math
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpunn.data import Dataset
from gpunn.device import Device
from gpunn.device import device as find_device
from gpunn.environment import blas, versions
from gpunn.errors import DataError, Diverged, FileError, OptionError
from gpunn.io import load, save
from gpunn.io.atomic import remove_leftovers, write_atomic
from gpunn.io.network import model_file
from gpunn.layers import Layer, Linear
from gpunn.plot import draw_curves
from gpunn.train.checkpoint import load_checkpoint, save_checkpoint
from gpunn.train.config import Config
from gpunn.train.histograms import Histograms
from gpunn.train.history import Row
from gpunn.train.live import LiveChart
from gpunn.train.precision import computes_in
from gpunn.train.recipe import divided, load_data, make_network, make_trainer, task_reason
from gpunn.train.scores import scores
from gpunn.train.table import EpochTable
from gpunn.train.tensorboard import TensorBoard, summary_writer
from gpunn.train.trainer import Callback, Trainer

__all__ = ["Stopped", "evaluate", "open_run", "run_config", "train", "with_data"]


class Stopped(Exception):
    """A signal ended the run in good order; `number` is the signal's."""

    def __init__(self, number: int, folder: Path) -> None:
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name}; to go on: gpunn train --resume {shlex.quote(str(folder))}")
        self.number = number


def train(
    config: Config,
    out: str | None = None,
    *,
    resume: str | None = None,
    quiet: bool = False,
    live: bool = False,
    tensorboard: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Train as the config says; returns the run folder and the summary that is written there.

    The folder is `out`, which must be new or empty, or runs/NAME-<time>. With `resume`, the folder of a run, training
    begins where its checkpoint stands, in float32 where the device does not compute in the run's dtype. `live` draws
    the losses on the terminal instead of a line for each epoch, `tensorboard` writes the history for TensorBoard, too.
    Raises Stopped after SIGINT or SIGTERM, once the step in progress is done and the checkpoint written.
    """

    def say(text: str) -> None:
        if not quiet:
            print(text, flush=True)

    if tensorboard:
        summary_writer()  # raises its error before anything is done
    trainer, rest, valid, test = _prepare(config, say, goes_on=resume is not None)
    config = _with_whole_paths(config)
    if resume is None:
        folder = _new_folder(config, out)
        say(f"folder   {folder}")
    else:
        folder = Path(resume)
        _go_on(folder, trainer, config, len(rest))
        done = f"{trainer.epoch} of {config.epochs} epochs done"
        more = f" and {trainer.batch} batch{'es' if trainer.batch > 1 else ''}" if trainer.batch else ""
        say(f"folder   {folder}, {done}{more}")
        if trainer.epoch >= config.epochs:
            say(f"note     nothing is left to train; --epochs with more than {trainer.epoch} goes on")
    write_atomic(folder / "config.toml", config.to_toml())

    shown: list[Callback] = []
    if live and not quiet and LiveChart.possible():
        shown = [LiveChart()]
    elif not quiet:
        shown = [EpochTable()]
        if live:
            say("note     a live chart is drawn on a terminal, and this is none: a line for each epoch instead")
    if tensorboard:
        shown.append(TensorBoard(folder / "tensorboard"))
    with _signals() as received:
        progress = _Progress(folder, config, trainer.net.about, received)
        progress.begin(trainer)
        trainer.fit(
            rest,
            valid=valid,
            epochs=0 if _tired(trainer, config.patience) else config.epochs - trainer.epoch,
            batch_size=config.batch_size,
            patience=config.patience or None,
            restore_best=bool(config.patience),
            # what is kept of an epoch is written before its checkpoint, so that no epoch is missing when a run goes on
            callbacks=[*shown, _histograms(folder, say), progress],
        )
        save(folder / "model.safetensors", trainer.net)
        if received:
            raise Stopped(received[0], folder)
    return folder, _summarize(config, folder, trainer, rest, test, say)


def _with_whole_paths(config: Config) -> Config:
    """The config with paths that are right in whatever folder it is read again."""
    named = config.data in ("digits", "mnist")
    data = os.path.abspath(config.data) if os.path.exists(config.data) and not named else config.data
    return dataclasses.replace(config, data=data, data_dir=config.data_dir and os.path.abspath(config.data_dir))


def _prepare(
    config: Config, say: Callable[[str], None], goes_on: bool
) -> tuple[Trainer, Dataset, Dataset | None, Dataset]:
    """The trainer, and the data to train on, to watch progress with and to test on, all looked at once."""
    where = find_device(config.device, announce=False)
    say(f"device   {where.name}: {where.reason}")
    if goes_on and (possible := _possible(config, where)) != config:
        say(f"note     {config.dtype} needs gpunn's kernels for CUDA GPUs: the run goes on in {possible.dtype}")
        config = possible
    rest, valid, test = _data(config)
    task = f"{len(rest.classes)} classes" if rest.classes else "regression"
    watch = f", {len(valid):,} to watch progress" if valid else ""
    say(f"data     {config.data}: {task}; {len(rest):,} rows to train on{watch}, {len(test):,} to test on")
    for line in _about(config, rest):
        say(line)
    if unseen := [rest.classes[i] for i in sorted({*test.y.tolist()} - {*rest.y.tolist()})] if rest.classes else []:
        say(f"note     not among the rows to train on, and so not to be learned: {', '.join(unseen)}")
    net = make_network(config, rest)
    trainer = make_trainer(config, net, rest, where)
    if config.model == "mlp":
        sizes = [layer.n_in for layer in net.layers if isinstance(layer, Linear)] + [*(net.output_shape(None) or ())]
        what = f"{'-'.join(map(str, sizes))} {config.activation}"
    else:
        what = f"{config.model} for images of {'x'.join(map(str, rest.image_shape or ()))}"
    dropped = f", dropout {config.dropout:g}" if config.dropout else ""
    say(f"network  {what}{dropped}, {net.store.size:,} parameters")
    trainer.fit(rest, valid=valid, epochs=0, batch_size=config.batch_size)  # looks at all data before a file is made
    trainer.evaluate(test)
    return trainer, rest, valid, test


def _data(config: Config) -> tuple[Dataset, Dataset | None, Dataset]:
    """The data to train on, to watch progress with and to test on."""
    train, test = load_data(config)
    return *divided(config, train), test


def _about(config: Config, rest: Dataset) -> list[str]:
    """What was found in a file of one's own."""
    if config.data in ("digits", "mnist"):
        return []
    kind = "classification" if rest.classes else "regression"
    name = rest.table.target if rest.table is not None else "y"
    lines = [] if rest.image_shape else [f"target   {name}: {kind}, {task_reason(config, rest)}"]
    if rest.table is not None:
        columns = rest.table.describe()
        lines += [f"columns  {columns[0]}", *(f"         {line}" for line in columns[1:])]
    elif rest.image_shape:
        height, width, channels = rest.image_shape
        colour = {1: "grey", 3: "in colour"}.get(channels, f"of {channels} channels")
        lines.append(f"images   {height}x{width}, {colour}")
    return [*lines, f"note     {rest.note}"] if rest.note else lines


class _Progress(Callback):
    """Writes the checkpoint and the history after every epoch, and ends the fit once a signal was received.

    history.csv is written anew each time; history.jsonl only grows, so that other programs can follow it.
    """

    def __init__(self, folder: Path, config: Config, about: dict[str, Any], received: list[int]) -> None:
        self.folder, self.received = folder, received
        self.config = dataclasses.asdict(config) | {"about": about}

    def begin(self, trainer: Trainer) -> None:
        """Bring all files to where the trainer stands: a killed run may have written more, or half a line."""
        self.write(trainer)
        write_atomic(self.folder / "history.jsonl", "".join(map(_line, trainer.history)))

    def write(self, trainer: Trainer) -> None:
        save_checkpoint(self.folder / "checkpoint.safetensors", trainer, self.config)
        write_atomic(self.folder / "history.csv", trainer.history.to_csv())

    def on_step(self, trainer: Trainer) -> None:
        if self.received:
            trainer.stop = True

    def on_epoch(self, trainer: Trainer, row: Row) -> None:
        self.write(trainer)
        path = self.folder / "history.jsonl"
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(_line(row))
        except OSError as error:
            raise FileError(f"{path}: cannot be written: {error.strerror}; go on with --resume") from None
        self.on_step(trainer)

    def on_end(self, trainer: Trainer) -> None:
        if trainer.stop:  # between two epochs' checkpoints
            self.write(trainer)


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def _histograms(folder: Path, say: Callable[[str], None]) -> Histograms:
    """What keeps the histograms of the run in this folder, those it has already among them."""
    path = folder / "histograms.safetensors"
    try:
        found = Histograms.load(path) if path.exists() else Histograms()
    except FileError as error:  # pictures are no reason not to train
        say(f"note     {error}; histograms begin anew")
        found = Histograms()
    found.path = path
    return found


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
    before = dataclasses.asdict(Config()) | load_checkpoint(path, trainer)  # an older gpunn had fewer options
    for name, now in dataclasses.asdict(config).items():
        if name not in ("epochs", "device", "data_dir", "patience") and before.get(name) != now:
            raise FileError(
                f"{path}: a checkpoint of a run with {name} = {before.get(name)!r}, and config.toml has {now!r}"
            )
    if (found := trainer.order.get("rows", rows)) != rows:
        raise FileError(f"{path}: a checkpoint of a run on {found} rows of {config.data}, which now has {rows}")
    about = trainer.net.about
    if any(about.get(name) != value for name, value in before.get("about", {}).items()):  # an older gpunn kept none
        raise DataError(
            f"{config.data}: its classes or columns are not those that the run in {folder} began with; put the data "
            "back as it was, or train anew"
        )
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


def _summarize(
    config: Config, folder: Path, trainer: Trainer, rest: Dataset, test: Dataset, say: Callable[[str], None]
) -> dict[str, Any]:
    history = trainer.history
    measured = trainer.evaluate(test)
    if not math.isfinite(measured["loss"]):
        raise Diverged(f"the test loss is {measured['loss']} after epoch {trainer.epoch}; try a smaller learning rate")
    seconds = sum(history["seconds"]) if len(history) else 0.0
    summary = {
        "name": Path(config.data).name,
        "device": trainer.device.name,
        "device_reason": trainer.device.reason,
        "backend": trainer.device.backend,
        "dtype": _possible(config, trainer.device).dtype,
        "seed": config.seed,
        "epochs": trainer.epoch,
        "best_epoch": trainer.best.get("epoch"),
        "parameters": trainer.net.store.size,
        "train_loss": history[-1]["loss"] if len(history) else None,
        "test_loss": measured["loss"],
        "test_accuracy": measured.get("accuracy"),
        "seconds": seconds,
        "samples_per_second": len(rest) * trainer.epoch / seconds if seconds else None,
        "versions": versions(),
        "blas": blas(),
    }
    summary["scores"], lines = scores(trainer.device.to_host(trainer.predict(test.x)), rest, test)
    if config.data not in ("digits", "mnist"):
        say("\n".join(["", f"on the {len(test):,} rows to test on", *lines, ""]))
    write_atomic(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    draw_curves(history, folder / "curves.png")
    return summary


def run_config(folder: str | Path, more: dict[str, Any] | None = None) -> Config:
    """The config of a run folder, with the options in `more` over it. Raises FileError or OptionError."""
    path = os.path.join(folder, "config.toml")
    if not os.path.isdir(folder):
        what = "is a file, expected the folder of a run" if os.path.exists(folder) else "there is no such folder"
        raise FileError(f"{folder}: {what}")
    if not os.path.isfile(path):
        raise FileError(f"{folder}: there is no run in this folder: it has no config.toml")
    return Config.read(path, more, of_run=True)


def open_run(folder: str | Path) -> tuple[Config, Layer]:
    """The config and the trained network of a run folder. Raises FileError."""
    return run_config(folder), load(model_file(folder))


def evaluate(folder: str | Path, device: str | None = None, data_dir: str | None = None) -> dict[str, float]:
    """The loss and accuracy of a run's network on its test data."""
    _, trainer, _, test = with_data(folder, device, data_dir)
    return trainer.evaluate(test)


def with_data(
    folder: str | Path, device: str | None = None, data_dir: str | None = None
) -> tuple[Config, Trainer, Dataset, Dataset]:
    """A run's config, its trained network in a trainer, and its data once more: (config, trainer, rest, test).

    `rest` is what it was trained on, without what was set aside to watch progress. What only a CUDA GPU computes in is
    float32 elsewhere, as the network itself is. Raises FileError, or DataError where the data is no longer that which
    the network was trained on.
    """
    config, net = open_run(folder)
    if data_dir:
        config.data_dir = data_dir
    rest, _, test = _data(config)
    by = f"the network in {folder} was trained on; put the data back as it was, or train anew"
    if list(rest.classes) != net.about.get("classes"):
        raise DataError(f"{config.data}: the classes are not those that {by}")
    if rest.table is not None and net.about.get("table", rest.table.about()) != rest.table.about():
        raise DataError(f"{config.data}: the table is not that which {by}")
    where = find_device(device or config.device, announce=False)
    return config, make_trainer(_possible(config, where), net, rest, where), rest, test


def _possible(config: Config, where: Device) -> Config:
    """The config, but in float32, as the network itself is, if this device does not compute in its dtype."""
    return config if computes_in(config.dtype, where) else dataclasses.replace(config, dtype="float32")
