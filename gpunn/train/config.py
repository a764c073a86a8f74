"""The options of a training run: from the command line, from a TOML file, and back into one."""

import dataclasses
import difflib
import json
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

from gpunn.errors import FileError, OptionError

__all__ = ["Config"]

OPTIMIZERS = ("sgd", "adam", "adamw", "nadam", "adamax", "rmsprop", "adagrad", "adadelta", "lion", "muon")
SCHEDULES = ("constant", "step", "exponential", "inverse", "cosine", "restarts", "polynomial", "onecycle")
LOSSES = ("softmax", "focal", "sigmoid", "quadratic", "hinge", "mse", "mae", "huber", "poisson")
INITS = ("he", "he_uniform", "xavier", "xavier_uniform", "lecun", "lecun_uniform", "normal", "uniform", "orthogonal")
TASKS = ("auto", "classification", "regression")
MISSING = ("mean", "drop", "refuse")
MODELS = ("mlp", "cnn", "lenet")

_BY_DATA: dict[str, dict[str, Any]] = {
    # The products are so small that BLAS gives them one thread, and a busy machine does not make it wait for a second.
    "digits": {"hidden": [256], "epochs": 40, "batch_size": 16, "lr": 1e-2},
    "mnist": {"hidden": [256, 128], "epochs": 10, "batch_size": 128, "lr": 2e-3},
}
_BY_MODEL: dict[str, dict[str, Any]] = {"cnn": {"hidden": [], "dropout": 0.3}, "lenet": {"hidden": []}}


