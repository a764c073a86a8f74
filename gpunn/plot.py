"""Pictures. They need matplotlib, the extra "plot": without it there are none."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpunn.io.atomic import write_atomic
from gpunn.train.history import History

__all__ = ["draw_comparison", "draw_curves"]


def draw_curves(history: History, path: str | Path) -> bool:
    """Draw the loss (and the accuracy) of every epoch into a PNG file; whether there was something to draw with."""
    if not len(history):
        return False
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter
    except ImportError:
        return False
    panels = [("loss", ["loss", "valid_loss"]), ("accuracy", ["valid_accuracy"])]
    panels = [(title, [c for c in columns if c in history.columns]) for title, columns in panels]
    panels = [(title, columns) for title, columns in panels if columns]
    names = {"loss": "training", "valid_loss": "validation", "valid_accuracy": "validation"}
    styles = {"training": {"color": "#0072B2"}, "validation": {"color": "#D55E00", "linestyle": "--"}}

    figure = Figure(figsize=(5 * len(panels), 3.6), layout="constrained")
    for axes, (title, columns) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for column in columns:
            marker = "o" if len(history) == 1 else None
            axes.plot(history["epoch"], history[column], label=names[column], marker=marker, **styles[names[column]])
        axes.set_xlabel("epoch")
        axes.set_ylabel(title)
        axes.set_xlim(history["epoch"][0] - 0.5, history["epoch"][-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        losses = [value for column in columns for value in history[column] if not math.isnan(value)]
        if title == "loss" and min(losses) > 0.0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(losses) < 30 * min(losses) else (1,)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        if title == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _save(figure, path)
    return True


def draw_comparison(curves: Mapping[str, Sequence[History]], path: str | Path) -> bool:
    """Draw the validation curve of each choice, the mean over its seeds in a band from the lowest to the highest.

    `curves` are the histories of a choice, one for each seed. Without validation data it is the training loss. Returns
    whether there was something to draw with.
    """
    if not curves:
        return False
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator, PercentFormatter
    except ImportError:
        return False
    first = next(iter(curves.values()))[0]
    names = {"valid_loss": "validation loss", "valid_accuracy": "validation accuracy", "loss": "training loss"}
    columns = [c for c in names if c in first.columns and (c != "loss" or "valid_loss" not in first.columns)]
    if not columns:
        return False
    figure = Figure(figsize=(5.5 * len(columns), 4.2 + 0.12 * len(curves)), layout="constrained")
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        for i, (name, histories) in enumerate(curves.items()):
            epochs = min(len(history) for history in histories)
            values = [history[column][:epochs] for history in histories]
            x = range(1, epochs + 1)
            style = {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _LINES[i // len(_COLOURS) % len(_LINES)]}
            axes.plot(x, [sum(each) / len(each) for each in zip(*values, strict=True)], label=name, **style)
            lowest, highest = ([f(each) for each in zip(*values, strict=True)] for f in (min, max))
            axes.fill_between(x, lowest, highest, color=style["color"], alpha=0.15, linewidth=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel(names[column])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.grid(alpha=0.3)
        if "accuracy" in column:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        elif min(min(history[column]) for histories in curves.values() for history in histories) > 0.0:
            axes.set_yscale("log")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(3, len(curves)), frameon=False, fontsize="small"
    )
    _save(figure, path)
    return True


# Colours that people who do not see all of them tell apart (Okabe and Ito, 2008)
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", ":", "-.")


def _save(figure: Any, path: str | Path) -> None:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    write_atomic(path, out.getvalue())
