from itertools import pairwise

import numpy as np
import pytest

import gpunn as gn
from gpunn import metrics as m

Y, A = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 2]  # three classes: 1, 1, 2 right; 2 of each taken for one; 2, 1, 3 there
YES, SCORES = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]
TIED_YES, TIED = [0, 1, 1, 0], [1.0, 1.0, 2.0, 0.0]
ROWS = [[0.9, 0.1, 0.0], [0.2, 0.6, 0.2], [0.3, 0.2, 0.5], [0.1, 0.1, 0.8]]  # for classes 0, 1, 2, 1
TOP = [[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]
NUMBERS, ANSWERS = [[1.0, 2.0], [3.0, 6.0]], [[2.0, 2.0], [3.0, 2.0]]
ALL_TIED = np.zeros((3, 3))

BY_HAND = [
    (m.accuracy, Y, A, {}, 4 / 6),
    (m.accuracy, [0, 1, 2], ALL_TIED, {}, 1 / 3),  # of equal numbers the first
    (m.top_k_accuracy, [1, 1, 0], TOP, {"k": 1}, 1 / 3),
    (m.top_k_accuracy, [1, 1, 0], TOP, {"k": 2}, 2 / 3),
    (m.top_k_accuracy, [1, 1, 0], TOP, {"k": 3}, 1.0),
    (m.top_k_accuracy, [0, 1, 2], ALL_TIED, {"k": 1}, 1 / 3),
    (m.top_k_accuracy, [0, 1, 2], ALL_TIED, {"k": 2}, 2 / 3),
    (m.top_k_accuracy, [0, 5], np.arange(14.0).reshape(2, 7), {}, 1 / 2),  # among five
    (m.confusion_matrix, Y, A, {}, [[1, 1, 0], [0, 1, 0], [1, 0, 2]]),
    (m.confusion_matrix, [0, 1], [1, 1], {"classes": 3}, [[0, 1, 0], [0, 1, 0], [0, 0, 0]]),
    (m.precision, Y, A, {"average": None}, [1 / 2, 1 / 2, 1]),
    (m.recall, Y, A, {"average": None}, [1 / 2, 1, 2 / 3]),
    (m.f1, Y, A, {"average": None}, [1 / 2, 2 / 3, 4 / 5]),
    (m.precision_recall_f1, Y, A, {}, (2 / 3, 13 / 18, 59 / 90)),
    (m.precision_recall_f1, Y, A, {"average": "weighted"}, (3 / 4, 2 / 3, 61 / 90)),
    (m.precision_recall_f1, Y, A, {"average": "micro"}, (2 / 3, 2 / 3, 2 / 3)),
    (m.precision, [0, 0, 1], [0, 0, 0], {"average": None}, [2 / 3, 0]),  # nothing taken for class 1: 0 / 0 is 0
    (m.recall, [0, 0, 1], [0, 0, 2], {"average": None}, [1, 0, 0]),
    (m.f1, [0, 2], [0, 2], {"average": None, "classes": 4}, [1, 0, 1, 0]),
    (m.f1, [0, 2], [0, 2], {"classes": 4}, 1.0),  # classes 1 and 3 occur nowhere
    (m.precision, [0, 1, 1], [0, 0, 1], {"average": None}, [1 / 2, 1]),
    (m.f1, [0, 1], [0, 0], {}, 1 / 3),  # class 1 occurs in y_true, with 0
    (m.f1, [0, 0], [0, 1], {}, 1 / 3),  # class 1 occurs among the answers, with 0
    (m.roc_curve, YES, SCORES, {}, ([0, 0, 0.5, 0.5, 1], [0, 0.5, 0.5, 1, 1], [np.inf, 0.8, 0.4, 0.35, 0.1])),
    (m.roc_curve, TIED_YES, TIED, {}, ([0, 0, 0.5, 1], [0, 0.5, 1, 1], [np.inf, 2, 1, 0])),
    (m.precision_recall_curve, YES, SCORES, {}, ([1 / 2, 2 / 3, 1 / 2, 1, 1], [1, 1, 0.5, 0.5, 0], sorted(SCORES))),
    (m.precision_recall_curve, TIED_YES, TIED, {}, ([1 / 2, 2 / 3, 1, 1], [1, 1, 0.5, 0], [0, 1, 2])),
    (m.auc, [0, 1, 3], [1, 3, 3], {}, 8.0),
    (m.auc, [3, 1, 0], [3, 3, 1], {}, 8.0),
    (m.auc, [0, 1], [-1, -1], {}, -1.0),
    (m.roc_auc, YES, SCORES, {}, 3 / 4),
    (m.roc_auc, TIED_YES, TIED, {}, 7 / 8),
    (m.roc_auc, YES, [0.5] * 4, {}, 1 / 2),
    (m.roc_auc, YES, [-np.inf, 0.0, 0.0, np.inf], {}, 7 / 8),
    (m.roc_auc, [0, 1, 2, 1], ROWS, {"average": None}, [1, 5 / 8, 2 / 3]),
    (m.roc_auc, [0, 1, 2, 1], ROWS, {}, (1 + 5 / 8 + 2 / 3) / 3),
    (m.roc_auc, [0, 1, 2, 1], ROWS, {"average": "weighted"}, (1 + 2 * 5 / 8 + 2 / 3) / 4),
    (m.average_precision, YES, SCORES, {}, 5 / 6),
    (m.average_precision, YES, [0.5] * 4, {}, 1 / 2),
    (m.average_precision, [1, 1], [0.1, 0.2], {}, 1.0),
    (m.average_precision, [0, 1, 2, 1], ROWS, {"average": None}, [1, 3 / 4, 1 / 2]),
    (m.log_loss, [1, 0], [[0.2, 0.8], [0.5, 0.5]], {}, -np.log(0.8 * 0.5) / 2),
    (m.log_loss, [0, 1], [0.25, 0.5], {}, -np.log(0.75 * 0.5) / 2),
    (m.log_loss, [0, 0], [[0.0, 1.0], [1.0, 0.0]], {}, 26 * np.log(2)),  # 52 ln 2 and 0
    (m.calibration_error, [1, 0, 1, 0], [0.95, 0.95, 0.65, 0.55], {"bins": 5}, (0.9 + 0.35 + 0.55) / 4),
    (m.calibration_error, [0, 0], [0.5, 0.75], {"bins": 2}, (0.5 + 0.75) / 2),  # 0.5 lies in (0, 0.5]
    (m.calibration_error, [0, 0], [0.5, 0.75], {"bins": 1}, 0.25 / 2),
    (m.calibration_error, [0, 1, 1], [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2]], {}, 1.3 / 3),
    (m.calibration_error, [1, 1, 0], [0.93, 0.935, 0.99], {}, (0.07 + 0.925) / 3),  # 15 bins: one ends at 0.9333
    (m.mean_absolute_error, NUMBERS, ANSWERS, {}, 5 / 4),
    (m.root_mean_squared_error, [1.0, 3.0], [1.0, 1.0], {}, 2**0.5),
    (m.root_mean_squared_error, NUMBERS, ANSWERS, {}, (0.5**0.5 + 8**0.5) / 2),
    (m.r2, [1.0, 2.0, 3.0], [1.0, 2.0, 2.0], {}, 1 / 2),
    (m.r2, NUMBERS, ANSWERS, {}, (1 / 2 - 1) / 2),
    (m.r2, [0.1] * 3, [0.1] * 3, {}, 1.0),
    (m.r2, [0.1] * 3, [0.1, 0.1, 0.2], {}, 0.0),
]


