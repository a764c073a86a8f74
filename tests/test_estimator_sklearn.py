"""The estimators in scikit-learn's hands."""

import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import gpunn as gn

sklearn = pytest.importorskip("sklearn", minversion="1.6")
sparse = pytest.importorskip("scipy.sparse")
from sklearn import datasets, neural_network  # noqa: E402
from sklearn.base import clone, is_classifier, is_regressor  # noqa: E402
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
X, Y = datasets.load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
Y_NUMBERS = X[:, 3] - X[:, 1] ** 2
PROBLEMS = {
    "three classes": Y,
    "two classes": Y == 1,
    "labels": np.stack([Y > 0, Y == 1], axis=1).astype(int),
    "numbers": Y_NUMBERS,
    "columns": np.stack([Y_NUMBERS, 2.0 * X[:, 2]], axis=1),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
]


def network(inputs, outputs):
    return gn.mlp([inputs, 100, outputs])


def estimators(**more):
    return [
        *(gn.MLPClassifier(**more), gn.MLPRegressor(**more)),
        *(gn.NetClassifier(network, **more), gn.NetRegressor(network, **more)),
    ]


KINDS = [type(estimator).__name__ for estimator in estimators()]


with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*does not inherit from `sklearn.base.BaseEstimator`")  # as it is meant
    checks = [parametrize_with_checks([estimator]) for estimator in estimators(max_iter=100, device="cpu")]


@checks[0]
def test_every_check_of_a_classifier_passes(estimator, check):
    check(estimator)


@checks[1]
def test_every_check_of_a_regressor_passes(estimator, check):
    check(estimator)


@pytest.mark.slow
@checks[2]
def test_every_check_of_a_classifier_around_a_network_passes(estimator, check):
    check(estimator)


@pytest.mark.slow
@checks[3]
def test_every_check_of_a_regressor_around_a_network_passes(estimator, check):
    check(estimator)


CHECKS_OF_ARRAYS = """
import collections, sys
from sklearn.utils.estimator_checks import estimator_checks_generator
sys.path.insert(0, sys.argv[1])
from test_estimator_sklearn import estimators
from unittest import SkipTest

done = collections.Counter()
for estimator in estimators(max_iter=3):
    for estimator, check in estimator_checks_generator(estimator):
        if "array_api" in getattr(check, "func", check).__name__:
            try:
                check(estimator)
                done["passed"] += 1
            except SkipTest:
                done["skipped"] += 1
print(done["passed"])
"""


def test_the_checks_of_array_libraries_pass_with_dispatch():
    """They need SCIPY_ARRAY_API before SciPy is imported, so a process of their own."""
    pytest.importorskip("array_api_strict")
    if VERSION < (1, 9):
        pytest.skip("scikit-learn 1.6 wants classes_ and scores as arrays of X's library, 1.9 does not")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHECKS_OF_ARRAYS, os.path.dirname(__file__)],
        env=os.environ | {"SCIPY_ARRAY_API": "1", "GPUNN_DEVICE": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert int(run.stdout) >= 4 * 4  # NumPy, two devices of array-api-strict, another than that of fit


@pytest.mark.parametrize("options", [{"solver": "sgd", "alpha": 0.5}, {"solver": "adam"}], ids=["sgd", "adam"])
@pytest.mark.parametrize("activation", ["tanh", "logistic"])
@pytest.mark.parametrize("y", PROBLEMS.values(), ids=PROBLEMS)
def test_the_numbers_are_scikit_learns(y, activation, options):
    """The same random_state gives the same initial weights and orders of the rows, and then the same steps."""
    kind = "MLPRegressor" if y.dtype.kind == "f" else "MLPClassifier"
    options = options | {"hidden_layer_sizes": (12, 8), "activation": activation, "batch_size": 64, "max_iter": 20}
    options |= {"learning_rate_init": 0.02, "random_state": 3}
    theirs = getattr(neural_network, kind)(**options).fit(X, y)
    ours = getattr(gn, kind)(**options, device="cpu").fit(X, y)
    tolerance = 1e-11 if options["solver"] == "sgd" else 1e-7  # Adam divides by gradients near 0
    for mine, other in zip([*ours.coefs_, *ours.intercepts_], [*theirs.coefs_, *theirs.intercepts_], strict=True):
        np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=tolerance)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=tolerance, atol=tolerance)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "n_features_in_", "out_activation_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("loss_", "best_loss_"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=tolerance)
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y), rel=tolerance)
    if kind == "MLPClassifier":
        np.testing.assert_array_equal(ours.classes_, theirs.classes_)
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=tolerance)


