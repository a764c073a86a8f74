"""`gpunn reproduce`: published results of networks on MNIST, each with its setting, run again.

The settings are those of the sources: Nielsen's book (chapters 1, 3, 5 and 6) and its programs, the bench_mnist program
of scikit-learn, the examples of Keras and PyTorch, and the papers named. What a row does not say is as in the program.
Two things differ: gpunn shuffles the images before every epoch, which network3.py does not, and where scikit-learn
begins with random biases and counts the penalty to the loss that it stops by, biases begin at 0 and the loss is bare.
"""

import difflib
import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from gpunn import schedules
from gpunn.data import Dataset, expand_by_shifts
from gpunn.device import Device, to_host
from gpunn.environment import blas, versions
from gpunn.errors import FileError, OptionError
from gpunn.init import Normal, Uniform
from gpunn.io.atomic import write_atomic
from gpunn.layers import (
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    Reshape,
    Sequential,
    Standardize,
    activation,
)
from gpunn.losses import Loss, Quadratic, SigmoidCrossEntropy, SoftmaxCrossEntropy
from gpunn.models import cnn, mlp
from gpunn.optim import SGD, Adadelta, Adam, Optimizer, RMSprop
from gpunn.train.history import Row
from gpunn.train.trainer import Callback, Trainer
from gpunn.train.weights import MaxNorm

__all__ = ["ROWS", "Published", "Result", "Setting", "find", "measure", "reproduce", "table"]


@dataclass(frozen=True)
class Setting:
    """One network and how it is trained and measured."""

    net: Callable[[], Layer]
    loss: type[Loss]
    optimizer: Callable[[], Optimizer]
    epochs: int
    batch_size: int = 10
    train: int = 50_000  # the first so many images of MNIST's 60,000; the book keeps the last 10,000 for validation
    shifted: bool = False  # with four copies of each image, shifted by a pixel
    measured: str = "test"  # or "validation"
    when: str = "best"  # the best epoch, the "last", or the test accuracy at the best "validation" accuracy
    patience: int | None = None  # epochs without a loss that is better by 1e-4, after which scikit-learn stops
    members: int = 1  # networks that vote
    callbacks: Callable[[], Sequence[Callback]] = tuple


@dataclass(frozen=True)
class Published:
    """A row: what was published, in %, for each of its settings by name."""

    about: str
    source: str
    settings: dict[str, tuple[Setting, float | None]]
    long: str = ""  # why "all" leaves it out where there is no GPU


# --- the networks


def _book(*sizes: int, large: bool = False) -> Callable[[], Layer]:
    """Sigmoid neurons, biases N(0, 1), weights N(0, 1) ("large", Nielsen's first choice) or N(0, 1/n_in) ."""
    init = "normal" if large else "lecun_normal"
    return lambda: mlp([*sizes], hidden="sigmoid", output="sigmoid", init=init, bias_init="normal")


def _book_conv(
    convs: Sequence[int], dense: Sequence[int], function: str = "sigmoid", dropout: float = 0.0
) -> Callable[[], Layer]:
    """The networks of chapter 6, with the initial weights of network3.py; its softmax layer begins with zeros.

    After dropout its neurons are not scaled up, as here, but its weights down, once training is done: the same network
    has weights (1 - p) times as large here, and learns alike with an eta that is (1 - p)^2 times as large for them.
    """

    def make() -> Layer:
        layers: list[Layer] = [Reshape((28, 28, 1))]
        channels, size = 1, 28
        for n in convs:
            size = (size - 4) // 2
            std = math.sqrt(4 / (n * 25))  # 1 / sqrt(n_out), n_out = features x 25 / 4
            layers += [Conv2d(channels, n, 5, init=Normal(std), bias_init="normal"), MaxPool2d(2), activation(function)]
            channels = n
        layers.append(Flatten())
        width = channels * size * size
        for n in dense:
            layers += [Dropout(dropout)] if dropout else []
            std = (1 - dropout) * math.sqrt(1 / n)
            layers += [Linear(width, n, init=Normal(std), bias_init="normal"), activation(function)]
            width = n
        layers += [Dropout(dropout)] if dropout else []
        return Sequential(*layers, Linear(width, 10, init="zeros"), output="softmax")

    return make


def _keras() -> Layer:
    layers = [Linear(784, 512, init="xavier_uniform"), activation("relu"), Dropout(0.2)]
    layers += [Linear(512, 512, init="xavier_uniform"), activation("relu"), Dropout(0.2)]
    return Sequential(*layers, Linear(512, 10, init="xavier_uniform"), output="softmax")


