"""The options of a training run: from the command line, from a TOML file, and back into one."""

import dataclasses
import difflib
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

from gpunn.errors import FileError, OptionError

__all__ = ["Config"]

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "adagrad")
SCHEDULES = ("constant", "step", "exponential", "inverse", "cosine")
LOSSES = ("softmax", "sigmoid", "quadratic", "mse", "mae", "huber")
TASKS = ("auto", "classification", "regression")

_BY_DATA: dict[str, dict[str, Any]] = {
    "digits": {"hidden": [256, 128], "epochs": 40, "batch_size": 32, "lr": 3e-3},
    "mnist": {"hidden": [256, 128], "epochs": 10, "batch_size": 128, "lr": 2e-3},
}


def _option(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass
class Config:
    """Everything that decides what a run of `gpunn train` computes. Raises OptionError for a value out of range."""

    data: str = "digits"
    data_dir: str = _option("", "folder with the files of MNIST (default: GPUNN_DATA_DIR, else downloaded)")
    target: str = _option("", "the column of a .csv to predict (default: the last)")
    task: str = _option("auto", "what to make of the targets (default: by their values)", TASKS)
    hidden: list[int] = _option(lambda: [64, 64], "sizes of the hidden layers, such as 128,64, or none")
    activation: str = _option("relu", "activation of the hidden layers, such as relu, tanh, sigmoid, gelu")
    loss: str = _option("", "loss (default: softmax for classes, mse for numbers)", LOSSES)
    optimizer: str = _option("adam", "optimiser", OPTIMIZERS)
    lr: float = _option(1e-3, "learning rate")
    momentum: float = _option(0.0, "momentum of sgd")
    weight_decay: float = _option(0.0, "L2 penalty on the weights, biases spared")
    schedule: str = _option("cosine", "how the learning rate falls over the run", SCHEDULES)
    warmup: int = _option(0, "steps in which the learning rate rises from 0 first")
    clip_norm: float = _option(0.0, "shorten gradients longer than this; 0 for never")
    batch_size: int = _option(32, "examples in a step")
    epochs: int = _option(50, "passes over the training data")
    patience: int = _option(0, "stop after so many epochs without a better one, and keep the best; 0 for never")
    valid: float = _option(0.1, "fraction of the training data set aside to watch progress; 0 for none")
    seed: int = _option(0, "seed of every random choice")
    device: str = _option("auto", "auto, cpu, cuda, cuda:N, torch:cpu, strict:cpu ...")
    dtype: str = _option("float32", "float32 or float64", ("float32", "float64"))

    def __post_init__(self) -> None:
        for name, low in _LOWEST.items():
            if getattr(self, name) < low:
                raise OptionError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if not 0.0 <= self.valid < 1.0:
            raise OptionError(f"valid must be at least 0 and below 1, got {self.valid}")
        if any(n < 1 for n in self.hidden):
            raise OptionError(f"hidden sizes must be at least 1, got {self.hidden}")
        for f in dataclasses.fields(self):
            choices = f.metadata.get("choices")
            if choices and getattr(self, f.name) not in (*choices, f.default):
                raise OptionError(f"{f.name} {getattr(self, f.name)!r} is not known; expected {', '.join(choices)}")

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Config":
        """The config with these options, and for all others what suits the data."""
        known = {f.name: f.type for f in dataclasses.fields(cls)}
        options = dict(options)
        for name, value in options.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise OptionError(f"option {name!r} is not known{f'; did you mean {near[0]!r}?' if near else ''}")
            options[name] = _checked(name, value, known[name])
        suited = _BY_DATA.get(options.get("data", cls.data), {})
        return cls(**(suited | options))

    @classmethod
    def read(cls, path: str | Path, more: dict[str, Any] | None = None) -> "Config":
        """The config in a TOML file, with the options in `more` over it. Raises FileError or OptionError."""
        try:
            options = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise FileError(f"{path}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise FileError(f"{path}: not a TOML file: {error}") from None
        try:
            return cls.of(options | (more or {}))
        except OptionError as error:
            raise OptionError(f"{path}: {error}") from None

    def to_toml(self) -> str:
        """All options as TOML; `read` gives the same config again."""
        # JSON's strings, numbers, booleans and lists of them are TOML's too
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in dataclasses.asdict(self).items())


_LOWEST = {
    "lr": 0.0,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "warmup": 0,
    "clip_norm": 0.0,
    "batch_size": 1,
    "epochs": 0,
    "patience": 0,
    "seed": 0,
}


def _checked(name: str, value: Any, kind: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if get_origin(kind) is list:
        right = isinstance(value, list) and all(type(item) in get_args(kind) for item in value)
    else:
        right = type(value) is kind
    if not right:
        expected = "a list of whole numbers" if get_origin(kind) is list else _IN_WORDS[kind]
        raise OptionError(f"{name} must be {expected}, got {value!r}")
    return value


_IN_WORDS = {int: "a whole number", float: "a number", str: "a text"}