@pytest.mark.parametrize("weights", [None, np.linspace(0.0, 2.0, 150)], ids=["alike", "weights"])
@pytest.mark.parametrize("problem", [name for name in PROBLEMS if name != "columns"])  # see MLPRegressor
def test_lbfgs_is_scikit_learns(problem, weights):
    if weights is not None and VERSION < (1, 7):
        pytest.skip("scikit-learn has weights of rows since 1.7")
    y = PROBLEMS[problem]
    kind = "MLPRegressor" if y.dtype.kind == "f" else "MLPClassifier"
    options = {"solver": "lbfgs", "hidden_layer_sizes": (6,), "activation": "tanh", "alpha": 0.1, "random_state": 1}
    more = {} if weights is None else {"sample_weight": weights}
    theirs = getattr(neural_network, kind)(**options, max_iter=15).fit(X, y, **more)
    ours = getattr(gn, kind)(**options, max_iter=15, device="cpu").fit(X, y, **more)
    for mine, other in zip([*ours.coefs_, *ours.intercepts_], [*theirs.coefs_, *theirs.intercepts_], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-8)
    assert ours.n_iter_ == theirs.n_iter_ == 15
    assert ours.loss_ == ours.best_loss_ == pytest.approx(theirs.loss_)
    assert len(ours.loss_curve_) == 15


def test_lbfgs_goes_on_and_says_when_it_has_not_converged():
    clf = gn.MLPClassifier(solver="lbfgs", random_state=0, device="cpu", max_iter=5, warm_start=True)
    with pytest.warns(ConvergenceWarning, match="lbfgs had not converged after 5 steps: .*LIMIT"):
        clf.fit(X, Y)
    before = clf.loss_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.set_params(max_iter=200).fit(X, Y)
    assert clf.loss_ < before / 10
    assert len(clf.loss_curve_) == 5 + clf.n_iter_
    assert clf.score(X, Y) == 1.0
    single = gn.MLPClassifier(solver="lbfgs", random_state=0, device="cpu", dtype="float32", alpha=0.1).fit(X, Y)
    assert single.coefs_[0].dtype == np.float32
    assert single.score(X, Y) > 0.95
    with pytest.raises(gn.OptionError, match="partial_fit steps on a few rows, and solver 'lbfgs' needs all"):
        clf.partial_fit(X, Y)
    for options in ({"callbacks": gn.MaxNorm(1.0)}, {"dropout": 0.5}):
        with pytest.raises(gn.OptionError, match="solver 'lbfgs' has no epochs and no chance: leave out callbacks and"):
            gn.MLPClassifier(solver="lbfgs", device="cpu", **options).fit(X, Y)