def _sklearn() -> Layer:
    return mlp([784, 100, 100, 10], init="xavier_uniform", output="softmax")


def _torch() -> Layer:
    """With PyTorch's initial numbers, weights and biases from U(-a, a), a = 1 / sqrt(fan_in)."""

    def even(n: int) -> Uniform:
        return Uniform(-1 / math.sqrt(n), 1 / math.sqrt(n))

    return Sequential(
        Standardize(np.full(784, 0.1307), np.full(784, 0.3081)),
        Reshape((28, 28, 1)),
        Conv2d(1, 32, 3, init=even(9), bias_init=even(9)),
        activation("relu"),
        Conv2d(32, 64, 3, init=even(288), bias_init=even(288)),
        activation("relu"),
        MaxPool2d(2),
        Dropout(0.25),
        Flatten(),
        Linear(9216, 128, init=even(9216), bias_init=even(9216)),
        activation("relu"),
        Dropout(0.5),
        Linear(128, 10, init=even(128), bias_init=even(128)),
        output="softmax",
    )


def _dropped(width: int, depth: int, function: str = "relu", drop: bool = True) -> Callable[[], Layer]:
    """The dense networks of Srivastava et al.: a fifth of the inputs and half of the hidden neurons are dropped."""

    def make() -> Layer:
        layers: list[Layer] = [Dropout(0.2)] if drop else []
        for n_in in [784] + [width] * (depth - 1):
            layers += [Linear(n_in, width, init="he" if function == "relu" else "xavier"), activation(function)]
            layers += [Dropout(0.5)] if drop else []
        return Sequential(*layers, Linear(width, 10, init="xavier"), output="softmax")

    return make


# --- the rows


def _sgd(eta: float, decay: float = 0.0, n: int = 50_000) -> Callable[[], Optimizer]:
    """SGD with the book's lambda: its penalty is lambda / 2n times the sum of the squares, for n examples."""
    return lambda: SGD(eta, weight_decay=decay / n)


_FIRST = Setting(_book(784, 30, 10, large=True), Quadratic, _sgd(3.0), epochs=30)
_CROSS = Setting(_book(784, 30, 10, large=True), SigmoidCrossEntropy, _sgd(0.5), epochs=30)
_OVERFIT = replace(_CROSS, train=1_000, epochs=400)
_L2 = Setting(_book(784, 100, 10, large=True), SigmoidCrossEntropy, _sgd(0.5, 5.0), epochs=30, measured="validation")
_DEEP = Setting(_book(784, 30, 10), SigmoidCrossEntropy, _sgd(0.1, 5.0), epochs=30, measured="validation", when="last")
_SIZE = replace(_CROSS, measured="validation", when="last")
_SIX = Setting(_book_conv([], [100]), SoftmaxCrossEntropy, _sgd(0.1), epochs=60, when="validation")
# network3.py divides lambda by the number of batches, not of examples
_RELU = replace(_SIX, net=_book_conv([20, 40], [100], "relu"), optimizer=_sgd(0.03, 0.1, 5_000))
_EXPAND = replace(_RELU, shifted=True, optimizer=_sgd(0.03, 0.1, 25_000))
_DROPOUT = replace(
    _EXPAND,
    net=_book_conv([20, 40], [1000, 1000], "relu", dropout=0.5),
    optimizer=lambda: SGD(0.03, groups={f"linear{i}.W": {"lr_factor": 0.25} for i in (1, 2, 3)}),
    epochs=40,
)
_SKLEARN = Setting(
    _sklearn,
    SoftmaxCrossEntropy,
    lambda: Adam(1e-3, weight_decay=1e-4 / 200),
    400,
    200,
    60_000,
    when="last",
    patience=10,
)
_MILLION = 1_000_000 // 469  # updates, in epochs of 469 batches of 128
_DROPPED = Setting(
    _dropped(1024, 3), SoftmaxCrossEntropy, lambda: SGD(0.01, momentum=0.95), _MILLION, 128, 60_000, when="last"
)
_NIELSEN = 'Nielsen, "Neural Networks and Deep Learning", chapter'


def _both(setting: Setting, published: float) -> dict[str, tuple[Setting, float | None]]:
    """100 hidden neurons, from either of the book's two first guesses at weights."""
    return {
        f"weights N(0, {variance})": (replace(setting, net=_book(784, 100, 10, large=large)), published)
        for variance, large in (("1", True), ("1/n_in", False))
    }