@pytest.mark.parametrize(("metric", "y", "given", "options", "expected"), BY_HAND)
def test_values_worked_by_hand_on_arrays_of_every_library_and_on_lists(backend, metric, y, given, options, expected):
    from_arrays = metric(backend.asarray(y), backend.asarray(given), **options)
    from_lists = metric(y, np.asarray(given).tolist(), **options)
    for value in (from_arrays, from_lists):
        assert type(value) is (tuple if isinstance(expected, tuple) else np.ndarray if np.ndim(expected) else float)
        parts = zip(value, expected, strict=True) if isinstance(expected, tuple) else [(value, expected)]
        for part, worked in parts:
            np.testing.assert_allclose(part, worked, rtol=1e-14, atol=1e-15)


def test_every_metric_is_worked_by_hand():
    assert {row[0].__name__ for row in BY_HAND} == set(m.__all__)


def test_the_three_short_ones_are_parts_of_the_long_one():
    for average in ("macro", "micro", "weighted"):
        options = {"average": average, "classes": 4}
        assert (m.precision(Y, A, **options), m.recall(Y, A, **options), m.f1(Y, A, **options)) == (
            m.precision_recall_f1(Y, A, **options)
        )


def test_labels_come_in_several_forms(backend):
    """Class numbers of any data type, a column of them, rows of one 1, and rows of numbers whose largest counts."""
    expected = m.confusion_matrix(Y, A)
    assert expected.dtype.kind == "i"
    rows = np.eye(3)
    for y in (np.uint8(Y), np.float32(Y), np.int64(Y)[:, None], rows[Y], rows[Y].astype(bool), rows[Y].astype(int)):
        for a in (np.int8(A), np.float64(A)[:, None], rows[A], rows[A] * 40 - 20, np.log(rows[A] + 0.5) - 1):
            given = [backend.asarray(y), backend.asarray(a)]
            assert m.confusion_matrix(*given).tolist() == expected.tolist()
            assert m.accuracy(*given) == 4 / 6
    yes = backend.asarray(np.array(YES, bool))
    for y in (yes, backend.asarray(np.eye(2)[YES])):
        for s in (np.array(SCORES)[:, None], np.stack((np.ones(4), SCORES), axis=1)):
            assert m.roc_auc(y, backend.asarray(s)) == 3 / 4
            assert m.average_precision(y, backend.asarray(s)) == pytest.approx(5 / 6)
        p = np.array([0.2, 0.4, 0.4, 0.9])
        for given in (p, p[:, None], np.stack((1 - p, p), axis=1)):
            assert m.log_loss(y, backend.asarray(given)) == pytest.approx(-np.log([0.8, 0.6, 0.4, 0.9]).mean())
    assert m.mean_absolute_error(backend.asarray([[1.0], [2.0]]), backend.asarray([1.0, 4.0])) == 1.0


