"""Pictures of how weights and gradients change while a network learns, from what gn.Histograms has kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.errors import OptionError
from gpunn.plot.style import COLOURS, finish, line_style, new_figure, only_whole_numbers, plain
from gpunn.train.histograms import Histograms

__all__ = ["histograms", "norms"]

_ROWS = 60  # of the grid that histograms of different epochs are brought to
_PANELS = 12


def histograms(
    kept: Histograms,
    kind: str = "value",
    *,
    names: Sequence[str] | None = None,
    path: str | Path | None = None,
) -> Any:
    """How the numbers of each parameter are spread, epoch by epoch: a panel each, a column of colour for an epoch.

    The darker, the more numbers of the parameter have that value; drawn is the middle 99 % of them. `kind` is "value",
    or "gradient" for dL/dw in the last step of each epoch: gradients shrink by far, so the axis is wide enough for
    four of five epochs. After one epoch it is a histogram with bars. `names` says which parameters ("linear1.W"),
    otherwise all, and of more than twelve the first twelve that are no biases. Returns a matplotlib Figure, written to
    `path` as PNG where there is one. Raises OptionError for names and kinds that are not known and where no epoch was
    kept, and without matplotlib.
    """
    if kind not in ("value", "gradient"):
        raise OptionError(f"kind must be 'value' or 'gradient', got {kind!r}")
    names = _chosen(kept, names)
    columns = 2 if len(names) > 1 else 1
    rows = -(-len(names) // columns)
    figure = new_figure(5.0 * columns, 2.3 * rows + 0.4)
    from matplotlib.colors import PowerNorm

    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    single = len(kept.epochs) == 1
    label = "weight" if kind == "value" else "gradient"
    drawn = None
    for axes, name in zip(grid.flat, names, strict=False):
        counts, ends = kept.counts[kind, name].astype(float), kept.ranges[kind, name]
        axes.set_title(plain(name), fontsize="medium", loc="left")
        if single:
            edges = np.linspace(ends[0, 0], ends[0, 1], counts.shape[1] + 1)
            axes.bar(edges[:-1], counts[0], np.diff(edges), align="edge", color=COLOURS[0])
            axes.set_xlabel(label)
            axes.set_ylabel("how many")
            axes.locator_params(axis="x", nbins=5)
            continue
        edges, shares = regridded(counts, ends, of_epochs=1.0 if kind == "value" else 0.8)
        drawn = axes.pcolormesh(
            _between(np.asarray(kept.epochs, dtype=float)),
            edges,
            shares.T,
            cmap="Blues",
            norm=PowerNorm(0.5, vmin=0.0, vmax=float(np.quantile(shares, 0.99)) or 1.0),
            rasterized=True,
        )
        axes.axhline(0.0, color="#888888", linewidth=0.6, linestyle=":")
        axes.set_ylim(edges[0], edges[-1])
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
        only_whole_numbers(axes.xaxis)
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=grid, shrink=0.6 if rows > 1 else 0.9, aspect=30)
        bar.set_ticks([0.0, drawn.norm.vmax], labels=["none", "most"], fontsize="small")
        bar.set_label("how many of the numbers", fontsize="small")
    return finish(figure, path)


def regridded(counts: np.ndarray, ends: np.ndarray, of_epochs: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Histograms (E, B) between `ends` (E, 2) on one grid: its edges (R + 1,), and the shares (E, R) in each piece.

    The grid reaches over the middle 99 % of the numbers of each epoch, for the part `of_epochs` that needs the least.
    """
    own = [np.linspace(low, high, counts.shape[1] + 1) for low, high in ends]
    below = [np.append(0.0, np.cumsum(row)) / max(row.sum(), 1.0) for row in counts]
    both = list(zip(own, below, strict=True))
    middle = np.array([np.interp((0.005, 0.995), share, edges) for edges, share in both])
    low, high = np.quantile(middle[:, 0], 1.0 - of_epochs), np.quantile(middle[:, 1], of_epochs)
    if not low < high:
        low, high = middle.min(), middle.max()
    edges = np.linspace(low, high, _ROWS + 1)
    return edges, np.array([np.diff(np.interp(edges, *pair)) for pair in both])


def norms(kept: Histograms, *, names: Sequence[str] | None = None, path: str | Path | None = None) -> Any:
    """The length |w| of every parameter, and that of its gradient, over the epochs: a line each, on logarithmic scales.

    A gradient that shrinks by powers of ten from the last layer to the first vanishes, one that grows explodes.
    `names`, `path` and errors as for `histograms`.
    """
    names = _chosen(kept, names)
    figure = new_figure(10.0, 3.8 + 0.16 * len(names))
    panels = figure.subplots(1, 2)
    for axes, kind, label in zip(
        panels, ("value", "gradient"), ("length of the weights", "length of the gradient"), strict=True
    ):
        for i, name in enumerate(names):
            marker = "o" if len(kept.epochs) == 1 else None
            axes.plot(kept.epochs, kept.norms[kind, name], label=plain(name), marker=marker, **line_style(i))
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        if any(kept.norms[kind, name].max() > 0.0 for name in names):  # not of a network whose gradients are all 0
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        only_whole_numbers(axes.xaxis)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize="small")
    return finish(figure, path)


def _chosen(kept: Histograms, names: Sequence[str] | None) -> list[str]:
    if not kept.epochs:
        raise OptionError("no epoch was kept yet: train with callbacks=histograms first")
    if names is None:
        many = len(kept.names) > _PANELS
        return [name for name in kept.names if not many or not name.endswith(".b")][:_PANELS]
    if unknown := [name for name in names if name not in kept.names]:
        raise OptionError(f"parameter {unknown[0]!r} is not known; expected some of {', '.join(kept.names)}")
    return list(names)


def _between(x: np.ndarray) -> np.ndarray:
    """Edges halfway between the places x, and as far beyond the first and the last."""
    middle = (x[1:] + x[:-1]) / 2
    return np.concatenate([[2 * x[0] - middle[0]], middle, [2 * x[-1] - middle[-1]]])
