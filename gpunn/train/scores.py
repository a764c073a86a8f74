"""What a network is worth: figures on the test data, beside those of the best answer that needs no network."""

from typing import Any

import numpy as np

from gpunn import metrics
from gpunn.data import Dataset
from gpunn.data.table import cut

__all__ = ["number", "scores"]

_MOST_ROWS, _MOST_SQUARE = 30, 12  # classes in the table, and in the confusion matrix
_LONGEST = 24  # letters of a name in them


def scores(answers: np.ndarray, train: Dataset, test: Dataset) -> tuple[dict[str, Any], list[str]]:
    """(figures in JSON's types, the same as lines of text) for the answers (N, C) to the test data."""
    answers = answers.astype(np.float64)
    return _of_classes(answers, train, test) if train.classes else _of_quantities(answers, train, test)


def _of_classes(answers: np.ndarray, train: Dataset, test: Dataset) -> tuple[dict[str, Any], list[str]]:
    """Precision, recall and F1 of each class, and which were taken for which; beside always the most frequent class."""
    names, C = train.classes, len(train.classes)
    predicted = answers.argmax(axis=1)
    confusion = metrics.confusion_matrix(test.y, predicted, classes=C)
    each = metrics.precision_recall_f1(test.y, predicted, average=None, classes=C)
    rows = confusion.sum(axis=1)
    most = int(np.bincount(train.y, minlength=C).argmax())
    found = {
        "accuracy": metrics.accuracy(test.y, predicted),
        "baseline": {"answer": names[most], "accuracy": float(np.mean(test.y == most))},
        "classes": [
            {"name": name, "precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
            for name, p, r, f, n in zip(names, *each, rows, strict=True)
        ],
        "confusion": confusion.tolist(),
    }
    lines = []
    shown = [cut(name, _LONGEST) for name in names]
    if C <= _MOST_ROWS:
        cells = [["class", "precision", "recall", "F1", "rows"]]
        cells += [
            [name, *(f"{c[k]:.1%}" for k in ("precision", "recall", "f1")), f"{c['rows']:,}"]
            for name, c in zip(shown, found["classes"], strict=True)
        ]
        lines += _table(cells)
    if C <= _MOST_SQUARE:
        cells = [["taken for", *shown]]
        cells += [[name, *map(str, counts)] for name, counts in zip(shown, confusion.tolist(), strict=True)]
        lines += ["", *_table(cells)]
    lines += ["", f"always answering {names[most]} is right in {found['baseline']['accuracy']:.2%}"]
    if found["accuracy"] <= found["baseline"]["accuracy"]:
        lines[-1] += ": the network has learned no more than that"
    return found, lines


def _of_quantities(answers: np.ndarray, train: Dataset, test: Dataset) -> tuple[dict[str, Any], list[str]]:
    """Mean absolute error, root mean squared error and R2, beside always the mean."""
    y = np.asarray(test.y, dtype=np.float64).reshape(len(test), -1)
    mean = np.broadcast_to(np.asarray(train.y, dtype=np.float64).reshape(len(train), -1).mean(axis=0), y.shape)
    found: dict[str, dict[str, Any]] = {}
    for name, guess in (("network", answers), ("baseline", mean)):
        found[name] = {
            "mae": metrics.mean_absolute_error(y, guess),
            "rmse": metrics.root_mean_squared_error(y, guess),
            "r2": metrics.r2(y, guess) if (y != y[0]).any(axis=0).all() else None,
        }
    lines = _table(
        [["", "mean absolute error", "root mean squared error", "R2"]]
        + [
            [title, *(number(v) for v in found[name].values())]
            for title, name in (("the network", "network"), ("always the mean", "baseline"))
        ]
    )
    if found["network"]["rmse"] >= found["baseline"]["rmse"]:
        lines.append("the network has learned no more than the mean")
    return found, lines


def number(value: float | None) -> str:
    """A quantity as people read it, "-" where there is none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.5g}"


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
