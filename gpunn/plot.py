"""Pictures. They need matplotlib, the extra "plot": without it there are none."""

import io
import math
from pathlib import Path

from gpunn.io.atomic import write_atomic
from gpunn.train.history import History

__all__ = ["draw_curves"]


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
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    write_atomic(path, out.getvalue())
    return True
