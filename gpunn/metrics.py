"""Metrics: how good the answers are, in numbers that people read.

They are taken once an epoch or at the end, so they run on the host, in float64, and give a Python float or NumPy
arrays. Every argument may be an array of any library on any device, or nested lists; a column (N, 1) counts as (N,).

N rows, C classes; where nothing tells C (no columns, no `classes=`), it is one more than the largest label.

    y_true         class numbers 0 to C-1 of shape (N,), or rows of one 1 among 0s (N, C). Shares and several 1s in a
                   row are refused: they name no one class
    y_predicted    class numbers (N,), or numbers of any kind (N, C), as a network gives them: the class with the
                   largest is the answer, in a tie the first
    scores         larger for a surer yes; only their order counts. (N,) for the class 1 of two, or (N, C)
    probabilities  the same from 0 to 1, with rows (N, C) that sum to 1

Where y is a number, not a class, it is (N,) or (N, ...), finite; columns are measured one by one and the mean returned.
All raise ShapeError for shapes or lengths that do not fit together, DtypeError for what holds no real numbers, and
DataError for empty input, NaN, and labels that are not whole numbers or outside 0 to C-1; other errors stand with each.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.checks import counted, whole
from gpunn.device import to_host
from gpunn.errors import DataError, OptionError, ShapeError

__all__ = [
    "accuracy",
    "auc",
    "average_precision",
    "calibration_error",
    "confusion_matrix",
    "f1",
    "log_loss",
    "mean_absolute_error",
    "precision",
    "precision_recall_curve",
    "precision_recall_f1",
    "r2",
    "recall",
    "roc_auc",
    "roc_curve",
    "root_mean_squared_error",
    "top_k_accuracy",
]


def accuracy(y_true: Any, y_predicted: Any) -> float:
    """The share of rows n with y_predicted_n = y_true_n."""
    true, predicted, _ = _two_labels(y_true, y_predicted, None)
    return float(np.mean(true == predicted))


def top_k_accuracy(y_true: Any, scores: Any, *, k: int = 5) -> float:
    """The share of rows whose class is among the k with the largest scores (N, C); 1 where k = C.

    Of equal scores the lower class number comes first, so k = 1 is the accuracy, and a network that gives every class
    the same score is right for the first k classes only. Raises OptionError unless k is a whole number from 1 to C.
    """
    s = _numbers("scores", scores)
    if s.ndim != 2:
        raise ShapeError(f"scores must be of shape (N, C), one for each class, got {s.shape}")
    if whole("k", k, at_least=1) > s.shape[1]:
        raise OptionError(f"k must be at most the number of classes, {s.shape[1]}, got {k}")
    true = _true_labels(y_true, s.shape[1], "scores", s)[:, None]
    of_true = np.take_along_axis(s, true, axis=1)
    before = (s > of_true) | ((s == of_true) & (np.arange(s.shape[1]) < true))
    return float(np.mean(np.sum(before, axis=1) < k))


def confusion_matrix(y_true: Any, y_predicted: Any, *, classes: int | None = None) -> np.ndarray:
    """M_ij = the number of rows of class i that were taken for class j; integers (C, C). `classes` is C."""
    true, predicted, C = _two_labels(y_true, y_predicted, classes)
    return np.bincount(true * C + predicted, minlength=C * C).reshape(C, C)


def precision_recall_f1(
    y_true: Any, y_predicted: Any, *, average: str | None = "macro", classes: int | None = None
) -> tuple[Any, Any, Any]:
    """precision_c = t_c / m_c, recall_c = t_c / n_c and their harmonic mean f1_c = 2 t_c / (m_c + n_c).

    n_c rows are of class c, m_c are taken for it, t_c rightly so. `average` (Sokolova and Lapalme, 2009) makes one
    number of the C:

        "macro"     the mean over the classes that occur in y_true or y_predicted; the others are left out
        "weighted"  the mean weighted by n_c
        "micro"     with the sums of t, m and n over the classes: where a row has one class, as here, the accuracy
        None        none: an array (C,), for a yes-or-no answer take its [1]

    0 / 0 is 0: nothing taken for a class, say. `classes` is C. Raises OptionError for another average.
    """
    _check_average(average, "macro", "micro", "weighted")
    true, predicted, C = _two_labels(y_true, y_predicted, classes)
    t = np.bincount(true[true == predicted], minlength=C)
    m, n = np.bincount(predicted, minlength=C), np.bincount(true, minlength=C)
    if average == "micro":
        t, m, n = (counts.sum(keepdims=True) for counts in (t, m, n))
    each = t / np.maximum(m, 1), t / np.maximum(n, 1), 2 * t / np.maximum(m + n, 1)  # t = 0 where they are 0
    if average is None:
        return each
    weights = n if average == "weighted" else (m + n > 0).astype(float)
    p, r, f = (float(np.average(values, weights=weights)) for values in each)
    return p, r, f


def precision(y_true: Any, y_predicted: Any, *, average: str | None = "macro", classes: int | None = None) -> Any:
    """The first of `precision_recall_f1`."""
    return precision_recall_f1(y_true, y_predicted, average=average, classes=classes)[0]


def recall(y_true: Any, y_predicted: Any, *, average: str | None = "macro", classes: int | None = None) -> Any:
    """The second of `precision_recall_f1`."""
    return precision_recall_f1(y_true, y_predicted, average=average, classes=classes)[1]


def f1(y_true: Any, y_predicted: Any, *, average: str | None = "macro", classes: int | None = None) -> Any:
    """The third of `precision_recall_f1`."""
    return precision_recall_f1(y_true, y_predicted, average=average, classes=classes)[2]


# --- Scores, as the threshold from which they are a yes falls; rows of one score pass it together, in any order


def roc_curve(y_true: Any, scores: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(false positive rate, true positive rate, threshold), each (K + 1,) for K different scores (Fawcett, 2006).

    The shares of class 0 and of class 1 with score >= threshold, from (0, 0) at the threshold infinity to (1, 1) at the
    lowest score. For two classes: y_true of 0 and 1, scores (N,), or (N, 2) of which the second column is used. Raises
    DataError where y_true holds one class alone.
    """
    y, s = _yes_or_no(y_true, scores)
    if y.all() or not y.any():
        raise DataError(f"y_true holds class {int(y[0])} alone: a ROC curve needs rows of both classes, 0 and 1")
    hits, false, thresholds = _as_threshold_falls(y, s)
    return np.append(0.0, false / false[-1]), np.append(0.0, hits / hits[-1]), np.append(np.inf, thresholds)


