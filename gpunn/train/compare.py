"""`gpunn compare`: what a choice matters, by training every combination from the same seeds."""

import dataclasses
import itertools
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from gpunn.checks import counted
from gpunn.device import device as find_device
from gpunn.environment import blas, versions
from gpunn.errors import Diverged, FileError, OptionError
from gpunn.io.atomic import write_atomic
from gpunn.plot import draw_comparison
from gpunn.train.config import Config
from gpunn.train.history import History, badness
from gpunn.train.recipe import divided, load_data, make_network, make_trainer

__all__ = ["Choice", "compare", "parse_vary"]


@dataclass
class Choice:
    """One combination and what came of it, a figure for each seed; runs that diverged are counted apart."""

    options: dict[str, Any]
    figures: list[float]  # test accuracy, or test loss where targets are quantities
    seconds: list[float]
    histories: list[History]
    diverged: int = 0

    @property
    def name(self) -> str:
        """The combination in words: "activation=relu, init=he"."""
        return ", ".join(f"{key}={_shown(value)}" for key, value in self.options.items())


_THE_SAME = ("data", "data_dir", "target", "drop", "missing", "image_size", "task", "device", "seed")


def parse_vary(texts: Sequence[str]) -> dict[str, list[Any]]:
    """The values to try for each option, from texts such as "activation=relu,tanh" or "hidden=128x64,256,none".

    Raises OptionError for an option that is not known, is given twice, or a value that it cannot have.
    """
    kinds = {f.name: f.type for f in dataclasses.fields(Config)}
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not (equals and values.strip()):
            raise OptionError(f"--vary {text!r}: expected an option and its values, such as activation=relu,tanh")
        if name in _THE_SAME:
            raise OptionError(f"--vary {text!r}: {name} is the same for all; vary another option")
        if name in found:
            raise OptionError(f"--vary {text!r}: {name} is given twice; name all its values at once")
        found[name] = [_value(value.strip(), kinds.get(name)) for value in values.split(",")]
        for value in found[name]:
            Config.of({name: value} | ({"optimizer": "sgd"} if name == "momentum" else {}))  # says what it cannot be
    return found


def _value(text: str, kind: Any) -> Any:
    try:
        if get_origin(kind) is list:
            return [] if text == "none" else [int(size) for size in text.split("x")]
        return kind(text) if kind in (int, float) else text
    except ValueError:
        return text  # Config says what is expected


def _shown(value: Any) -> str:
    return ("x".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def compare(
    options: dict[str, Any],
    vary: dict[str, list[Any]],
    *,
    seeds: int = 3,
    out: Path,
    say: Callable[[str], None] = print,
) -> list[Choice]:
    """Train every combination of `vary` over the other options with seeds 0, 1, ...; the choices, best first.

    The table is said, and the folder `out` gets comparison.json and, where matplotlib is there, comparison.png. Raises
    OptionError, FileError or DataError before the first run where something does not fit.
    """
    chosen = [dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())]
    configs = [Config.of(options | some) for some in chosen]
    where = find_device(configs[0].device, announce=False)
    train, test = load_data(configs[0])
    is_classes = bool(train.classes)
    if "loss" in vary and not is_classes:
        raise OptionError("--vary loss: the choices are ranked by their loss, and one cannot be ranked by another")
    for config in configs:
        make_network(config, train)  # what does not fit is found before the first run
    column = "accuracy" if is_classes else "loss"
    if (out / "comparison.json").exists():
        raise FileError(f"{out}: holds a comparison already; name another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{out}: cannot be made: {error.strerror}; name another folder with --out") from None
    say(f"device   {where.name}: {where.reason}")
    say(f"data     {configs[0].data}; {counted(len(chosen), 'combination')}, {counted(seeds, 'seed')} each")
    choices = [Choice(some, [], [], []) for some in chosen]
    for choice, config in zip(choices, configs, strict=True):
        for seed in range(seeds):
            config = dataclasses.replace(config, seed=seed)
            rest, valid = divided(config, train)
            trainer = make_trainer(config, make_network(config, rest), rest, where)
            try:
                history = trainer.fit(
                    rest,
                    valid=valid,
                    epochs=config.epochs,
                    batch_size=config.batch_size,
                    patience=config.patience or None,
                    restore_best=bool(config.patience),
                )
            except Diverged:
                choice.diverged += 1
                continue
            choice.figures.append(trainer.evaluate(test)[column])
            choice.seconds.append(sum(history["seconds"]))
            choice.histories.append(history)
        say(f"  {choice.name}: {_summary(choice, is_classes)}")
    ranked = sorted(choices, key=lambda c: badness(column, statistics.mean(c.figures)) if c.figures else float("inf"))
    say("")
    for line in _table(ranked, is_classes):
        say(line)
    _write(out / "comparison.json", options, ranked, column)
    if draw_comparison(
        {choice.name: choice.histories for choice in ranked if choice.histories}, out / "comparison.png"
    ):
        say(f"curves in {out / 'comparison.png'}")
    return ranked


def _summary(choice: Choice, is_classes: bool) -> str:
    if not choice.figures:
        return "diverged"
    text = "{:.2%}" if is_classes else "{:.5g}"
    spread = f" (standard deviation {text.format(statistics.stdev(choice.figures))})" if len(choice.figures) > 1 else ""
    also = f", {choice.diverged} diverged" if choice.diverged else ""
    return text.format(statistics.mean(choice.figures)) + spread + also


def _table(ranked: Sequence[Choice], is_classes: bool) -> list[str]:
    """The choices, best first, a line each."""
    what = "test accuracy" if is_classes else "test loss"
    rows = [("rank", *ranked[0].options, what, "seconds")]
    for rank, choice in enumerate(ranked, start=1):
        seconds = f"{statistics.mean(choice.seconds):.2f}" if choice.seconds else "-"
        rows.append((str(rank), *map(_shown, choice.options.values()), _summary(choice, is_classes), seconds))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]]


def _write(path: Path, options: dict[str, Any], ranked: Sequence[Choice], column: str) -> None:
    choices = [
        {
            "options": choice.options,
            f"test_{column}": choice.figures,
            "seconds": choice.seconds,
            "diverged": choice.diverged,
            "histories": [history.rows for history in choice.histories],
        }
        for choice in ranked
    ]
    found = {"options": options, "versions": versions(), "blas": blas(), "choices": choices}
    write_atomic(path, json.dumps(found, indent=2) + "\n")