ROWS: dict[str, Published] = {
    "nielsen-ch1-30": Published(
        "784-30-10 sigmoid, quadratic cost, eta 3.0, 30 epochs", f"{_NIELSEN} 1", {"": (_FIRST, 95.42)}
    ),
    "nielsen-ch1-100": Published(
        "the same, 100 hidden",
        f"{_NIELSEN} 1",
        {"": (replace(_FIRST, net=_book(784, 100, 10, large=True)), 96.59)},
    ),
    "nielsen-ch1-slow": Published(
        "100 hidden, eta 0.001: too slow",
        f"{_NIELSEN} 1",
        {"": (replace(_FIRST, net=_book(784, 100, 10, large=True), optimizer=_sgd(0.001), when="last"), 21.42)},
    ),
    "nielsen-ch1-fast": Published(
        "30 hidden, eta 100: too fast",
        f"{_NIELSEN} 1",
        {"": (replace(_FIRST, optimizer=_sgd(100.0), when="last"), 9.82)},
    ),
    "nielsen-ch3-30": Published("784-30-10, cross-entropy, eta 0.5, 30 epochs", f"{_NIELSEN} 3", {"": (_CROSS, 95.49)}),
    "nielsen-ch3-100": Published(
        "the same, 100 hidden",
        f"{_NIELSEN} 3",
        {"": (replace(_CROSS, net=_book(784, 100, 10, large=True)), 96.82)},
    ),
    "nielsen-overfit": Published(
        "the first 1,000 images, 400 epochs, lambda 0", f"{_NIELSEN} 3", {"": (_OVERFIT, 82.27)}
    ),
    "nielsen-l2-1000": Published(
        "the same, lambda 0.1",
        f"{_NIELSEN} 3",
        {"": (replace(_OVERFIT, optimizer=_sgd(0.5, 0.1, 1_000)), 87.10)},
    ),
    "nielsen-full": Published(
        "50,000 images, 30 epochs, lambda 0 or 5",
        f"{_NIELSEN} 3",
        {"lambda 0": (_CROSS, 95.33), "lambda 5": (replace(_CROSS, optimizer=_sgd(0.5, 5.0)), 96.49)},
    ),
    "nielsen-l2-100": Published(
        "100 hidden, lambda 5.0, eta 0.5, 30 epochs",
        f"{_NIELSEN} 3; its program draws the weights from N(0, 1)",
        _both(_L2, 97.92),
    ),
    "nielsen-l2-100-slow": Published(
        "the same, eta 0.1, 60 epochs",
        f"{_NIELSEN} 3; its program draws the weights from N(0, 1)",
        _both(replace(_L2, optimizer=_sgd(0.1, 5.0), epochs=60), 98.04),
    ),
    "nielsen-size": Published(
        "100 to 50,000 images, lambda = images / 10,000, 150,000 steps",
        f"{_NIELSEN} 3",
        {
            f"{n:,}": (
                replace(_SIZE, optimizer=_sgd(0.5, n * 1e-4, n), train=n, epochs=1_500_000 // n),
                {100: 69.09, 50_000: 95.97}.get(n),
            )
            for n in (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
        },
    ),
    **{
        f"nielsen-ch5-{depth}": Published(
            f"{depth} hidden layer{'s' if depth > 1 else ''} of 30, eta 0.1, lambda 5.0, 30 epochs",
            f"{_NIELSEN} 5",
            {"": (replace(_DEEP, net=_book(784, *[30] * depth, 10)), accuracy)},
        )
        for depth, accuracy in ((1, 96.48), (2, 96.90), (3, 96.57), (4, 96.53))
    },
    "nielsen-ch6-fc": Published("100 sigmoid, softmax, eta 0.1, 60 epochs", f"{_NIELSEN} 6", {"": (_SIX, 97.80)}),
    "nielsen-ch6-conv1": Published(
        "20 of 5x5, max-pool, 100 sigmoid",
        f"{_NIELSEN} 6",
        {"": (replace(_SIX, net=_book_conv([20], [100])), 98.78)},
    ),
    "nielsen-ch6-conv2": Published(
        "then 40 of 5x5, max-pool",
        f"{_NIELSEN} 6",
        {"": (replace(_SIX, net=_book_conv([20, 40], [100])), 99.06)},
    ),
    "nielsen-ch6-relu": Published("the same with ReLU, eta 0.03, lambda 0.1", f"{_NIELSEN} 6", {"": (_RELU, 99.23)}),
    "nielsen-ch6-expand": Published(
        "and 250,000 images, shifted by a pixel; 100, 300 or 1,000 dense",
        f"{_NIELSEN} 6",
        {
            f"{n:,}": (replace(_EXPAND, net=_book_conv([20, 40], [n], "relu")), accuracy)
            for n, accuracy in ((100, 99.37), (300, 99.46), (1_000, 99.43))
        },
        long="15 million images in each of three runs: for a GPU",
    ),
    "nielsen-ch6-2fc": Published(
        "two dense layers of 100, 300 or 1,000",
        f"{_NIELSEN} 6",
        {
            f"{n:,}": (replace(_EXPAND, net=_book_conv([20, 40], [n, n], "relu")), accuracy)
            for n, accuracy in ((100, 99.43), (300, 99.48), (1_000, 99.47))
        },
        long="15 million images in each of three runs: for a GPU",
    ),
    "nielsen-ch6-dropout": Published(
        "two dense layers of 1,000, dropout 0.5 on three, 40 epochs",
        f"{_NIELSEN} 6",
        {"": (_DROPOUT, 99.60)},
        long="10 million images: for a GPU",
    ),
    "nielsen-ch6-vote": Published(
        "five such networks vote",
        f"{_NIELSEN} 6",
        {"": (replace(_DROPOUT, members=5), 99.67)},
        long="50 million images: for a GPU",
    ),
    "sklearn-mnist": Published(
        "784-100-100-10 ReLU, alpha 1e-4, batches of 200, until the loss stays",
        "scikit-learn's benchmarks/bench_mnist.py",
        {
            "adam": (_SKLEARN, 97.76),
            "sgd": (
                replace(_SKLEARN, optimizer=lambda: SGD(0.2, momentum=0.9, nesterov=True, weight_decay=1e-4 / 200)),
                97.13,
            ),
        },
    ),
    "keras-mlp": Published(
        "784-512-512-10 ReLU, dropout 0.2, RMSprop, batches of 128, 20 epochs",
        "Keras' example mnist_mlp.py",
        {
            "": (
                Setting(_keras, SoftmaxCrossEntropy, lambda: RMSprop(1e-3, epsilon=1e-7), 20, 128, 60_000, when="last"),
                98.40,
            )
        },
    ),
    "dropout-table2": Published(
        "two layers of 800 logistic; with dropout three of 1,024 and two of 8,192",
        "Srivastava et al., 2014, table 2; how long they trained as in dropout-repro",
        {
            "standard": (replace(_DROPPED, net=_dropped(800, 2, "sigmoid", drop=False)), 98.40),
            "dropout, logistic": (replace(_DROPPED, net=_dropped(1024, 3, "sigmoid")), 98.65),
            "dropout, ReLU": (_DROPPED, 98.75),
            "and max-norm": (replace(_DROPPED, callbacks=lambda: [MaxNorm(2.0)]), 98.94),
            "and max-norm, two of 8,192": (
                replace(_DROPPED, net=_dropped(8192, 2), callbacks=lambda: [MaxNorm(2.0)]),
                99.05,
            ),
        },
        long="a million updates in each of five runs: for a GPU",
    ),
    "dropout-repro": Published(
        "784-1024-1024-1024-10 ReLU, dropout, max-norm 2, momentum 0.95, a million updates",
        "a repetition of Srivastava et al., 2014",
        {"": (replace(_DROPPED, callbacks=lambda: [MaxNorm(2.0)]), 98.88)},
        long="a million updates: for a GPU",
    ),
    "torch-mnist": Published(
        "conv 32 and 64 of 3x3, dropout, 128 dense, Adadelta, batches of 64, 14 epochs",
        "PyTorch's example mnist",
        {
            "": (
                Setting(
                    _torch,
                    SoftmaxCrossEntropy,
                    lambda: Adadelta(schedules.Step(1.0, every=938, factor=0.7), rho=0.9),
                    14,
                    64,
                    60_000,
                    when="last",
                ),
                99.20,
            )
        },
    ),
    "one-epoch": Published(
        "a small CNN, Adam 0.01 with betas 0.7 and 0.9, one epoch; network and schedule are gpunn's own",
        "a contest on the web: 99 % in one epoch",
        {
            "": (
                Setting(
                    lambda: cnn(width=24, dropout=0.1),
                    SoftmaxCrossEntropy,
                    lambda: Adam(schedules.OneCycle(0.01, 1200), beta1=0.7, beta2=0.9),
                    1,
                    50,
                    60_000,
                    when="last",
                ),
                99.04,
            )
        },
    ),
}


def find(ids: Sequence[str], on_host: bool = False) -> list[str]:
    """The ids, or all of them for "all", but for those too long for a CPU where the device is one.

    Raises OptionError, with the nearest one, for one that is not known.
    """
    for name in ids:
        if name not in ROWS and name != "all":
            near = difflib.get_close_matches(name, ROWS, 1, cutoff=0.3)
            raise OptionError(
                f"no published result is called {name!r}" + (f"; did you mean {near[0]}?" if near else "")
            )
    if "all" in ids:
        return [name for name, row in ROWS.items() if not (on_host and row.long)]
    return list(dict.fromkeys(ids))


# --- a run


Parts = tuple[Dataset, Dataset, Dataset]


def measure(setting: Setting, data: Parts, seed: int, device: Device, epochs: int | None = None) -> dict[str, Any]:
    """Train as the setting says, on (train, validation, test): the accuracy in %, the epochs and the seconds it took.

    `epochs` shortens the run.
    """
    train, validation, test = data
    if setting.train > len(train):  # no validation
        x, y = (np.concatenate(both) for both in zip(train, validation, strict=True))
        train = replace(train, x=x, y=y)
    train = train[: setting.train]
    if setting.shifted:
        train = expand_by_shifts(train)
    votes = np.zeros((len(test), 10))
    done, seconds = 0, 0.0
    for member in range(setting.members):
        trainer = Trainer(
            setting.net(), setting.loss(), setting.optimizer(), device=device, seed=seed * setting.members + member
        )
        watch = _Watch(setting, validation, test)
        history = trainer.fit(
            train,
            epochs=epochs or setting.epochs,
            batch_size=setting.batch_size,
            callbacks=[*setting.callbacks(), watch],
        )
        done, seconds = len(history), seconds + sum(history["seconds"])
        if setting.members > 1:
            votes[np.arange(len(test)), to_host(trainer.predict(test.x)).argmax(axis=1)] += 1
    accuracy = watch.result(trainer) if setting.members == 1 else float((votes.argmax(axis=1) == test.y).mean())
    return {"accuracy": round(100 * accuracy, 4), "epochs": done, "seconds": round(seconds, 1)}


class _Watch(Callback):
    """Measures after each epoch what the setting asks for, and stops a run as scikit-learn does."""

    def __init__(self, setting: Setting, validation: Dataset, test: Dataset) -> None:
        self.setting, self.sets = setting, {"validation": validation, "test": test}
        self.best = self.there = 0.0  # the best accuracy of what is watched, and that of the test set then
        self.lowest, self.waited = math.inf, 0

    def on_epoch(self, trainer: Trainer, row: Row) -> None:
        setting = self.setting
        if setting.when != "last":
            watched = self._accuracy(trainer, setting.measured if setting.when == "best" else "validation")
            if watched >= self.best:  # of equal ones network3.py takes the last
                self.best = self.there = watched
                if setting.when == "validation":
                    self.there = self._accuracy(trainer, "test")
        if setting.patience is not None:
            self.waited = 0 if row["loss"] < self.lowest - 1e-4 else self.waited + 1
            self.lowest = min(self.lowest, row["loss"])
            trainer.stop = self.waited > setting.patience

    def _accuracy(self, trainer: Trainer, name: str) -> float:
        return trainer.evaluate(self.sets[name])["accuracy"]

    def result(self, trainer: Trainer) -> float:
        return self._accuracy(trainer, self.setting.measured) if self.setting.when == "last" else self.there


# --- results


@dataclass(frozen=True)
class Result:
    """What was measured for a row: a run for each setting and seed."""

    name: str
    runs: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path, name: str) -> "Result":
        """The result in the folder, or one without runs. Raises FileError for a file that is no result."""
        path = folder / f"{name}.json"
        try:
            runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
            return cls(
                name, [run for run in runs if {"setting", "seed", "accuracy", "epochs", "seconds"} <= run.keys()]
            )
        except FileNotFoundError:
            return cls(name, [])
        except OSError as error:
            raise FileError(f"{path}: cannot be read: {error.strerror}; name another folder with --out") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FileError(f"{path}: not a result of gpunn reproduce ({error}); remove it, and run it again") from None

    def write(self, folder: Path) -> None:
        """Write it, with what was published and what it ran on. Raises FileError."""
        row = ROWS[self.name]
        published = {name: value for name, (_, value) in row.settings.items()}
        found = {"id": self.name, "about": row.about, "source": row.source, "published": published, "runs": self.runs}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"{folder}: cannot be made: {error.strerror}; name another with --out") from None
        write_atomic(folder / f"{self.name}.json", json.dumps(found, indent=2) + "\n")

    def of(self, setting: str) -> list[dict[str, Any]]:
        """The runs of a setting that went through the most epochs that any did (scikit-learn's end when they will)."""
        runs = [run for run in self.runs if run["setting"] == setting]
        whole = [run for run in runs if not run.get("cut")]
        longest = max((run["epochs"] for run in runs), default=0)
        return whole or [run for run in runs if run["epochs"] == longest]


