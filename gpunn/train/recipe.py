"""From a config to what it names: the data, the network for it, and the trainer."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpunn import losses, optim, schedules
from gpunn.data import Dataset, datasets, read_csv, read_folder, read_npz
from gpunn.data.table import LARGEST, fill_missing
from gpunn.device import Device
from gpunn.errors import DataError, FileError, OptionError, ShapeError
from gpunn.layers import Dropout, Layer, Linear, Sequential, Standardize
from gpunn.models import cnn, lenet, mlp
from gpunn.train.config import Config
from gpunn.train.trainer import Trainer

__all__ = [
    "OPTIMIZERS",
    "divided",
    "load_data",
    "make_loss",
    "make_network",
    "make_optimizer",
    "make_trainer",
    "set_aside",
    "task_reason",
]

_LOSSES = {
    "softmax": losses.SoftmaxCrossEntropy,
    "focal": losses.FocalLoss,
    "sigmoid": losses.SigmoidCrossEntropy,
    "quadratic": losses.Quadratic,
    "hinge": losses.Hinge,
    "mse": losses.MeanSquaredError,
    "mae": losses.MeanAbsoluteError,
    "huber": losses.Huber,
    "poisson": losses.PoissonLoss,
}
OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    name.lower(): getattr(optim, name) for name in optim.__all__ if name != "Optimizer"
}
_PICTURES = {"digits": {"box": 8}, "mnist": {"box": 20}}  # how large the digits are in their images; see read_image


def load_data(config: Config) -> tuple[Dataset, Dataset]:
    """(train, test) of the data a config names: digits, mnist, a .npz or .csv file, or a folder of pictures.

    Raises OptionError for another name, FileError or DataError.
    """
    name = config.data
    if name == "digits":
        return datasets.digits()
    if name == "mnist":
        return datasets.mnist(config.data_dir or None)
    suffix = Path(name).suffix.lower()
    if suffix in (".npz", ".csv"):
        if not os.path.isfile(name):  # which, unlike Path, answers for names that no file can have
            raise FileError(f"{name}: there is no such file; a path begins in the folder you are in")
    elif not os.path.isdir(name):
        raise OptionError(
            f"data {name!r} is not known; expected digits, mnist, a file that ends in .npz or .csv, or a folder of "
            "pictures, with a folder for each class in it"
        )
    if suffix == ".csv":
        missing = "keep" if config.missing == "mean" else config.missing
        parts = {"all": read_csv(name, config.target or None, drop=config.drop, missing=missing)}
    elif suffix == ".npz":
        parts = read_npz(name)
    else:
        parts = read_folder(name, config.image_size)
    if "all" in parts:
        train, test = set_aside(parts["all"], 0.2, name, hint="; add rows: a part of 0.2 is to test on")
    else:
        train, test = parts["train"], parts["test"]
    try:
        if train.table is not None and config.missing == "mean":
            train, test = fill_missing(train, test)
        train, test = _as_task(train, test, config.task)
        _check_sizes(train, test)
        return train, test
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def _check_sizes(*parts: Dataset) -> None:
    """Raise DataError for numbers that are finite, but not in float32."""
    for part in parts:
        for name, values in (("input", part.x), ("target", part.y)):
            if values.dtype.kind == "f" and (size := float(abs(values).max())) > LARGEST:
                raise DataError(f"{name}s of the size {size:.3g}, expected up to {LARGEST:g}; choose a larger unit")


def set_aside(data: Dataset, fraction: float, name: str, seed: int = 0, hint: str = "") -> tuple[Dataset, Dataset]:
    """(rest, part) of the data called `name`. Raises DataError, which ends with the hint, if one would be empty."""
    try:
        return data.split(fraction, seed)
    except DataError as error:
        raise DataError(f"{name}: {error}{hint}") from None


def divided(config: Config, train: Dataset) -> tuple[Dataset, Dataset | None]:
    """(rest, valid): what is trained on, and what the config sets aside to watch progress with, if anything."""
    if not config.valid:
        return train, None
    return set_aside(train, config.valid, config.data, config.seed, "; --valid 0 sets none aside")


def _as_task(train: Dataset, test: Dataset, task: str) -> tuple[Dataset, Dataset]:
    """The targets as class numbers from 0, or as they are where they are quantities."""
    y = np.concatenate([train.y, test.y])
    values = np.unique(y)
    whole = y.ndim == 1 and (y.dtype.kind in "biu" or bool((values == np.round(values)).all()))
    if task == "auto":  # text, or a few whole numbers, each several times over
        few = whole and len(values) <= min(100, len(y) // 2)
        task = "classification" if few or train.classes else "regression"
    if task == "regression":
        if train.classes:
            what = f"text such as {train.classes[0]!r}"
            raise DataError(f"regression needs numbers as targets, got {what}; choose task classification")
        return train, test
    if not whole:
        what = f"rows of {y.shape[1]}" if y.ndim > 1 else "such as " + str(values[values != np.round(values)][0])
        raise DataError(f"classification needs whole numbers or text as targets, got {what}; choose task regression")
    if len(values) < 2:
        only = train.classes[0] if train.classes else values[0]
        raise DataError(f"the target is {only} in all rows: there is nothing to tell apart; add others")
    names = train.classes or tuple(str(v) if y.dtype.kind == "b" else str(int(v)) for v in values)
    first, second = (
        dataclasses.replace(part, y=np.searchsorted(values, part.y), classes=names) for part in (train, test)
    )
    return first, second


def task_reason(config: Config, train: Dataset) -> str:
    """Why the targets are taken for classes, or for quantities."""
    if config.task != "auto":
        return "as asked for"
    if not train.classes:
        return f"as it holds {'fractions' if (train.y != np.round(train.y)).any() else 'many different numbers'}"
    numbers = all(name.removeprefix("-").isdecimal() for name in train.classes)
    return f"as it holds {f'only {len(train.classes)} different numbers' if numbers else 'names'}"


def make_network(config: Config, train: Dataset) -> Sequential:
    """The network that the config names, for this data.

    Its first layer standardises features, and brings pixels to 0 ... 1. Where the targets are quantities, the last one
    brings numbers around 0 to their mean and standard deviation; for counts, to the logarithm of their mean. Raises
    OptionError for a convolutional network where the rows are no images, or are too small ones.
    """
    layers, output = _layers(config, train), make_loss(config, train).output
    white = 1.0 if train.x.dtype == np.uint8 else float(train.x.max())  # bytes the trainer divides by 255
    if train.image_shape is None:
        of_x = Standardize.of(train.x)
        if train.table is not None:  # the 1s and 0s of categories stay
            is_number = train.table.is_number
            of_x = Standardize(of_x.mean.initial * is_number, np.where(is_number, of_x.std.initial, 1.0))
        layers = [of_x, *layers]
    elif white > 1.0:
        scale = np.full(train.x.shape[1], white)
        layers = [Standardize(0 * scale, scale), *layers]
    if not train.classes:
        of_y = Standardize.of(train.y.reshape(len(train), -1).astype(np.float64))
        mean, std = of_y.mean.initial, of_y.std.initial
        if config.loss == "poisson":
            mean, std = np.log(np.maximum(mean, 1e-3)), np.ones_like(mean)
        layers.append(Standardize(-mean / std, 1.0 / std))  # (z + mean / std) / (1 / std) = z std + mean
    net = Sequential(*layers, output=output)
    net.about = {"classes": list(train.classes)}
    if train.image_shape is not None:
        net.about |= {"image_shape": list(train.image_shape), "white": white, **_PICTURES.get(config.data, {})}
        if config.data not in _PICTURES and os.path.isdir(config.data):
            net.about["ink"] = False  # whatever may be on the pictures
    if train.table is not None:
        net.about["table"] = train.table.about()
    return net


def _layers(config: Config, train: Dataset) -> list[Layer]:
    """The layers of the model, from rows of numbers to one output for each class or quantity."""
    n_out = len(train.classes) or train.y[0].size
    if config.model == "mlp":
        sizes = [train.x.shape[1], *config.hidden, n_out]
        layers = mlp(sizes, hidden=config.activation, init=config.init or None).layers
    elif train.image_shape is None:
        raise OptionError(f"model {config.model} is for images, and {config.data} holds rows of features; choose mlp")
    else:
        try:
            if config.model == "cnn":
                return [*cnn(train.image_shape, n_out, dropout=config.dropout).layers]
            layers = lenet(train.image_shape, n_out).layers
        except ShapeError:
            size, mend = "x".join(map(str, train.image_shape[:2])), "mlp" if config.model == "cnn" else "cnn or mlp"
            raise OptionError(
                f"model {config.model} is for larger images than those of {size}; choose {mend}"
            ) from None
    if not config.dropout:
        return [*layers]
    linear = [i for i, layer in enumerate(layers) if isinstance(layer, Linear)]
    return [
        each
        for i, layer in enumerate(layers)
        for each in ([Dropout(config.dropout), layer] if i in linear[1:] else [layer])
    ]


def make_loss(config: Config, train: Dataset) -> losses.Loss:
    """The loss a config names, or the one that suits the targets. Raises OptionError for one that does not."""
    if train.classes and config.loss in ("mse", "mae", "huber", "poisson"):
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
        "restarts": lambda: schedules.CosineRestarts(config.lr, -(-steps // 7), factor=2),  # 1 + 2 + 4 parts of 7
        "polynomial": lambda: schedules.Polynomial(config.lr, steps),
        "onecycle": lambda: schedules.OneCycle(config.lr, steps),
    }
    schedule = makers[config.schedule]()
    if config.warmup:
        schedule = schedules.Warmup(config.warmup, schedule)
    more: dict[str, Any] = {"momentum": config.momentum} if config.optimizer == "sgd" else {}
    return OPTIMIZERS[config.optimizer](schedule, weight_decay=config.weight_decay, **more)


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