def test_what_is_given_is_not_written_to_and_single_precision_is_computed_in_double(backend):
    p = np.float32(ROWS)
    given, y = backend.asarray(p), backend.asarray([0, 1, 2, 1])
    expected = -np.mean(np.log(p.astype(float)[range(4), [0, 1, 2, 1]]))
    assert m.log_loss(y, given) == pytest.approx(expected, rel=1e-14)
    for metric in (m.calibration_error, m.roc_auc, m.average_precision, m.accuracy):
        metric(y, given)
    assert gn.to_host(given).tolist() == p.tolist()
    assert gn.to_host(y).tolist() == [0, 1, 2, 1]
    large, zero = backend.asarray([3e25] * 3, "float32"), backend.asarray([0.0] * 3, "float32")
    assert m.root_mean_squared_error(large, zero) == pytest.approx(3e25, rel=1e-6)  # its square is too much for float32


# --- against scikit-learn


def random_case(seed):
    """(y_true, y_predicted, C): some classes are rare and some missing from one or both."""
    rng = np.random.default_rng(seed)
    C, N = int(rng.integers(2, 7)), int(rng.integers(1, 60))
    shares = rng.dirichlet(np.full(C, 0.4))
    return rng.choice(C, N, p=shares), rng.choice(C, N, p=rng.permutation(shares)), C


@pytest.mark.parametrize("seed", range(24))
def test_classes_against_scikit_learn(backend, seed):
    theirs = pytest.importorskip("sklearn.metrics")
    y, a, C = random_case(seed)
    given, known = (backend.asarray(y), backend.asarray(a)), {"labels": range(C)}
    assert m.accuracy(*given) == theirs.accuracy_score(y, a)
    ours = m.confusion_matrix(*given, classes=C)
    assert ours.tolist() == theirs.confusion_matrix(y, a, **known).tolist()
    each = theirs.precision_recall_fscore_support(y, a, zero_division=0.0, **known)[:3]
    np.testing.assert_allclose(m.precision_recall_f1(*given, average=None, classes=C), each, rtol=1e-13)
    for average in ("macro", "micro", "weighted"):
        mean = theirs.precision_recall_fscore_support(y, a, zero_division=0.0, average=average)[:3]
        np.testing.assert_allclose(m.precision_recall_f1(*given, average=average, classes=C), mean, rtol=1e-13)