def _option(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    how: dict[str, Any] = {"default_factory": default} if callable(default) else {"default": default}
    return field(**how, metadata={"help": help, "choices": choices})


@dataclass
class Config:
    """Everything that decides what a run of `gpunn train` computes. Raises OptionError for a value out of range."""

    data: str = "digits"
    data_dir: str = _option("", "folder with the files of MNIST (default: GPUNN_DATA_DIR, else downloaded)")
    target: str = _option("", "the column of a .csv to predict (default: the last)")
    drop: list[str] = _option(list, "columns of a .csv to leave out, such as id,name (default: none)")
    missing: str = _option(
        "mean",
        "what to make of a missing number in a .csv: its column's mean; of text, a category "
        "of its own; or drop or refuse such rows",
        MISSING,
    )
    image_size: list[int] = _option(
        list,
        "height and width to bring pictures in folders to, such as 32x32 (default: 32x32, "
        "or their own if all are alike up to 64x64)",
    )
    task: str = _option("auto", "what to make of the targets (default: by their values)", TASKS)
    model: str = _option("mlp", "network: mlp, or for images cnn or lenet, which are convolutional", MODELS)
    hidden: list[int] = _option(lambda: [64, 64], "sizes of the hidden layers, such as 128,64, or none")
    activation: str = _option("relu", "activation of the hidden layers, such as relu, tanh, sigmoid, gelu")
    dropout: float = _option(0.0, "fraction of hidden outputs dropped in training (default: 0.3 for cnn, else 0)")
    init: str = _option("", "initial weights (default: he, xavier or lecun, to suit the activation)", INITS)
    loss: str = _option("", "loss (default: softmax for classes, mse for numbers)", LOSSES)
    optimizer: str = _option("adam", "optimiser", OPTIMIZERS)
    lr: float = _option(3e-3, "learning rate")
    momentum: float = _option(0.0, "momentum of sgd")
    weight_decay: float = _option(0.0, "L2 penalty on the weights (adamw, lion, muon: decoupled decay), biases spared")
    schedule: str = _option("cosine", "how the learning rate falls over the run", SCHEDULES)
    warmup: int = _option(0, "steps at the start in which the learning rate rises from near 0")
    clip_norm: float = _option(0.0, "shorten gradients longer than this; 0 for never")
    batch_size: int = _option(32, "examples in a step")
    epochs: int = _option(50, "passes over the training data")
    patience: int = _option(0, "stop after so many epochs without a better one, and keep the best; 0 for never")
    valid: float = _option(0.1, "fraction of the training data set aside to watch progress; 0 for none")
    seed: int = _option(0, "seed of every random choice")
    device: str = _option("auto", "auto, cpu, cuda, cuda:N, torch:cpu, strict:cpu ...")
    dtype: str = _option(
        "float32",
        "float32, float64, or on a CUDA GPU bfloat16 or tf32",
        ("float32", "bfloat16", "tf32", "float64"),
    )

    def __post_init__(self) -> None:
        for name in ("hidden", "drop", "image_size"):
            setattr(self, name, list(getattr(self, name)))  # its own
        for name, (low, end) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value < end:
                expected = f"at least {low}" if value < low else f"below {end}" if end < math.inf else "finite"
                raise OptionError(f"{name} must be {expected}, got {value}")
        if any(not 1 <= n <= _WIDEST for n in self.hidden):
            raise OptionError(f"hidden sizes must be from 1 to {_WIDEST:,}, got {self.hidden}")
        for f in dataclasses.fields(self):
            choices = f.metadata.get("choices")
            if choices and getattr(self, f.name) not in (*choices, f.default):
                raise OptionError(f"{f.name} {getattr(self, f.name)!r} is not known; expected {', '.join(choices)}")
        # an option that would do nothing was meant to do something
        if self.momentum and self.optimizer != "sgd":
            raise OptionError(f"momentum goes with optimizer sgd, and optimizer is {self.optimizer}")
        if self.model != "mlp" and (self.hidden or self.init or self.activation != "relu"):
            raise OptionError(
                f"hidden, activation and init go with model mlp, and {self.model} has its own: leave it out"
            )
        for name in ("target", "drop"):
            if getattr(self, name) and not self.data.lower().endswith(".csv"):
                raise OptionError(f"{name} names a column of a .csv file, and data is {self.data!r}")
        if self.missing != "mean" and not self.data.lower().endswith(".csv"):
            raise OptionError(f"missing {self.missing} is for a .csv file, and data is {self.data!r}")
        if self.image_size and (self.data in _BY_DATA or self.data.lower().endswith((".csv", ".npz"))):
            raise OptionError(f"image_size is for pictures in folders, and data is {self.data!r}")
        if self.image_size and (len(self.image_size) != 2 or not all(1 <= n <= 4096 for n in self.image_size)):
            raise OptionError(f"image_size must be a height and a width from 1 to 4096, got {self.image_size}")
        if self.data in _BY_DATA and self.task == "regression":
            raise OptionError(f"task regression goes with a file of your own: {self.data} has classes")

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Config":
        """The config with these options, and for all others what suits the data."""
        known = {f.name: f.type for f in dataclasses.fields(cls)}
        options = dict(options)
        for name, value in options.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(known)}"
                raise OptionError(f"option {name!r} is not known; {hint}")
            options[name] = _checked(name, value, known[name])
        suited = _BY_DATA.get(options.get("data", cls.data), {}) | _BY_MODEL.get(options.get("model", cls.model), {})
        return cls(**(suited | options))

    @classmethod
    def read(cls, path: str | Path, more: dict[str, Any] | None = None, *, of_run: bool = False) -> "Config":
        """The config in a TOML file, with the options in `more` over it. Raises FileError or OptionError.

        `of_run`: the file must be what `to_toml` wrote, from its first option to its last, not any choice of options.
        """
        try:
            options = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise FileError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or not meant to be read
            raise FileError(f"{path}: not a TOML file: {error}") from None
        if of_run and not {"data", "dtype"} <= options.keys():
            raise FileError(
                f"{path}: not the whole config of a run, which goes from data = ... to dtype = ...; use another copy"
            )
        try:
            return cls.of(options | (more or {}))
        except OptionError as error:
            raise OptionError(f"{path}: {error}") from None

    def to_toml(self) -> str:
        """All options as TOML; `read` gives the same config again."""
        # JSON's numbers, and lists of them, are TOML's too. So are its strings, but for DEL, which it does not escape,
        # and letters beyond the first 65,536, which it would escape as two.
        values = {name: json.dumps(value, ensure_ascii=False) for name, value in dataclasses.asdict(self).items()}
        return "".join(f"{name} = {value}\n" for name, value in values.items()).replace("\x7f", "\\u007f")


_WIDEST = 2**24  # two such layers already have more weights between them than any memory holds
_RANGES = {  # at least, and below; whole numbers are those of TOML, of 64 bits
    "lr": (0, math.inf),
    "momentum": (0, 1),
    "dropout": (0, 1),
    "weight_decay": (0, math.inf),
    "warmup": (0, 2**63),
    "clip_norm": (0, math.inf),
    "batch_size": (1, 2**63),
    "epochs": (0, 2**63),
    "patience": (0, 2**63),
    "valid": (0, 1),
    "seed": (0, 2**63),
}


def _checked(name: str, value: Any, kind: Any) -> Any:
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 2**63 else math.inf
    is_list = get_origin(kind) is list
    if is_list:
        right = isinstance(value, list) and all(type(item) in get_args(kind) for item in value)
    else:
        right = type(value) is kind
    if not right:
        expected = f"a list of {_IN_WORDS[get_args(kind)[0]][2:]}s" if is_list else _IN_WORDS[kind]
        raise OptionError(f"{name} must be {expected}, got {value!r}")
    for text in value if is_list else [value]:
        try:
            str(text).encode()
        except UnicodeEncodeError:  # the name of a file may be any bytes
            raise OptionError(f"{name} must be text in Unicode, got {text!r}; rename the file") from None
    return value


_IN_WORDS = {int: "a whole number", float: "a number", str: "a text"}
