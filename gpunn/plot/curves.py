"""Learning curves: of one run, and of several side by side."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpunn.errors import OptionError
from gpunn.plot.style import (
    COLOURS,
    as_percent,
    can_draw,
    finish,
    line_style,
    log_scale,
    new_figure,
    only_whole_numbers,
)
from gpunn.train.history import History

__all__ = ["curves", "draw_comparison", "draw_curves"]


def curves(history: History, path: str | Path | None = None) -> Any:
    """The loss of every epoch, in training and on validation data, and the accuracy or R² on those: one line each.

    A loss is drawn on a logarithmic scale. Returns the matplotlib Figure, written to `path` as PNG where there is one.
    Raises OptionError where there is no epoch, and without matplotlib.
    """
    if not len(history):
        raise OptionError("the history has no epochs yet: train first, with trainer.fit(...)")
    panels = [("loss", ["loss", "valid_loss"]), ("accuracy", ["valid_accuracy"]), ("R²", ["valid_r2"])]
    panels = [(title, [c for c in columns if c in history.columns]) for title, columns in panels]
    panels = [(title, columns) for title, columns in panels if columns]
    names = dict.fromkeys(("valid_loss", "valid_accuracy", "valid_r2"), "validation") | {"loss": "training"}
    styles = {"training": {"color": COLOURS[0]}, "validation": {"color": COLOURS[1], "linestyle": "--"}}

    figure = new_figure(5 * len(panels), 3.6)
    for axes, (title, columns) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for column in columns:
            marker = "o" if len(history) == 1 else None
            axes.plot(history["epoch"], history[column], label=names[column], marker=marker, **styles[names[column]])
        axes.set_xlabel("epoch")
        axes.set_ylabel(title)
        axes.set_xlim(history["epoch"][0] - 0.5, history["epoch"][-1] + 0.5)
        only_whole_numbers(axes.xaxis)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        losses = [value for column in columns for value in history[column] if not math.isnan(value)]
        if title == "loss" and min(losses) > 0.0:
            log_scale(axes, min(losses), max(losses))
        if title == "accuracy":
            as_percent(axes.yaxis)
    return finish(figure, path)


def draw_curves(history: History, path: str | Path) -> bool:
    """Write `curves` to a PNG file; whether there was something to draw, and matplotlib to draw with."""
    if not len(history) or not can_draw():
        return False
    curves(history, path)
    return True


def draw_comparison(curves: Mapping[str, Sequence[History]], path: str | Path) -> bool:
    """Draw the validation curve of each choice, the mean over its seeds in a band from the lowest to the highest.

    `curves` are the histories of a choice, one for each seed. Without validation data for all of them it is the
    training loss. Those of no epochs are left out. Returns whether there was something to draw, and to draw with.
    """
    curves = {name: histories for name, histories in curves.items() if histories and all(map(len, histories))}
    if not curves or not can_draw():
        return False
    shared = set.intersection(*(set(history.columns) for histories in curves.values() for history in histories))
    names = {"valid_loss": "validation loss", "valid_accuracy": "validation accuracy", "loss": "training loss"}
    columns = [c for c in names if c in shared and (c != "loss" or "valid_loss" not in shared)]
    figure = new_figure(5.5 * len(columns), 4.2 + 0.12 * len(curves))
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        for i, (name, histories) in enumerate(curves.items()):
            epochs = min(len(history) for history in histories)
            values = [history[column][:epochs] for history in histories]
            x = range(1, epochs + 1)
            style = line_style(i)
            axes.plot(x, [sum(each) / len(each) for each in zip(*values, strict=True)], label=name, **style)
            lowest, highest = ([f(each) for each in zip(*values, strict=True)] for f in (min, max))
            axes.fill_between(x, lowest, highest, color=style["color"], alpha=0.15, linewidth=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel(names[column])
        only_whole_numbers(axes.xaxis)
        axes.grid(alpha=0.3)
        if "accuracy" in column:
            as_percent(axes.yaxis)
        elif min(min(history[column]) for histories in curves.values() for history in histories) > 0.0:
            axes.set_yscale("log")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(3, len(curves)), frameon=False, fontsize="small"
    )
    finish(figure, path)
    return True