def precision_recall_curve(y_true: Any, scores: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(precision, recall, threshold) of class 1: two of shape (K + 1,) and K thresholds, the different scores, rising.

    The last point, 1 and 0, is where nothing is a yes. y_true and scores as for `roc_curve`. Raises DataError where
    y_true has no row of class 1.
    """
    y, s = _yes_or_no(y_true, scores)
    if not y.any():
        raise DataError("y_true has no row of class 1, so there is no recall: a precision-recall curve needs one")
    hits, false, thresholds = _as_threshold_falls(y, s)
    p, r = hits / (hits + false), hits / hits[-1]
    return np.append(p[::-1], 1.0), np.append(r[::-1], 0.0), thresholds[::-1]


def auc(x: Any, y: Any) -> float:
    """The area under the points (x, y), joined by straight lines; x (K,) rises or falls, with no turn.

    Raises DataError where x turns, or where there are less than two points.
    """
    a, b = _numbers("x", x, of_classes=False), _numbers("y", y, of_classes=False)
    if a.ndim != 1 or a.shape != b.shape:
        raise ShapeError(f"x and y must be of one shape (K,), got {a.shape} and {b.shape}")
    if len(a) < 2 or np.diff(a).min() < 0.0 < np.diff(a).max():
        raise DataError(
            f"x of {counted(len(a), 'point')} is short or turns back: an area needs two points or more, sorted by x"
        )
    return float(np.trapezoid(b, a)) * (1.0 if a[-1] >= a[0] else -1.0)


def roc_auc(y_true: Any, scores: Any, *, average: str | None = "macro") -> Any:
    """The area under the ROC curve: P(s_i > s_j) + 1/2 P(s_i = s_j), i of class 1 and j of class 0 (Fawcett, 2006).

    For two classes as `roc_curve`. With scores (N, C) of more, each class against all others by its own column:
    `average` "macro" is the mean of the C areas, "weighted" by the number of rows, None the areas (C,). Give
    probabilities there, not logits: a column is compared across rows. Raises DataError where a class has no row, and
    OptionError for another average.
    """
    return _one_against_rest(lambda y, s: auc(*roc_curve(y, s)[:2]), y_true, scores, average)


def average_precision(y_true: Any, scores: Any, *, average: str | None = "macro") -> Any:
    """sum_k (recall_k - recall_k-1) precision_k as the threshold falls: the area under steps, not straight lines.

    Straight lines would promise more than any threshold keeps (Davis and Goadrich, 2006). Two classes or more,
    `average` and errors as for `roc_auc`.
    """

    def area(y: np.ndarray, s: np.ndarray) -> float:
        p, r, _ = precision_recall_curve(y, s)
        return float(np.sum(-np.diff(r) * p[:-1]))

    return _one_against_rest(area, y_true, scores, average)


def log_loss(y_true: Any, probabilities: Any) -> float:
    """-1/N sum_n log p_n,y_n, where p counts as 2^-52 at least: being surely wrong costs 36, not infinity.

    Probabilities (N, C), or (N,) of the class 1 of two. Raises DataError for those outside 0 to 1, or rows that do not
    sum to 1.
    """
    true, p = _probabilities(y_true, probabilities)
    return float(-np.mean(np.log(np.maximum(p[np.arange(len(p)), true], np.finfo(np.float64).eps))))


def calibration_error(y_true: Any, probabilities: Any, *, bins: int = 15) -> float:
    """ECE = sum_b |B_b|/N |accuracy(B_b) - confidence(B_b)|: whether 80 % sure means right in 80 % of the cases.

    The expected calibration error of Guo et al. (2017). The confidence of a row is its largest probability, its answer
    the class that has it; B_b are the rows with a confidence in ((b - 1)/bins, b/bins], and their means are taken.
    Probabilities and errors as for `log_loss`; OptionError unless bins is 1 or more.
    """
    bins = whole("bins", bins, at_least=1)
    true, p = _probabilities(y_true, probabilities)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == true
    b = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], confidence)
    # |B_b| cancels: |sum of the right answers - sum of the confidences| is left
    return float(np.sum(np.abs(np.bincount(b, right - confidence)))) / len(p)


def mean_absolute_error(y_true: Any, y_predicted: Any) -> float:
    """1/N sum |y_predicted - y_true|."""
    y, a = _two_numbers(y_true, y_predicted)
    return float(np.mean(np.abs(a - y)))


def root_mean_squared_error(y_true: Any, y_predicted: Any) -> float:
    """sqrt(1/N sum (y_predicted - y_true)^2), in the unit of y."""
    y, a = _two_numbers(y_true, y_predicted)
    return float(np.mean(np.sqrt(np.mean((a - y) ** 2, axis=0))))


def r2(y_true: Any, y_predicted: Any) -> float:
    """1 - sum (y_predicted - y_true)^2 / sum (y_true - mean y_true)^2: the share of the variance that is explained.

    1 is perfect, 0 as good as the mean of y_true, less is worse than that. Where y_true is constant there is nothing to
    explain: 1 if every answer is right, else 0. Raises DataError for less than two rows.
    """
    y, a = _two_numbers(y_true, y_predicted)
    if len(y) < 2:
        raise DataError("r2 of one row has no variance to explain: give it two rows or more")
    constant = np.all(y == y[0], axis=0)  # not by the variance, which rounding makes a little more than 0
    left = np.sum((a - y) ** 2, axis=0)
    total = np.where(constant, 1.0, np.sum((y - np.mean(y, axis=0)) ** 2, axis=0))
    return float(np.mean(1.0 - np.where(constant, left > 0.0, left / total)))


# --- Looking at arguments


def _numbers(name: str, x: Any, *, of_classes: bool = True) -> np.ndarray:
    """x on the host as float64; a column as (N,). Of classes there are no more than two axes, and infinity is fine."""
    x = to_host(x).astype(np.float64, copy=False)
    if x.ndim == 0 or (x.ndim > 2 and of_classes):
        raise ShapeError(f"{name} must be of shape (N,) or (N, C), got {x.shape}; make rows of it with reshape")
    if x.size == 0:
        raise DataError(f"{name} is empty, of shape {x.shape}: give it one row or more")
    wrong = np.isnan(x) if of_classes else ~np.isfinite(x)
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        raise DataError(f"{name} contains {x[at]} in row {at[0]}: mend what it comes from, or leave out the row")
    return x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x


def _two_numbers(y_true: Any, y_predicted: Any) -> tuple[np.ndarray, np.ndarray]:
    y, a = _numbers("y_true", y_true, of_classes=False), _numbers("y_predicted", y_predicted, of_classes=False)
    if y.shape != a.shape:
        raise ShapeError(f"y_true is of shape {y.shape} and y_predicted of {a.shape}: they must have one shape")
    return y, a


def _labels(name: str, y: Any, C: int | None, *, one_hot: bool = True) -> np.ndarray:
    """The class numbers (N,) that y stands for; there are C classes, where that is known."""
    y = _numbers(name, y)
    if y.ndim == 2:
        if C is not None and y.shape[1] != C:
            raise ShapeError(f"{name} has {y.shape[1]} columns where there are {C} classes: they must be as many")
        sharp = np.all((y == 0) | (y == 1), axis=1) & (np.sum(y == 1, axis=1) == 1)
        if one_hot and not sharp.all():
            mend = f"of shares take {name}.argmax(axis=1), of several yes-or-no answers each column by itself"
            raise DataError(f"row {np.argmin(sharp)} of {name} is not one 1 among 0s and names no class; {mend}")
        return np.argmax(y, axis=1)
    C = C or 2**24  # float32 holds all whole numbers up to here; a larger "label" is a mistake, not a class
    wrong = (y < 0) | (y >= C) | (y != np.floor(y))
    if wrong.any():
        row = int(np.argmax(wrong))
        what = f"label {y[row]:.10g} in row {row} of {name} is no class: expected whole numbers from 0 to {C - 1}"
        raise DataError(f"{what}; renumber the classes, or of scores take the answer, with {name} > 0.5 say")
    return y.astype(np.int64)


def _true_labels(y_true: Any, C: int | None, name: str, given: np.ndarray) -> np.ndarray:
    true = _labels("y_true", y_true, C)
    if len(true) != len(given):
        raise ShapeError(f"y_true has {len(true)} rows and {name} {len(given)}: they must have as many")
    return true


def _two_labels(y_true: Any, y_predicted: Any, classes: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    """(true labels (N,), predicted labels (N,), C)."""
    y, a = _numbers("y_true", y_true), _numbers("y_predicted", y_predicted)
    columns = (rows.shape[1] for rows in (a, y) if rows.ndim == 2)
    C = next(columns, None) if classes is None else whole("classes", classes, at_least=1)
    predicted = _labels("y_predicted", a, C, one_hot=False)
    true = _true_labels(y, C, "y_predicted", predicted)
    return true, predicted, C or int(max(true.max(), predicted.max())) + 1


def _yes_or_no(y_true: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    """(whether the row is of class 1 (N,), its score for that (N,))."""
    s = _numbers("scores", scores)
    if s.ndim == 2 and s.shape[1] > 2:
        raise ShapeError(f"a curve is of one class, scores are {s.shape}: for class c give y_true == c, scores[:, c]")
    return _true_labels(y_true, 2, "scores", s) == 1, s[:, 1] if s.ndim == 2 else s


def _probabilities(y_true: Any, probabilities: Any) -> tuple[np.ndarray, np.ndarray]:
    """(labels (N,), probabilities (N, C))."""
    p = _numbers("probabilities", probabilities)
    wrong = (p < 0.0) | (p > 1.0)
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        raise DataError(f"probabilities contain {p[at]:g} in row {at[0]}, not 0 to 1: of logits take gn.ops.softmax")
    p = np.stack((1.0 - p, p), axis=1) if p.ndim == 1 else p
    sums = np.sum(p, axis=1)
    row = int(np.argmax(np.abs(sums - 1.0)))
    if abs(sums[row] - 1.0) > 1e-3:  # as much as float16 may be off
        raise DataError(f"row {row} of the probabilities sums to {sums[row]:.6g}, not 1; divide each row by its sum")
    return _true_labels(y_true, p.shape[1], "probabilities", p), p


def _check_average(average: Any, *known: str) -> None:
    if average not in (None, *known):
        names = ", ".join(map(repr, known))
        raise OptionError(f"average {average!r} is not known; expected {names}, or None for each class by itself")


def _as_threshold_falls(y: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each different score, falling: (rows of class 1, rows of class 0 with that or more, the score)."""
    order = np.argsort(-s)
    s = s[order]
    last = np.flatnonzero(np.append(s[1:] != s[:-1], True))  # of each group of equal scores
    hits = np.cumsum(y[order])[last]
    return hits, last + 1 - hits, s[last]


def _one_against_rest(measure: Callable[..., float], y_true: Any, scores: Any, average: str | None) -> Any:
    _check_average(average, "macro", "weighted")
    s = _numbers("scores", scores)
    if s.ndim == 1 or s.shape[1] == 2:
        return measure(*_yes_or_no(y_true, s))
    true = _true_labels(y_true, s.shape[1], "scores", s)
    rows = np.bincount(true, minlength=s.shape[1])
    if not rows.all():
        c = np.argmin(rows)
        raise DataError(f"class {c} has no row in y_true: measure those that have, each with y_true == c, scores[:, c]")
    each = np.array([measure(true == c, s[:, c]) for c in range(len(rows))])
    return each if average is None else float(np.average(each, weights=rows if average == "weighted" else None))
