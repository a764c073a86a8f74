"""A chart of the losses that is drawn anew while training goes on, on any terminal."""

import math
import os
import shutil
import sys
import time
from typing import Any

import numpy as np

from gpunn.train.history import History, Row
from gpunn.train.trainer import Callback, Trainer

__all__ = ["LiveChart", "chart"]

_EVERY = 0.1  # seconds between two pictures
_WIDEST, _HIGHEST = 80, 14
_MARKS = {"loss": ".", "valid_loss": "o"}  # the later one is drawn over the earlier


class LiveChart(Callback):
    """The loss, and the validation loss, over the epochs as a line chart on standard output, which is a terminal."""

    def __init__(self) -> None:
        self._lines = self._batches = self._epochs = 0  # on the terminal; in an epoch; in all
        self._drawn = -math.inf  # when

    @staticmethod
    def possible() -> bool:
        """Whether standard output is a terminal that can be drawn on."""
        return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

    def on_start(self, trainer: Trainer, epochs: int, batches: int) -> None:
        self._epochs, self._batches = trainer.epoch + epochs, batches

    def on_step(self, trainer: Trainer) -> None:
        if time.monotonic() > self._drawn + _EVERY:
            self._draw(trainer)

    def on_epoch(self, trainer: Trainer, row: Row) -> None:
        self.on_step(trainer)

    def on_end(self, trainer: Trainer) -> None:
        self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        columns, rows = shutil.get_terminal_size()
        width = min(columns - 1, _WIDEST)  # a full line may or may not go on in the next
        lines = [*chart(trainer.history, self._epochs, width, min(rows - 6, _HIGHEST)), self._state(trainer)]
        back = f"\x1b[{self._lines}A\x1b[J" if self._lines else ""  # up to the first line, and clear from there
        print(back + "\n".join(line[:width] for line in lines), flush=True)
        self._lines, self._drawn = len(lines), time.monotonic()

    def _state(self, trainer: Trainer) -> str:
        parts = [f"epoch {trainer.epoch + (trainer.batch > 0)} of {self._epochs}"]
        if trainer.batch:
            parts[0] += f", batch {trainer.batch} of {self._batches}"
        row = trainer.history[-1] if len(trainer.history) else {}
        for name, form in (("loss", ".4g"), ("valid_loss", ".4g"), ("valid_accuracy", ".2%"), ("valid_r2", ".4f")):
            parts += [f"{name.replace('_', ' ')} {row[name]:{form}}"] if name in row else []
        return "  ".join(parts)


def chart(history: History, epochs: int, width: int, height: int) -> list[str]:
    """The losses over `epochs` epochs as lines of at most `width` characters, `height` of them for the curves.

    The loss is drawn on a logarithmic scale where all of it is above 0.
    """
    curves = {name: np.array(history[name]) for name in _MARKS if name in history.columns}
    values = np.concatenate([np.zeros(0), *curves.values()])
    values = values[np.isfinite(values)]
    logarithmic = bool(len(values)) and values.min() > 0

    def scale(v: Any) -> Any:
        return np.log(v) if logarithmic else v

    low, high = (float(scale(v)) for v in (values.min(), values.max())) if len(values) else (0.0, 0.0)
    height, span = max(height, 3), high - low or 1.0
    labels = {0: f"{values.max():.3g}", height - 1: f"{values.min():.3g}"} if len(values) else {}
    margin = 9
    wide = max(width - margin - 2, 5)
    cells = [[" "] * wide for _ in range(height)]
    for name, curve in curves.items():
        known = np.isfinite(curve)
        at = (np.array(history["epoch"])[known] - 1) / max(epochs - 1, 1) * (wide - 1)  # as columns of the chart
        if not len(at):
            continue
        first, last = math.ceil(at[0] - 0.5), round(at[-1])
        line = np.interp(np.arange(first, last + 1), at, scale(curve[known]))
        places = np.rint((high - line) / span * (height - 1)).astype(int).tolist()
        for column, (before, here) in enumerate(zip([places[0], *places], places, strict=False), start=first):
            step = 1 if here >= before else -1
            for row in range(before + step if here != before else here, here + step, step):  # steep parts, too
                cells[row][column] = _MARKS[name]
    names = {"loss": "training", "valid_loss": "validation"}
    legend = "   ".join(f"{_MARKS[name]} {names[name]}" for name in curves)
    title = "loss, logarithmic" if logarithmic else "loss"
    return [
        f"{legend}   {title}".strip(),
        *(f"{labels.get(i, ''):>{margin}} |{''.join(row)}".rstrip() for i, row in enumerate(cells)),
        f"{'':{margin}} +{'-' * wide}",
        f"{'epoch':>{margin}}  1{epochs:>{wide - 1}}",
    ]