@pytest.mark.parametrize("options", [{"momentum": 0.0}, {"momentum": 0.9}, {"nesterovs_momentum": False}], ids=str)
@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive"])
def test_learning_rates_are_scikit_learns(learning_rate, options):
    options = options | {"learning_rate": learning_rate, "learning_rate_init": 0.3, "n_iter_no_change": 2, "tol": 1e-3}
    options |= {"solver": "sgd", "hidden_layer_sizes": (10,), "activation": "tanh", "max_iter": 150, "random_state": 1}
    theirs = neural_network.MLPClassifier(**options).fit(X, Y)
    ours = gn.MLPClassifier(**options, device="cpu").fit(X, Y)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_what_goes_on_does_so_as_in_scikit_learn(kind, solver):
    """Without shuffling, in which the two differ then: scikit-learn takes the same orders again."""
    y = Y if kind == "MLPClassifier" else Y_NUMBERS
    options = {"solver": solver, "activation": "tanh", "hidden_layer_sizes": (12,), "batch_size": 64, "shuffle": False}
    options |= {"warm_start": True, "random_state": 3, "learning_rate_init": 0.03, "tol": 0.01, "n_iter_no_change": 3}
    pair = getattr(neural_network, kind)(**options), getattr(gn, kind)(**options, device="cpu")
    for estimator in pair:
        for _ in range(2):
            estimator.fit(X, y)
        estimator.set_params(max_iter=1).fit(X, y).partial_fit(X[::2], y[::2])
        for _ in range(3):
            estimator.fit(X, y)
    theirs, ours = pair
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-6)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6)
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_)
    assert ours.best_loss_ == pytest.approx(theirs.best_loss_)


def test_weights_of_rows_are_scikit_learns_where_all_rows_are_one_batch():
    if VERSION < (1, 7):
        pytest.skip("scikit-learn has them since 1.7")
    weights = np.random.default_rng(0).random(150)
    options = {"solver": "sgd", "alpha": 0.5, "activation": "tanh", "max_iter": 30, "random_state": 0}
    theirs = neural_network.MLPClassifier(**options).fit(X, Y, sample_weight=weights)
    ours = gn.MLPClassifier(**options, device="cpu").fit(X, Y, sample_weight=weights)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-11)
    assert ours.score(X, Y, weights) == pytest.approx(theirs.score(X, Y, weights))


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_parameters_and_defaults_are_scikit_learns(kind):
    theirs = getattr(neural_network, kind)().get_params()
    ours = getattr(gn, kind)().get_params()
    assert {name: ours[name] for name in theirs} == theirs


def test_early_stopping_does_as_well():
    x, y = datasets.load_digits(return_X_y=True)
    options = {"early_stopping": True, "random_state": 0}
    ours = gn.MLPClassifier(**options, device="cpu").fit(x[:1200] / 16, y[:1200])
    theirs = neural_network.MLPClassifier(**options).fit(x[:1200] / 16, y[:1200])
    assert ours.score(x[1200:] / 16, y[1200:]) > theirs.score(x[1200:] / 16, y[1200:]) - 0.02


@pytest.mark.parametrize("estimator", estimators(), ids=KINDS)
def test_scikit_learn_knows_what_they_are(estimator):
    assert is_classifier(estimator) == ("Classifier" in type(estimator).__name__)
    assert is_regressor(estimator) == ("Regressor" in type(estimator).__name__)
    with pytest.raises(NotFittedError, match="has not been fitted yet"):
        estimator.predict(X)
    assert clone(estimator).get_params().keys() == estimator.get_params().keys()


@pytest.mark.parametrize("estimator", estimators(max_iter=100, learning_rate_init=0.02, random_state=0), ids=KINDS)
def test_in_pipelines_searches_and_cross_validation(estimator):
    y = np.array(["ash", "elm", "oak"])[Y] if is_classifier(estimator) else Y_NUMBERS
    name = type(estimator).__name__.lower()
    pipeline = make_pipeline(StandardScaler(), estimator.set_params(device="cpu"))
    assert cross_val_score(pipeline, X, y, cv=KFold(3, shuffle=True, random_state=0)).mean() > 0.8
    search = GridSearchCV(pipeline, {f"{name}__max_iter": [1, 100]}, cv=2).fit(X, y)
    assert search.best_params_ == {f"{name}__max_iter": 100}
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict(X), search.predict(X))
    weights = np.ones(150)
    pipeline.fit(X, y, **{f"{name}__sample_weight": weights})
    assert pipeline.score(X, y) > 0.9


