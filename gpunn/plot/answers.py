"""Pictures of a network's answers: right and wrong classes, and numbers beside the true ones.

N rows, C classes; y (N,) are class numbers, or one-hot rows; probabilities are (N, C), or (N,) or (N, 1) for the class
1 of two. All functions return a matplotlib Figure, write it to `path` as PNG where there is one, and raise ShapeError,
DtypeError or DataError for arrays that do not fit (see gpunn.metrics), OptionError without matplotlib.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpunn import metrics
from gpunn.device import to_host
from gpunn.errors import DataError, ShapeError
from gpunn.plot.style import (
    COLOURS,
    as_percent,
    class_numbers,
    finish,
    framed,
    line_style,
    name_of,
    new_figure,
    only_whole_numbers,
    percent,
    plain,
    show_images,
)

__all__ = ["confusion", "mistakes", "predictions", "residuals", "roc"]

RIGHT, WRONG = "Blues", "Oranges"  # colour maps, light where there is little
_MANY = 20  # classes from which on there is no room for a number in each field


def confusion(y: Any, answers: Any, *, classes: Sequence[str] = (), path: str | Path | None = None) -> Any:
    """The confusion matrix: row i and column j say how many examples of class i were taken for class j.

    The right ones, on the diagonal, are blue and the wrong ones orange, darker where they are a larger share of their
    row; each of the two has its own scale. `answers` are class numbers (N,) or numbers (N, C), of which the largest is
    the answer. `classes` are the names. From 21 classes on the fields bear no numbers.
    """
    answers = to_host(answers)
    fractions = answers.dtype.kind == "f" and answers.size == len(answers) and (answers != np.floor(answers)).any()
    answers = _columns(answers) if fractions else answers  # probabilities of one class of two
    counts = metrics.confusion_matrix(y, answers, classes=len(classes) or None)
    C = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    diagonal = np.eye(C, dtype=bool)
    size = min(9.0, max(4.6, 3.2 + 0.42 * C))
    figure = new_figure(size + 1.7, size)
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = figure.subplots()
    for map_name, of_these, label in (
        (WRONG, ~diagonal, "wrong (share of the row)"),
        (RIGHT, diagonal, "right (share of the row)"),
    ):
        top = float(shares[of_these].max())
        if not top:  # a scale of nothing
            continue
        axes.imshow(np.ma.array(shares, mask=~of_these | (counts == 0)), cmap=map_name, vmin=0.0, vmax=top)
        bar = figure.colorbar(ScalarMappable(Normalize(0.0, top), map_name), ax=axes, shrink=0.6, pad=0.02)
        bar.set_label(label)
        as_percent(bar.ax.yaxis)
        if C <= _MANY:
            for i, j in np.argwhere(of_these & (counts > 0)):
                dark = shares[i, j] > 0.6 * top
                axes.text(
                    j, i, f"{counts[i, j]}", ha="center", va="center", fontsize=9, color="white" if dark else "black"
                )
    names = [name_of(c, classes, 18) for c in range(C)]
    every = -(-C // 40)
    long = C > _MANY or C * max(map(len, names)) > 40
    axes.set_xticks(range(0, C, every), names[::every], rotation=90 if long else 0, fontsize=9 if C <= _MANY else 7)
    axes.set_yticks(range(0, C, every), names[::every], fontsize=9 if C <= _MANY else 7)
    axes.set_xlabel("answer of the network")
    axes.set_ylabel("true class")
    if C <= _MANY:
        axes.set_xticks(np.arange(C + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(C + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#dddddd", linewidth=0.6)
        axes.tick_params(which="minor", length=0)
    return finish(figure, path)


def roc(y: Any, probabilities: Any, *, classes: Sequence[str] = (), path: str | Path | None = None) -> Any:
    """ROC curves: the share of true alarms over the share of false ones, as the threshold for a yes falls.

    Of two classes the curve of class 1; of more, a curve of each class against all others, and of more than ten the
    seven with the smallest area in colour over all others in grey. The areas under the curves are in the legend. Where
    all of them are above 0.95 a second panel shows the corner at the upper left, where the curves run. A class of which
    there is no row, or no row of another, has no curve.
    """
    s = _columns(probabilities)
    if s.ndim != 2:
        raise ShapeError(f"probabilities must be of shape (N,) or (N, C), got {s.shape}")
    true = metrics.confusion_matrix(y, s)  # which looks at both
    labels = class_numbers(y)
    wanted = [1] if s.shape[1] == 2 else range(s.shape[1])
    found = {c: metrics.roc_curve(labels == c, s[:, c])[:2] for c in wanted if 0 < true[c].sum() < len(labels)}
    if not found:
        raise DataError("y holds one class alone: a ROC curve needs rows of two or more")
    areas = {c: metrics.auc(*points) for c, points in found.items()}
    worst = sorted(found, key=lambda c: areas[c])
    shown = sorted(worst[: len(COLOURS)]) if len(found) > 10 else list(found)
    zoomed = areas[worst[0]] > 0.95
    figure = new_figure(10.0 if zoomed else 5.4, 4.8)
    panels = figure.subplots(1, 2 if zoomed else 1, squeeze=False)[0]
    for axes in panels:
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":", label="chance, area 0.5")
        if len(shown) < len(found):
            for c in set(found) - set(shown):
                axes.plot(*found[c], color="#bbbbbb", linewidth=0.7)
            axes.plot([], [], color="#bbbbbb", linewidth=0.7, label=f"the {len(found) - len(shown)} others")
        for i, c in enumerate(shown):
            axes.plot(*found[c], label=f"{name_of(c, classes)}, area {areas[c]:.4f}", **line_style(i))
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        for axis in (axes.xaxis, axes.yaxis):
            as_percent(axis)
        axes.grid(alpha=0.3)
        axes.set_xlim(-0.01, 1.0)
        axes.set_ylim(0.0, 1.01)
    panels[0].legend(frameon=False, fontsize="small", loc="lower right", title="class" if len(shown) > 1 else None)
    if zoomed:
        size = 0.2 if areas[worst[0]] < 0.995 else 0.05
        panels[1].set_xlim(-0.01 * size, size)
        panels[1].set_ylim(1.0 - size, 1.0 + 0.01 * size)
        panels[1].set_xticks(np.linspace(0.0, size, 6))  # whole per cents: labels have no digits for quarters of one
        panels[1].set_yticks(np.linspace(1.0 - size, 1.0, 6))
        panels[1].set_title("the upper left corner", fontsize="medium")
    return finish(figure, path)


def mistakes(
    x: Any,
    y: Any,
    probabilities: Any,
    *,
    classes: Sequence[str] = (),
    image_shape: Sequence[int] | None = None,
    count: int = 24,
    path: str | Path | None = None,
) -> Any:
    """The worst mistakes: of the examples given a wrong class, those whose true class was thought least likely.

    Images (x (N, H, W, channels), or rows of `image_shape`) are shown, and above each the class it was taken for, the
    true one, and the probabilities of both. Other rows are shown as bars of the two probabilities, by the number of the
    row, from 0. At most `count` of them, the worst first. Numbers outside 0 to 1 are shown as the scores they are.
    """
    worst, said, p_said, p_true, wrong = worst_mistakes(y, probabilities, count)
    x, labels = to_host(x), class_numbers(y)
    if len(x) != len(labels):
        raise ShapeError(f"{len(x)} rows of x but {len(labels)} of y: each needs one")
    if not len(worst):
        figure = new_figure(5.0, 1.2)
        figure.text(0.5, 0.5, f"no mistakes: all {len(labels):,} answers are right", ha="center", va="center")
        return finish(figure, path)
    shape = tuple(image_shape or (x.shape[1:] if x.ndim == 4 else ()))
    answers = to_host(probabilities)
    scores = answers.min() < 0.0 or answers.max() > 1.0 + 1e-6
    heading = f"the {len(worst)} worst of {wrong:,} mistakes" if wrong > len(worst) else f"all {wrong:,} mistakes"
    if not shape:
        figure = new_figure(7.0, 1.2 + 0.3 * len(worst))
        axes = figure.subplots()
        places = np.arange(len(worst))
        axes.barh(places - 0.2, p_said, 0.38, color=COLOURS[1], label="the class it was taken for")
        axes.barh(places + 0.2, p_true, 0.38, color=COLOURS[0], label="the true class")
        lines = [
            f"row {row}: {name_of(labels[row], classes, 16)}, taken for {name_of(said[row], classes, 16)}"
            for row in worst
        ]
        axes.set_yticks(places, lines, fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("score" if scores else "probability")
        if not scores:
            axes.set_xlim(0, 1)
            as_percent(axes.xaxis)
        axes.grid(axis="x", alpha=0.3)
        figure.suptitle(heading, fontsize="medium")
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
        return finish(figure, path)
    columns = min(8, len(worst))
    rows = -(-len(worst) // columns)
    figure = new_figure(max(1.3 * columns, 4.0), 1.62 * rows + 0.35)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for k, (axes, row) in enumerate(zip(grid.flat, worst, strict=False)):
        show_images(axes, as_picture(x[row].reshape(shape)), cmap="gray_r")
        framed(axes)
        true, answer = (name_of(c, classes, 12) for c in (labels[row], said[row]))
        first, second = (f"{p:.2f}" if scores else percent(p) for p in (p_said[k], p_true[k]))
        text = f"said {answer} {first}\ntrue {true} {second}"
        axes.set_title(text, fontsize=8, loc="left")
    figure.suptitle(f"{heading}: what the network said, and the truth", fontsize="medium")
    return finish(figure, path)


def worst_mistakes(y: Any, probabilities: Any, count: int) -> tuple[np.ndarray, np.ndarray, Any, Any, int]:
    """(rows, answers (N,), their probabilities, those of the true class, how many wrong in all), the worst first."""
    p, labels = _columns(probabilities), class_numbers(y)
    metrics.confusion_matrix(y, p)
    said = p.argmax(axis=1)
    wrong = np.flatnonzero(said != labels)
    worst = wrong[np.argsort(p[wrong, labels[wrong]], kind="stable")][:count]
    return worst, said, p[worst, said[worst]], p[worst, labels[worst]], len(wrong)


def as_picture(image: np.ndarray) -> np.ndarray:
    """An image (H, W, channels) as (H, W) to be drawn in greys, or (H, W, 3) in its colours, from 0 to 1."""
    image = image.astype(np.float64)
    if image.shape[-1] != 3:
        return image.mean(axis=-1)
    low, high = image.min(), image.max()
    return (image - low) / (high - low or 1.0)


def predictions(y: Any, answers: Any, *, names: Sequence[str] = (), path: str | Path | None = None) -> Any:
    """For quantities: the answer of the network over the true value, a point an example; on the line they are equal.

    y and answers (N,) or (N, C), a panel for each of the C (at most 6), which `names` names.
    """
    return _points(y, answers, names, path, residual=False)


def residuals(y: Any, answers: Any, *, names: Sequence[str] = (), path: str | Path | None = None) -> Any:
    """For quantities: answer - true value over the answer, a point an example, and how often each residual occurs.

    Good answers lie about 0 without a pattern. y and answers (N,) or (N, C), a row of panels for each (at most 6).
    """
    return _points(y, answers, names, path, residual=True)


def _points(y: Any, answers: Any, names: Sequence[str], path: str | Path | None, *, residual: bool) -> Any:
    true, said = (a.reshape(len(a), -1) if a.ndim else a for a in map(to_host, (y, answers)))
    metrics.mean_absolute_error(true, said)  # which looks at both
    true, said = true.astype(np.float64), said.astype(np.float64)
    C = min(true.shape[1], 6)
    if residual:
        figure = new_figure(8.0, 0.6 + 3.0 * C)
        grid = figure.subplots(C, 2, squeeze=False, sharey="row", width_ratios=(3, 1))
    else:
        columns = min(C, 3)
        figure = new_figure(4.4 * columns, 4.2 * -(-C // columns))
        grid = figure.subplots(-(-C // columns), columns, squeeze=False).reshape(-1, 1)
        for row in grid[C:]:
            row[0].set_axis_off()
    some = {"s": 14 if len(true) > 200 else 30, "alpha": 0.6, "color": COLOURS[0], "linewidths": 0}
    for c, row in enumerate(grid[:C]):
        of = f" of {plain(names[c])}" if c < len(names) else f" {c}" if true.shape[1] > 1 else ""
        axes = row[0]
        if residual:
            left = said[:, c] - true[:, c]
            axes.scatter(said[:, c], left, **some)
            axes.axhline(0.0, color=COLOURS[6], linewidth=1)
            axes.set_xlabel(f"answer{of}")
            axes.set_ylabel("answer - true value")
            row[1].hist(left, bins=min(40, max(5, len(left) // 8)), orientation="horizontal", color=COLOURS[0])
            row[1].axhline(0.0, color=COLOURS[6], linewidth=1)
            row[1].set_xlabel("examples")
            only_whole_numbers(row[1].xaxis)
            row[1].grid(alpha=0.3)
        else:
            both = np.concatenate([true[:, c], said[:, c]])
            margin = 0.04 * (both.max() - both.min()) or 1.0
            ends = both.min() - margin, both.max() + margin
            axes.plot(ends, ends, color=COLOURS[6], linewidth=1, label="equal")
            axes.scatter(true[:, c], said[:, c], **some)
            axes.set_xlim(*ends)
            axes.set_ylim(*ends)
            axes.set_aspect("equal")
            axes.locator_params(axis="x", nbins=5)
            axes.set_xlabel(f"true value{of}")
            axes.set_ylabel("answer of the network")
            axes.legend(frameon=False, loc="upper left")
        axes.grid(alpha=0.3)
    return finish(figure, path)


def _columns(probabilities: Any) -> np.ndarray:
    """Probabilities on the host (N, C): those of the class 1 of two (N,) or (N, 1) get the column of the other."""
    p = to_host(probabilities)
    p = p[:, 0] if p.ndim == 2 and p.shape[1] == 1 else p
    return np.stack([1.0 - p, p], axis=1) if p.ndim == 1 else p