@pytest.mark.parametrize("seed", range(24))
def test_scores_of_two_classes_against_scikit_learn(backend, seed):
    theirs = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    N = int(rng.integers(2, 80))
    y = rng.random(N) < rng.choice([0.1, 0.5, 0.9])
    y[:2] = 0, 1  # both are there
    s = rng.standard_normal(N) + y if seed % 2 else rng.integers(0, 6, N) / 4  # many ties in every other case
    given = backend.asarray(y), backend.asarray(s)
    pairs = [
        (m.roc_curve(*given), theirs.roc_curve(y, s, drop_intermediate=False)),
        (m.precision_recall_curve(*given), theirs.precision_recall_curve(y, s)),
    ]
    for ours, reference in pairs:
        for part, expected in zip(ours, reference, strict=True):
            np.testing.assert_allclose(part, expected, rtol=1e-13, atol=1e-15)
    assert m.auc(*pairs[0][0][:2]) == pytest.approx(theirs.auc(*pairs[0][1][:2]), rel=1e-13)
    assert m.roc_auc(*given) == pytest.approx(theirs.roc_auc_score(y, s), rel=1e-13)
    assert m.average_precision(*given) == pytest.approx(theirs.average_precision_score(y, s), rel=1e-13)


@pytest.mark.parametrize("seed", range(24))
def test_probabilities_against_scikit_learn(backend, seed):
    theirs, calibration = pytest.importorskip("sklearn.metrics"), pytest.importorskip("sklearn.calibration")
    rng = np.random.default_rng(seed)
    C = int(rng.integers(2, 6))
    y = np.append(rng.choice(C, 60, p=rng.dirichlet(np.ones(C))), np.arange(C))
    p = rng.dirichlet(np.ones(C), len(y))
    if seed % 2:
        p = np.round(p, 1) + 0.1  # ties
        p /= p.sum(axis=1, keepdims=True)
    given, known = (backend.asarray(y), backend.asarray(p)), {"labels": range(C)}
    assert m.log_loss(*given) == pytest.approx(theirs.log_loss(y, p, **known), rel=1e-13)
    if C > 2:
        for average in ("macro", "weighted", None):
            reference = theirs.roc_auc_score(y, p, multi_class="ovr", average=average, **known)
            np.testing.assert_allclose(m.roc_auc(*given, average=average), reference, rtol=1e-13)
            reference = theirs.average_precision_score(np.eye(C)[y], p, average=average)
            np.testing.assert_allclose(m.average_precision(*given, average=average), reference, rtol=1e-13)
        distinct = rng.permuted(np.tile(np.arange(C), (len(y), 1)), axis=1)
        for k in range(1, C):  # ties are broken in another way there
            reference = theirs.top_k_accuracy_score(y, distinct, k=k, **known)
            assert m.top_k_accuracy(given[0], backend.asarray(distinct), k=k) == pytest.approx(reference, rel=1e-14)
    right, confidence = p.argmax(axis=1) == y, p.max(axis=1)
    edges = np.linspace(0, 1, 11)
    counts = np.array([np.sum((low < confidence) & (confidence <= high)) for low, high in pairwise(edges)])
    shares, means = calibration.calibration_curve(right, confidence, n_bins=10)  # of the bins that are not empty
    expected = np.sum(counts[counts > 0] * np.abs(shares - means)) / len(y)
    assert m.calibration_error(*given, bins=10) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_numbers_against_scikit_learn(backend, seed):
    theirs = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(2, 40)), int(rng.integers(1, 4)))[: 1 + seed % 2]
    y = rng.standard_normal(shape) * 10 + 100
    a = y + rng.standard_normal(shape) * rng.choice([0.1, 20.0])
    if seed % 5 == 0:
        y[...] = np.round(y[0])  # constant, with a mean that is exact, as they need it
    given = backend.asarray(y), backend.asarray(a)
    assert m.mean_absolute_error(*given) == pytest.approx(theirs.mean_absolute_error(y, a), rel=1e-13)
    assert m.root_mean_squared_error(*given) == pytest.approx(theirs.root_mean_squared_error(y, a), rel=1e-13)
    assert m.r2(*given) == pytest.approx(theirs.r2_score(y, a), rel=1e-11, abs=1e-12)


# --- what does not fit

OF_LABELS = [m.accuracy, m.confusion_matrix, m.precision_recall_f1, m.precision, m.recall, m.f1]
OF_SCORES = [m.roc_curve, m.precision_recall_curve, m.roc_auc, m.average_precision]
OF_PROBABILITIES = [m.log_loss, m.calibration_error]
OF_NUMBERS = [m.mean_absolute_error, m.root_mean_squared_error, m.r2]
ALL = [*OF_LABELS, *OF_SCORES, *OF_PROBABILITIES, *OF_NUMBERS, m.top_k_accuracy]
P = [[0.5, 0.5], [0.2, 0.8]]