@pytest.mark.parametrize("estimator", estimators(max_iter=3, random_state=0, device="cpu"), ids=KINDS)
def test_weights_of_rows_are_routed(estimator):
    y, weights = Y if is_classifier(estimator) else Y_NUMBERS, np.arange(150) % 3
    want = clone(estimator).fit(X, y, weights)
    with sklearn.config_context(enable_metadata_routing=True):
        assert make_pipeline(StandardScaler(), estimator).fit(X, y).score(X, y) <= 1.0
        pipeline = make_pipeline(StandardScaler(with_mean=False, with_std=False).set_fit_request(sample_weight=False))
        pipeline.steps.append(("net", clone(estimator.set_fit_request(sample_weight=True))))
        np.testing.assert_array_equal(pipeline.fit(X, y, sample_weight=weights).predict(X), want.predict(X))
        scored = clone(estimator).set_score_request(sample_weight="share").set_partial_fit_request(sample_weight=False)
        split = KFold(2, shuffle=True, random_state=0)
        weighted = cross_val_score(scored, X, y, cv=split, params={"sample_weight": weights, "share": weights})
        alike = cross_val_score(scored, X, y, cv=split, params={"sample_weight": weights, "share": np.ones(150)})
        assert (weighted != alike).all()


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
@pytest.mark.parametrize("estimator", estimators(max_iter=3, random_state=0, device="cpu"), ids=KINDS)
def test_sparse_rows_are_the_rows(estimator, form):
    x, y = np.where(X > 0, X, 0.0), Y if is_classifier(estimator) else Y_NUMBERS
    dense = clone(estimator).fit(x, y)
    estimator.fit(form(x), y)
    np.testing.assert_array_equal(estimator.predict(form(x)), dense.predict(x))
    assert estimator.loss_curve_ == dense.loss_curve_
    if is_classifier(estimator):
        labels = np.stack([Y > 0, Y == 1, Y == 2], axis=1).astype(int)
        np.testing.assert_array_equal(
            estimator.fit(x, form(labels)).predict(x), clone(estimator).fit(x, labels).predict(x)
        )


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("estimator", estimators(max_iter=3, random_state=0, device="cpu"), ids=KINDS)
def test_frames(estimator, library):
    frames = pytest.importorskip(library)
    y = np.array(["ash", "elm", "oak"])[Y] if is_classifier(estimator) else Y_NUMBERS
    names = ["a", "b", "c", "d"]
    frame = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    plain = clone(estimator).fit(X, y, np.arange(150))
    estimator.fit(frame, frames.Series(y), frames.Series(np.arange(150)))
    assert estimator.feature_names_in_.tolist() == names
    np.testing.assert_array_equal(estimator.predict(frame), plain.predict(X))
    assert estimator.score(frame, frames.Series(y)) == plain.score(X, y)
    with pytest.raises(gn.DataError, match=r"The feature names should match.*in another order"):
        estimator.predict(frame[["b", "a", "c", "d"]])
    with pytest.raises(gn.DataError, match="the column 'c' of X does not hold numbers"):
        estimator.fit(frames.DataFrame({"a": X[:, 0], "c": ["some"] * 150}), y)
    gaps = frames.DataFrame({"a": [*X[:-1, 0].tolist(), None], "c": X[:, 1]})
    with pytest.raises(gn.DataError, match="contain NaN or infinity, first in row 149"):
        estimator.fit(gaps, y)


def test_warnings_are_of_scikit_learns_kinds():
    with pytest.warns(ConvergenceWarning, match="max_iter=2 epochs were reached"):
        gn.MLPClassifier(max_iter=2, device="cpu").fit(X, Y)
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        gn.MLPRegressor(max_iter=2, device="cpu").fit(X, Y_NUMBERS[:, None])


def test_a_callback_and_a_loss_go_through_clone():
    clf = gn.MLPClassifier(callbacks=[gn.MaxNorm(1.0)], loss=gn.FocalLoss(1.0), solver=gn.Adam(0.01), max_iter=2)
    other = clone(clf).fit(X, Y)
    assert other.callbacks[0].limit == 1.0
    assert other.callbacks[0] is not clf.callbacks[0]
    assert all(np.linalg.norm(W, axis=0).max() < 1.0 + 1e-6 for W in other.coefs_)