def reproduce(
    names: Sequence[str],
    data: Callable[[], Parts],
    device: Device,
    *,
    seeds: int = 3,
    epochs: int | None = None,
    quick: bool = False,
    folder: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Run the rows called `names`, `seeds` runs for each setting, and say what comes of it.

    Runs that are in the folder already, with as many epochs, are not run again. `epochs` cuts runs short, and `quick`
    to a tenth; what is cut is marked so. Without a folder nothing is kept.
    """
    for name in names:
        result = Result.read(folder, name) if folder else Result(name, [])
        for key, (setting, published) in ROWS[name].settings.items():
            wanted = min(epochs or setting.epochs, -(-setting.epochs // 10) if quick else setting.epochs)
            cut = wanted if wanted < setting.epochs else None
            for seed in range(seeds):
                if not any(_is(run, key, seed, cut) for run in result.runs):
                    run = {"setting": key, "seed": seed, **measure(setting, data(), seed, device, cut)}
                    about = {"device": str(device), "date": date.today().isoformat(), "versions": versions()}
                    result.runs.append(run | ({"cut": setting.epochs} if cut else {}) | about | {"blas": blas()})
                    if folder:
                        result.write(folder)
            say(_line(name, key, published, result.of(key)))


def _is(run: dict[str, Any], key: str, seed: int, cut: int | None) -> bool:
    """Whether this is the run of a setting and seed, or a longer one."""
    same = (run["setting"], run["seed"]) == (key, seed)
    return same and ("cut" not in run or (cut is not None and run["epochs"] >= cut))


def summary(runs: list[dict[str, Any]]) -> str:
    """Mean, standard deviation, best and number of runs: "95.31 (0.12; best of 3 95.42)"; what of it was cut."""
    if not runs:
        return "not run"
    values = [run["accuracy"] for run in runs]
    more = f"{statistics.stdev(values):.2f}; best of {len(values)} {max(values):.2f}" if len(values) > 1 else "1 run"
    cut = f"; {runs[0]['epochs']} of {runs[0]['cut']} epochs" if runs[0].get("cut") else ""
    return f"{statistics.mean(values):.2f} ({more}{cut})"


def _line(name: str, key: str, published: float | None, runs: list[dict[str, Any]]) -> str:
    label = f"{name}, {key}" if key else name
    seconds = f", {statistics.mean(run['seconds'] for run in runs):.0f} s each" if runs else ""
    return f"{label:<32}  published {_percent(published):>5} %   measured {summary(runs)}{seconds}"


def _percent(published: float | None) -> str:
    return "-" if published is None else f"{published:.2f}"


def listing(folder: Path) -> Iterator[str]:
    """A line for each row: what it is, what was published, what was measured."""
    for name, row in ROWS.items():
        result = Result.read(folder, name)
        yield f"{name}: {row.about} ({row.source})" + (f"; {row.long}" if row.long else "")
        for key, (_, published) in row.settings.items():
            yield "    " + _line(name, key, published, result.of(key))


def table(folder: Path) -> str:
    """All rows as a table in Markdown."""
    lines = ["| id | what | published | measured: mean (standard deviation; best) |", "|---|---|---|---|"]
    for name, row in ROWS.items():
        result = Result.read(folder, name)
        for i, (key, (_, published)) in enumerate(row.settings.items()):
            what = "; ".join(part for part in (row.about if i == 0 else "", key) if part)
            cells = (f"`{name}`" if i == 0 else "", what, _percent(published), summary(result.of(key)))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