def refused(error, message, metric, *args, **options):
    with pytest.raises(error, match=message) as caught:
        metric(*args, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metric", ALL)
def test_what_no_metric_takes(backend, metric):
    options = {"k": 1} if metric is m.top_k_accuracy else {}
    good, two = backend.asarray([0, 1]), backend.asarray(P)
    y_too = backend.asarray(P) if metric in OF_NUMBERS else good
    refused(
        gn.DataError,
        r"is empty, of shape \(0,",
        metric,
        backend.asarray(np.zeros(0)),
        backend.asarray(np.zeros((0, 2))),
        **options,
    )
    refused(gn.DataError, r"is empty, of shape \(2, 0\)", metric, good, backend.asarray(np.zeros((2, 0))), **options)
    refused(
        gn.DataError, "contains nan in row 1: mend", metric, y_too, backend.asarray([P[0], [0.5, np.nan]]), **options
    )
    refused(gn.DataError, "y_true contains nan in row 0", metric, backend.asarray([np.nan, 1]), two, **options)
    refused(gn.ShapeError, r"must (be of shape|have one shape)", metric, good, backend.asarray(0.5), **options)
    refused(gn.ShapeError, r"must have (as many|one shape)", metric, backend.asarray([0, 1, 1]), two, **options)
    refused(gn.DtypeError, "where real numbers are expected", metric, ["cat", "dog"], P, **options)
    refused(gn.DtypeError, "rectangular", metric, [0, 1], [[0.5, 0.5], [1.0]], **options)
    if metric not in OF_NUMBERS:
        refused(
            gn.ShapeError,
            r"\(2, 1, 2\); make rows of it with reshape",
            metric,
            good,
            backend.asarray([[r] for r in P]),
            **options,
        )


@pytest.mark.parametrize("metric", [*OF_LABELS, *OF_SCORES, *OF_PROBABILITIES, m.top_k_accuracy])
def test_labels_that_are_no_classes_are_named(backend, metric):
    options = {"k": 1} if metric is m.top_k_accuracy else {}
    for bad in (-1, 2, 0.5, np.inf, 1e30):
        message = rf"label {bad:.10g} in row 1 of y_true is no class: expected whole numbers from 0 to 1; renumber"
        refused(
            gn.DataError, message.replace("+", r"\+"), metric, backend.asarray([0, bad]), backend.asarray(P), **options
        )
    for bad in ([1.0, 1.0], [0.0, 0.0], [0.5, 0.5], [2.0, 0.0], [np.inf, 1.0]):
        message = r"row 1 of y_true is not one 1 among 0s and names no class; of shares take y_true.argmax\(axis=1\)"
        refused(gn.DataError, message, metric, backend.asarray([[1.0, 0.0], bad]), backend.asarray(P), **options)
    message = r"y_true has 3 columns where there are 2 classes: they must be as many"
    refused(gn.ShapeError, message, metric, backend.asarray(np.eye(3)[:2]), backend.asarray(P), **options)


@pytest.mark.parametrize("metric", OF_LABELS)
def test_answers_that_are_no_classes_are_named(metric):
    for bad in (-1, 0.7, 1e30, 2**24):
        refused(
            gn.DataError,
            r"in row 1 of y_predicted is no class: .* 0 to 16777215; .* y_predicted > 0.5",
            metric,
            [0, 1],
            [0, bad],
        )
    refused(
        gn.DataError,
        "label 2 in row 0 of y_predicted is no class: expected whole numbers from 0 to 1",
        metric,
        np.eye(2),
        [2, 1],
    )
    refused(gn.ShapeError, "y_true has 2 rows and y_predicted 3: they must have as many", metric, [0, 1], [0, 1, 1])
    if metric is not m.accuracy:
        refused(gn.DataError, "label 3 in row 1 of y_true is no class: .* 0 to 2", metric, [0, 3], [0, 0], classes=3)
        refused(gn.ShapeError, "y_predicted has 2 columns where there are 3 classes", metric, [0, 1], P, classes=3)
        for bad in (0, -1, 2.5, "3"):
            refused(
                gn.OptionError, f"classes must be a whole number, 1 or more, got {bad!r}", metric, Y, A, classes=bad
            )


@pytest.mark.parametrize("metric", [m.precision_recall_f1, m.precision, m.recall, m.f1, m.roc_auc, m.average_precision])
def test_an_average_that_is_not_known_is_named(metric):
    micro = "" if metric in (m.roc_auc, m.average_precision) else "'micro', "
    message = f"average 'binary' is not known; expected 'macro', {micro}'weighted', or None for each class by itself"
    refused(gn.OptionError, message, metric, [0, 1], [1, 0], average="binary")


def test_k_and_bins_out_of_range_are_named():
    for bad in (0, -1, 1.5, None):
        refused(gn.OptionError, f"k must be a whole number, 1 or more, got {bad}", m.top_k_accuracy, [0, 1], P, k=bad)
        refused(gn.OptionError, "bins must be a whole number, 1 or more", m.calibration_error, [0, 1], P, bins=bad)
    refused(gn.OptionError, "k must be at most the number of classes, 2, got 5", m.top_k_accuracy, [0, 1], P)
    refused(
        gn.ShapeError,
        r"scores must be of shape \(N, C\), one for each class, got \(2,\)",
        m.top_k_accuracy,
        [0, 1],
        [0, 1],
    )


@pytest.mark.parametrize("metric", OF_PROBABILITIES)
def test_what_is_no_probability_is_named(backend, metric):
    y = backend.asarray([0, 1])
    for bad in (-0.25, 1.25, np.inf):
        message = f"probabilities contain {bad:g} in row 1, not 0 to 1: of logits take gn.ops.softmax"
        refused(gn.DataError, message, metric, y, backend.asarray([0.5, bad]))
        refused(gn.DataError, message, metric, y, backend.asarray([[0.5, 0.5], [0.5, bad]]))
    message = "row 1 of the probabilities sums to 1.2, not 1; divide each row by its sum"
    refused(gn.DataError, message, metric, y, backend.asarray([[0.5, 0.5], [0.6, 0.6]]))
    metric(y, backend.asarray([[0.5, 0.5], [0.3004, 0.7]]))  # the rounding of a short data type


def test_a_curve_needs_rows_to_tell_apart():
    for only in (0, 1):
        for metric in (m.roc_curve, m.roc_auc):
            message = f"y_true holds class {only} alone: a ROC curve needs rows of both classes, 0 and 1"
            refused(gn.DataError, message, metric, [only, only], [0.1, 0.2])
    for metric in (m.precision_recall_curve, m.average_precision):
        refused(gn.DataError, "y_true has no row of class 1, so there is no recall", metric, [0, 0], [0.1, 0.2])
    for metric in (m.roc_auc, m.average_precision):
        message = r"class 1 has no row in y_true: measure those that have, each with y_true == c, scores\[:, c\]"
        refused(gn.DataError, message, metric, [0, 2, 2], np.eye(3))
    for metric in (m.roc_curve, m.precision_recall_curve):
        message = r"a curve is of one class, scores are \(3, 3\): for class c give y_true == c, scores\[:, c\]"
        refused(gn.ShapeError, message, metric, [0, 1, 2], np.eye(3))


def test_an_area_needs_points_in_order():
    refused(
        gn.DataError,
        "x of 3 points is short or turns back: an area needs two points or more, sorted",
        m.auc,
        [0, 2, 1],
        [0, 1, 2],
    )
    refused(gn.DataError, "x of 1 point is short", m.auc, [0], [0])
    refused(gn.DataError, "x contains inf in row 1", m.auc, [0, np.inf], [0, 1])
    refused(gn.ShapeError, r"x and y must be of one shape \(K,\), got \(2,\) and \(3,\)", m.auc, [0, 1], [0, 1, 2])
    refused(gn.ShapeError, r"of one shape \(K,\), got \(2, 2\)", m.auc, P, P)


@pytest.mark.parametrize("metric", OF_NUMBERS)
def test_numbers_that_do_not_fit_are_named(metric):
    refused(gn.DataError, "y_predicted contains -inf in row 1", metric, [0.0, 1.0], [0.0, -np.inf])
    message = r"y_true is of shape \(3,\) and y_predicted of \(3, 3\): they must have one shape"
    refused(gn.ShapeError, message, metric, [0.0, 1.0, 2.0], np.eye(3))
    if metric is m.r2:
        refused(gn.DataError, "r2 of one row has no variance to explain: give it two rows", metric, [1.0], [1.0])
