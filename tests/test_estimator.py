"""The estimators without scikit-learn; with it they are tested in test_estimator_sklearn.py."""

import copy
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import gpunn as gn
from gpunn.estimator import base
from gpunn.testing import assert_close

rng = np.random.default_rng(0)
X = rng.standard_normal((120, 4))
LABELS = np.array(["ash", "elm", "oak"])[np.argmax(X[:, :3], axis=1)]
NUMBERS = X[:, 0] - 2.0 * X[:, 1] ** 2
QUICK = {"max_iter": 3, "random_state": 0, "device": "cpu"}
SMALL = {"hidden_layer_sizes": (16,), "max_iter": 150, "learning_rate_init": 0.01, "random_state": 0}
pytestmark = pytest.mark.filterwarnings("ignore:max_iter=")


def make(inputs, outputs):
    return gn.mlp([inputs, 8, outputs])


def every(kind, **more):
    """An estimator of each of the four classes."""
    return kind(make, **QUICK, **more) if "Net" in kind.__name__ else kind(8, **QUICK, **more)


CLASSIFIERS, REGRESSORS = [gn.MLPClassifier, gn.NetClassifier], [gn.MLPRegressor, gn.NetRegressor]


def target(kind):
    return LABELS if kind in CLASSIFIERS else NUMBERS


# --- parameters


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_parameters_have_names(kind):
    estimator = every(kind)
    params = estimator.get_params()
    assert params["max_iter"] == 3
    assert params["tol"] == 1e-4
    assert estimator.set_params(tol=0.5) is estimator
    assert estimator.get_params(deep=False) == params | {"tol": 0.5}
    assert "tol=0.5" in repr(estimator)
    assert "alpha" not in repr(estimator)
    with pytest.raises(gn.OptionError, match=f"{kind.__name__} has no parameter 'maxiter'; .* Did you mean 'max_iter'"):
        estimator.set_params(maxiter=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "adan"}, "solver 'adan' is not known; expected sgd, .*, or an Optimizer. Did you mean 'adam'"),
        ({"solver": None}, "solver None is not known; expected sgd, .*rmsprop, lbfgs, or an Optimizer$"),
        ({"learning_rate": "cosine"}, "learning_rate 'cosine' is not known; expected constant.*schedule"),
        ({"learning_rate_init": 0.0}, "learning_rate_init must be above 0"),
        ({"alpha": -1.0}, "alpha must be at least 0"),
        ({"tol": -1.0}, "tol must be at least 0"),
        ({"max_iter": 0}, "max_iter must be a whole number, 1 or more"),
        ({"batch_size": "all"}, "batch_size must be a whole number"),
        ({"n_iter_no_change": 0}, "n_iter_no_change must be a whole number, 1 or more"),
        ({"early_stopping": True, "validation_fraction": 1.0}, "validation_fraction must be above 0 and below 1"),
        ({"hidden_layer_sizes": (4, 0)}, "hidden_layer_sizes must be a whole number, 1 or more, got 0"),
        ({"hidden_layer_sizes": (4, 4), "activation": ["relu"]}, "activation names 1 functions for 2 hidden layers"),
        ({"activation": "swoosh"}, "activation 'swoosh' is not known"),
        ({"dropout": [0.1, 0.2]}, "dropout names 2 rates for 1 hidden layers"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"loss": "logloss"}, "'logloss' is not known; expected .*, hinge, or a Loss. Did you mean 'log_loss'"),
        ({"callbacks": print}, "a callback must be an instance of Callback, got <built-in function print>"),
        ({"loss": gn.Huber()}, r"loss Huber\(delta=1.0\) is for numbers: a classifier needs one for classes"),
        ({"class_weight": "fair"}, "class_weight 'fair' is not known"),
        ({"class_weight": {"fir": 2.0}}, "class_weight names 'fir', which is not among the classes"),
        ({"class_weight": {"ash": -2.0}}, "class_weight of 'ash' must be at least 0"),
        ({"random_state": -1}, "random_state must be a whole number"),
        ({"dtype": "float16"}, "dtype 'float16' is not known"),
    ],
)
def test_parameters_that_do_not_fit_are_named_at_fit(options, message):
    with pytest.raises(gn.OptionError, match=message):
        gn.MLPClassifier(**QUICK | options).fit(X, LABELS)


def test_losses_of_a_regressor_are_named():
    with pytest.raises(gn.OptionError, match="loss 'log_loss' is not known; expected squared_error, absolute_error"):
        gn.MLPRegressor(**QUICK, loss="log_loss").fit(X, NUMBERS)
    with pytest.raises(gn.OptionError, match="is for classes: a regressor needs one for numbers"):
        gn.MLPRegressor(**QUICK, loss=gn.Hinge()).fit(X, NUMBERS)


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_before_fit_there_is_nothing_to_ask(kind):
    with pytest.raises(gn.NotInitialised, match=f"this {kind.__name__} has not been fitted yet: call fit"):
        every(kind).predict(X)
    assert not hasattr(every(kind), "net_")
    assert not hasattr(every(kind), "out_activation_")


@pytest.mark.parametrize(
    ("options", "y", "error"),
    [
        ({"alpha": -1.0}, LABELS == "oak", gn.OptionError),
        ({"batch_size": 0}, LABELS == "oak", gn.OptionError),
        ({"learning_rate_init": 1e300, "solver": "sgd"}, LABELS == "oak", gn.Diverged),
        ({}, np.full(120, "oak"), gn.DataError),
    ],
)
def test_a_fit_that_fails_has_not_been(options, y, error):
    clf = gn.MLPClassifier(8, **QUICK | options)
    with pytest.raises(error):
        clf.fit(X[:, :2], y)
    with pytest.raises(gn.NotInitialised):
        clf.predict(X)
    clf = gn.MLPClassifier(8, **QUICK).fit(X, LABELS)
    before = clf.predict(X)
    with pytest.raises(error):
        clf.set_params(**options).fit(X[:, :2], y)
    np.testing.assert_array_equal(clf.predict(X), before)


# --- what a fit leaves


def test_a_classifier_of_three_classes():
    clf = gn.MLPClassifier(**SMALL, activation="tanh").fit(X, LABELS)
    assert clf.score(X, LABELS) > 0.95
    assert clf.classes_.tolist() == ["ash", "elm", "oak"]
    assert clf.predict(X[:5]).tolist() == LABELS[:5].tolist()
    p = clf.predict_proba(X)
    assert p.shape == (120, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_allclose(clf.predict_log_proba(X), np.log(p))
    assert (clf.n_layers_, clf.n_outputs_, clf.out_activation_, clf.n_features_in_) == (3, 3, "softmax", 4)
    assert [W.shape for W in clf.coefs_] == [(4, 16), (16, 3)]
    assert [b.shape for b in clf.intercepts_] == [(16,), (3,)]
    assert (clf.n_iter_, clf.t_, len(clf.loss_curve_)) == (150, 150 * 120, 150)
    assert clf.loss_ == clf.loss_curve_[-1]
    assert clf.best_loss_ == min(clf.loss_curve_)
    assert clf.validation_scores_ is clf.best_validation_score_ is None
    assert clf.history_["loss"][0] < clf.loss_curve_[0]  # it is without the penalty
    clf.coefs_[0][...] = 0.0  # the network's own
    assert len(np.unique(clf.predict_proba(X), axis=0)) == 1


def test_a_classifier_of_two_classes():
    y = X[:, 0] > 0
    clf = gn.MLPClassifier(**SMALL).fit(X, y)
    assert clf.score(X, y) > 0.95
    assert (clf.n_outputs_, clf.out_activation_) == (1, "logistic")
    assert clf.predict(X).dtype == bool
    p = clf.predict_proba(X)
    assert p.shape == (120, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_array_equal(p[:, 1] > 0.5, clf.predict(X))


def test_several_labels():
    y = (X[:, :3] > 0).astype(int)
    clf = gn.MLPClassifier(**SMALL).fit(X, y)
    assert clf.score(X, y) > 0.85
    assert clf.classes_.tolist() == [0, 1, 2]
    assert clf.predict_proba(X).shape == clf.predict(X).shape == (120, 3)
    assert set(np.unique(clf.predict(X))) == {0, 1}
    assert clf.score(X, y) == np.mean((clf.predict(X) == y).all(axis=1))
    with pytest.raises(gn.OptionError, match="class_weight is for classes"):
        gn.MLPClassifier(**QUICK, class_weight="balanced").fit(X, y)


@pytest.mark.parametrize("columns", [1, 2])
def test_a_regressor(columns):
    y = NUMBERS if columns == 1 else np.stack([NUMBERS, 1.0 - NUMBERS], axis=1)
    reg = gn.MLPRegressor(**SMALL).fit(X, y)
    assert reg.predict(X).shape == y.shape
    assert (reg.n_outputs_, reg.out_activation_) == (columns, "identity")
    rest, spread = np.sum((y - reg.predict(X)) ** 2, axis=0), np.sum((y - y.mean(axis=0)) ** 2, axis=0)
    assert reg.score(X, y) == pytest.approx(np.mean(1.0 - rest / spread))
    assert reg.score(X, y) > 0.9
    weights = rng.random(120)
    twice = np.repeat(np.arange(120), 2)
    assert reg.score(X, y, np.full(120, 3.0)) == pytest.approx(reg.score(X[twice], y[twice]))
    assert reg.score(X, y, weights) != reg.score(X, y)


@pytest.mark.parametrize(
    ("loss", "output"),
    [("poisson", "exp"), ("absolute_error", "identity"), ("huber", "identity"), (gn.Huber(0.1), "identity")],
)
def test_losses_of_regressors(loss, output):
    y = np.floor(np.exp(X[:, 0]))
    reg = gn.MLPRegressor(**SMALL, loss=loss).fit(X, y)
    assert reg.out_activation_ == output
    assert reg.score(X, y) > 0.6
    assert (reg.predict(X) > 0).all() or output == "identity"


@pytest.mark.parametrize("loss", ["focal", "hinge", gn.Hinge(squared=True), gn.SigmoidCrossEntropy, gn.Quadratic()])
@pytest.mark.parametrize("y", [LABELS, LABELS == "oak"], ids=["three", "two"])
def test_losses_of_classifiers(loss, y):
    clf = gn.MLPClassifier(**SMALL, loss=loss).fit(X, y)
    assert clf.score(X, y) > 0.9
    if clf.out_activation_ == "identity":
        with pytest.raises(gn.LossMismatch, match="gives scores, no probabilities: fit with loss='log_loss'"):
            clf.predict_proba(X)
    else:
        np.testing.assert_allclose(clf.predict_proba(X).sum(axis=1), 1.0)
        np.testing.assert_array_equal(clf.classes_[clf.predict_proba(X).argmax(axis=1)], clf.predict(X))


def test_a_constant_target_has_the_score_that_scikit_learn_gives_it():
    reg = gn.MLPRegressor((), **QUICK).fit(X, np.zeros(120))
    for W in (*reg.coefs_, *reg.intercepts_):
        W[...] = 0.0
    assert reg.score(X, np.zeros(120)) == 1.0
    assert reg.score(X, np.ones(120)) == 0.0


# --- networks


def test_the_layers_are_those_that_were_asked_for():
    clf = gn.MLPClassifier(
        (6, 5), activation=["logistic", gn.LeakyReLU(0.2)], dropout=[0.0, 0.3], **QUICK, dtype="float32"
    ).fit(X, LABELS)
    names = [type(layer).__name__ for layer in clf.net_.layers]
    assert names == ["Linear", "Sigmoid", "Linear", "LeakyReLU", "Dropout", "Linear"]
    assert clf.net_.layers[4].rate == 0.3
    assert clf.predict_proba(X).dtype == clf.coefs_[0].dtype == np.float32
    assert gn.MLPClassifier((), **QUICK).fit(X, LABELS).n_layers_ == 2
    assert gn.MLPRegressor(5, **QUICK).fit(X.astype("float32"), NUMBERS).predict(X).dtype == np.float32


def test_any_network_will_do():
    images = X[:, [0, 1, 2, 3] * 4].reshape(120, 4, 4, 1)
    net = gn.Sequential(gn.Conv2d(1, 4, 3), gn.ReLU(), gn.Flatten(), gn.Linear(16, 3), output="softmax")
    clf = gn.NetClassifier(net, **QUICK | {"max_iter": 60, "learning_rate_init": 0.02}).fit(images, LABELS)
    assert clf.score(images, LABELS) > 0.9
    assert not net.initialised  # it is a copy that was trained
    again = gn.NetClassifier(net, **QUICK).fit(images, LABELS)
    assert again.loss_curve_ == gn.NetClassifier(net, **QUICK).fit(images, LABELS).loss_curve_
    further = gn.NetClassifier(clf.net_, **QUICK).fit(images, LABELS)
    assert further.loss_ < again.loss_ / 2  # from the weights it has
    assert clf.out_activation_ == further.out_activation_ == "softmax"


@pytest.mark.parametrize(
    ("net", "error", "message"),
    [
        (gn.mlp([4, 5]), gn.ShapeError, "the network has 5 outputs, and y has 3 classes"),
        (gn.mlp([3, 3]), gn.ShapeError, r"Linear expects inputs of shape \(N, 3\)"),
        (lambda inputs, outputs: inputs, gn.OptionError, r"what net\(inputs, outputs\) returns must be an instance"),
        ("mlp", gn.OptionError, "net must be a network, or a function"),
        (gn.mlp([4, 3], output="sigmoid"), gn.LossMismatch, "SoftmaxCrossEntropy goes with output='softmax'"),
    ],
)
def test_networks_that_do_not_fit_are_named(net, error, message):
    with pytest.raises(error, match=message):
        gn.NetClassifier(net, **QUICK).fit(X, LABELS)
    if error is gn.ShapeError and "outputs" in message:
        with pytest.raises(error, match="has 5 outputs, and y has 1 number a row"):
            gn.NetRegressor(net, **QUICK).fit(X, NUMBERS)


@pytest.mark.parametrize("outputs", [1, 2])
def test_two_classes_may_have_one_output_or_two(outputs):
    clf = gn.NetClassifier(gn.mlp([4, outputs]), **QUICK | {"max_iter": 60}, learning_rate_init=0.1)
    assert clf.fit(X, LABELS == "ash").predict_proba(X).shape == (120, 2)
    assert clf.score(X, LABELS == "ash") > 0.85


# --- training


@pytest.mark.parametrize(
    "solver",
    [
        *("sgd", "adam", "adamw", "nadam", "adamax", "rmsprop", "adagrad", "lion", "muon"),
        gn.Adam(0.01, weight_decay=0.1),
    ],
    ids=str,
)
def test_every_solver_learns(solver):
    clf = gn.MLPClassifier(16, solver=solver, **QUICK | {"max_iter": 60}, learning_rate_init=0.05).fit(X, LABELS)
    assert clf.score(X, LABELS) > 0.8


def test_an_optimizer_that_was_given_is_left_as_it_was():
    solver = gn.SGD(0.1, momentum=0.9)
    gn.MLPClassifier(solver=solver, **QUICK).fit(X, LABELS)
    assert (solver.weight_decay, solver.scale) == (0.0, 1.0)


def test_an_optimizer_may_be_given_as_its_class():
    by_class, by_object = (gn.MLPClassifier(solver=solver, **QUICK).fit(X, LABELS) for solver in (gn.Adam, gn.Adam()))
    assert by_class.loss_curve_ == by_object.loss_curve_


def test_a_schedule_sets_the_learning_rate():
    clf = gn.MLPClassifier(**QUICK, learning_rate_init=gn.schedules.Step(0.1, every=1)).fit(X, LABELS)
    np.testing.assert_allclose(clf.history_["lr"], [0.1, 0.01, 0.001])


def test_learning_rates_of_sgd():
    options = QUICK | {"solver": "sgd", "learning_rate_init": 0.1}
    inverse = gn.MLPClassifier(**options, learning_rate="invscaling").fit(X, LABELS)
    np.testing.assert_allclose(inverse.history_["lr"], [0.1, 0.1 / 121**0.5, 0.1 / 241**0.5])
    options |= {"tol": 100.0, "n_iter_no_change": 1, "max_iter": 200}
    adaptive = gn.MLPClassifier(**options, learning_rate="adaptive").fit(X, LABELS)
    np.testing.assert_allclose(adaptive.history_["lr"][:7], [0.1] * 3 + [0.02] * 2 + [0.004] * 2)
    assert adaptive.history_["lr"][-1] <= 1e-6
    assert adaptive.n_iter_ < 30


def test_training_ends_when_it_gets_no_further():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = gn.MLPClassifier(**QUICK | {"max_iter": 50, "tol": 100.0}, n_iter_no_change=4).fit(X, LABELS)
    assert clf.n_iter_ == 6  # the first is better than nothing; then 5 without a better one
    with pytest.warns(UserWarning, match=r"max_iter=3 epochs were reached before training had converged"):
        gn.MLPClassifier(**QUICK).fit(X, LABELS)


@pytest.mark.parametrize(("kind", "y"), [(gn.MLPClassifier, LABELS), (gn.MLPRegressor, NUMBERS)])
def test_early_stopping_holds_rows_out_and_puts_the_best_weights_back(kind, y):
    options = QUICK | {"max_iter": 40, "learning_rate_init": 0.1}
    net = kind(50, **options, early_stopping=True, n_iter_no_change=5, validation_fraction=0.2).fit(X, y)
    assert net.best_loss_ is None
    assert len(net.validation_scores_) == net.n_iter_
    assert net.best_validation_score_ == max(net.validation_scores_)
    _, part = net._held_out(net._encode(y, first=False, partial=False), 0)
    assert len(part) == 24
    assert net.score(X[part], y[part]) == pytest.approx(net.best_validation_score_)
    assert net.t_ == net.n_iter_ * 96
    if kind is gn.MLPClassifier:
        counts = [np.sum(LABELS[part] == label) for label in net.classes_]
        np.testing.assert_allclose(counts, [0.2 * np.sum(label == LABELS) for label in net.classes_], atol=1.0)
        assert net.history_["valid_accuracy"] == net.validation_scores_
    with pytest.raises(gn.DataError, match=r"validation_fraction=0.005 of 120 rows holds out 1"):
        kind(**QUICK, early_stopping=True, validation_fraction=0.005).fit(X, y)
    with pytest.raises(gn.OptionError, match="partial_fit does not support early_stopping"):
        kind(**QUICK, early_stopping=True).partial_fit(X, y, **({"classes": LABELS} if kind in CLASSIFIERS else {}))


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_the_same_seed_gives_the_same_network(kind):
    first, second = every(kind).fit(X, target(kind)), every(kind).fit(X, target(kind))
    np.testing.assert_array_equal(first.predict(X), second.predict(X))
    assert first.loss_curve_ == second.loss_curve_
    assert every(kind).set_params(random_state=1).fit(X, target(kind)).loss_curve_ != first.loss_curve_
    for state in (np.random.RandomState, np.random.default_rng):
        a, b = (every(kind).set_params(random_state=state(5)).fit(X, target(kind)) for _ in range(2))
        assert a.loss_curve_ == b.loss_curve_
    np.random.seed(7)  # noqa: NPY002
    a = every(kind).set_params(random_state=None).fit(X, target(kind))
    assert a.loss_curve_ != every(kind).set_params(random_state=None).fit(X, target(kind)).loss_curve_


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_a_warm_start_goes_on(kind):
    y = target(kind)
    estimator = every(kind, warm_start=True).fit(X, y)
    first = estimator.loss_
    weights = estimator.net_.state_dict()
    estimator.set_params(learning_rate_init=1e-9).fit(X, y)
    assert estimator.loss_curve_[3] < first  # with the new learning rate the weights have stayed
    for name, value in estimator.net_.state_dict().items():
        np.testing.assert_allclose(value, weights[name], atol=1e-7)
    assert (estimator.n_iter_, estimator.t_, len(estimator.loss_curve_)) == (3, 720, 6)
    with pytest.raises(gn.ShapeError, match=f"X has 3 features, but {kind.__name__} is expecting 4 features as input"):
        estimator.fit(X[:, :3], y)
    if kind in CLASSIFIERS:
        with pytest.raises(gn.DataError, match="warm_start can only be used where `y` has the same classes"):
            estimator.fit(X[y != "oak"], y[y != "oak"])
    else:
        with pytest.raises(gn.ShapeError, match="unlike before: there were 1 columns"):
            estimator.fit(X, np.stack([y, y], axis=1))
    estimator.set_params(early_stopping=True).fit(X, y)
    assert len(estimator.validation_scores_) == 3


def test_what_goes_on_sees_the_rows_in_other_orders(monkeypatch):
    seeds, legacy = [], base.legacy
    monkeypatch.setattr(base, "legacy", lambda seed: seeds.append(seed) or legacy(seed))
    reg = gn.MLPRegressor(4, **QUICK, warm_start=True).fit(X, NUMBERS).fit(X, NUMBERS)
    reg.partial_fit(X, NUMBERS).partial_fit(X, NUMBERS)
    assert len(set(seeds)) == 4
    assert seeds[0] == 0


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_partial_fit_goes_on_from_call_to_call(kind):
    y, more = target(kind), {"classes": ["ash", "elm", "oak"]} if kind in CLASSIFIERS else {}
    estimator = every(kind, learning_rate_init=0.02)
    if more:
        with pytest.raises(gn.DataError, match="first call of partial_fit needs classes="):
            estimator.partial_fit(X, y)
    estimator.partial_fit(X[:50], y[:50], **more)
    assert (estimator.n_iter_, estimator.t_) == (1, 50)
    state = {name: array.copy() for name, array in estimator._trainer.state.items()}
    estimator.partial_fit(X[50:], y[50:], sample_weight=np.arange(70))  # the row of weight 0 is left out
    assert (estimator.t_, len(estimator.loss_curve_)) == (119, 2)
    assert any((estimator._trainer.state[name] != array).any() for name, array in state.items())
    for _ in range(200):
        estimator.partial_fit(X, y)
    assert estimator.score(X, y) > 0.5
    assert estimator._trainer.steps == 202
    if more:
        only = estimator.partial_fit(X[y == "elm"], y[y == "elm"])  # not all classes need be there
        assert only.classes_.tolist() == more["classes"]
        with pytest.raises(gn.DataError, match="y has the class 'fir', which is not among the classes"):
            estimator.partial_fit(X[:2], ["fir", "oak"])
        with pytest.raises(gn.DataError, match="are not those of the first call"):
            estimator.partial_fit(X, y, classes=["ash", "fir"])
        with pytest.raises(gn.OptionError, match="partial_fit does not see all rows"):
            every(kind, class_weight="balanced").partial_fit(X, y, **more)


def test_a_warm_start_remembers_what_was_best():
    """As in scikit-learn: over all the fits, so that a loop of them ends and gives the best weights of all."""
    options = QUICK | {"max_iter": 1, "warm_start": True, "learning_rate_init": 0.05}
    reg = gn.MLPRegressor(8, **options, n_iter_no_change=3, tol=1e-3)
    for _ in range(400):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            reg.fit(X, NUMBERS)
        if not warned:  # that it has not converged
            break
    fits = len(reg.loss_curve_)
    assert 10 < fits < 400
    assert reg.best_loss_ == min(reg.loss_curve_)
    assert len(reg.fit(X, NUMBERS).loss_curve_) == fits + 1  # it has converged still

    clf = gn.MLPClassifier(8, **options, early_stopping=True, solver="sgd")
    for _ in range(5):
        clf.fit(X, LABELS)
    best = clf.net_.state_dict()
    clf.set_params(learning_rate_init=1e3).fit(X, LABELS)
    assert len(clf.validation_scores_) == 6
    assert clf.best_validation_score_ == max(clf.validation_scores_) > clf.validation_scores_[-1]
    for name, value in clf.net_.state_dict().items():
        np.testing.assert_array_equal(value, best[name])
    clf.set_params(early_stopping=False).partial_fit(X, LABELS)  # by the loss from now on
    assert clf.best_loss_ == clf.loss_
    assert clf.validation_scores_ is clf.best_validation_score_ is None


def test_an_epoch_that_was_broken_off_is_not_taken_up():
    class Stops(gn.Callback):
        def on_step(self, trainer):
            trainer.stop = True

    clf = gn.MLPClassifier(**QUICK, batch_size=40, callbacks=Stops()).fit(X, LABELS)
    clf.set_params(callbacks=None).partial_fit(X[:50], LABELS[:50])
    assert clf._trainer.steps == 1 + 2
    assert clf.t_ == 50


def test_the_score_of_rows_held_out_is_in_the_table(capsys):
    reg = gn.MLPRegressor(**QUICK, early_stopping=True, verbose=True).fit(X, NUMBERS)
    head, *rows = capsys.readouterr().out.splitlines()
    assert "valid R^2" in head
    assert [f"{score:.4f}" in row for score, row in zip(reg.validation_scores_, rows, strict=True)] == [True] * 3


@pytest.mark.parametrize("solver", ["adam", gn.RMSprop(0.01), gn.Lion])
def test_partial_fit_follows_a_change_of_solver(solver):
    clf = gn.MLPClassifier(8, **QUICK, solver="sgd").fit(X, LABELS)
    clf.set_params(solver=solver).partial_fit(X, LABELS)
    names = {"adam": gn.Adam, gn.Lion: gn.Lion}
    assert type(clf._trainer.optimizer) is names.get(solver, gn.RMSprop)
    trainer = clf._trainer
    assert pickle.loads(pickle.dumps(clf)).partial_fit(X, LABELS)._trainer.steps == 2
    assert clf.partial_fit(X, LABELS)._trainer is trainer
    assert len(clf.loss_curve_) == 5


def test_callbacks_are_called_and_may_end_training(capsys):
    class Third(gn.Callback):
        def on_epoch(self, trainer, row):
            trainer.stop = trainer.epoch == 3

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = gn.MLPClassifier(**QUICK | {"max_iter": 50}, callbacks=Third(), verbose=True).fit(X, LABELS)
    assert clf.n_iter_ == 3
    assert len(capsys.readouterr().out.splitlines()) == 4

    class Interrupts(gn.Callback):
        def on_step(self, trainer):
            if trainer.steps == 3:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted after 2 epochs; the weights are kept"):
        clf = gn.MLPClassifier(**QUICK, callbacks=[Interrupts]).fit(X, LABELS)
    assert clf.predict(X).shape == (120,)


# --- rows and classes that count for more


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_a_weight_of_2_is_the_row_twice(kind):
    times = rng.integers(0, 4, 120)
    again, y = np.repeat(np.arange(120), times), target(kind)
    options = {"batch_size": 1000, "alpha": 0.5}
    weighted = every(kind, **options).fit(X, y, sample_weight=times)
    repeated = every(kind, **options).fit(X[again], y[again])
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-10)
    for name, value in repeated.net_.state_dict().items():
        np.testing.assert_allclose(weighted.net_.state_dict()[name], value, rtol=1e-6, atol=1e-8)
    assert weighted.score(X, y, times) == pytest.approx(weighted.score(X[again], y[again]))
    np.testing.assert_allclose(
        every(kind, alpha=0.0).fit(X, y, sample_weight=2.5).loss_curve_,
        every(kind, alpha=0.0).fit(X, y, np.full(120, 7.0)).loss_curve_,
    )


def test_class_weights_are_weights_of_rows():
    share = {"ash": 3.0, "elm": 0.5}
    given = gn.MLPClassifier(**QUICK, class_weight=share).fit(X, LABELS)
    by_row = gn.MLPClassifier(**QUICK).fit(X, LABELS, [share.get(label, 1.0) for label in LABELS.tolist()])
    assert given.loss_curve_ == by_row.loss_curve_
    balanced = gn.MLPClassifier(**QUICK, class_weight="balanced").fit(X, LABELS)
    counts = {label: np.sum(label == LABELS) for label in share | {"oak": 1.0}}
    by_row = gn.MLPClassifier(**QUICK).fit(X, LABELS, [40.0 / counts[label] for label in LABELS.tolist()])
    np.testing.assert_allclose(balanced.loss_curve_, by_row.loss_curve_)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.zeros(120), gn.DataError, "sample_weight is zero for every row"),
        (np.ones(119), gn.ShapeError, r"sample_weight is of shape \(119,\), expected \(120,\)"),
        (-np.ones(120), gn.DataError, "must be finite numbers, 0 or more"),
        (["many"] * 120, gn.DataError, "sample_weight must hold numbers"),
        ((LABELS == "ash").astype(int), gn.DataError, "y has one class, .*'ash'.*needs two classes or more"),
    ],
)
def test_weights_that_do_not_fit_are_named(weights, error, message):
    with pytest.raises(error, match=message):
        gn.MLPClassifier(**QUICK).fit(X, LABELS, sample_weight=weights)


# --- what comes in, and what goes out


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_arrays_of_any_library_come_back_as_they_were(backend, kind):
    y = np.unique(LABELS, return_inverse=True)[1] if kind in CLASSIFIERS else NUMBERS
    x = backend.asarray(X)
    estimator = every(kind).set_params(device="auto").fit(x, backend.asarray(y), backend.asarray(np.ones(120)))
    assert estimator._trainer.device == backend.device
    answers = estimator.predict(x)
    assert backend.device.holds(answers)
    plain = every(kind).fit(X, y, np.ones(120))
    np.testing.assert_allclose(gn.to_host(answers), plain.predict(X), rtol=1e-6)
    assert isinstance(estimator.predict(X), np.ndarray)  # and what is asked decides, not what was fitted
    assert backend.device.holds(plain.predict(x))
    assert estimator.score(x, backend.asarray(y)) == pytest.approx(plain.score(X, y))
    if kind in CLASSIFIERS:
        assert_close(plain.predict_proba(x), plain.predict_proba(X), like=x)
        assert backend.device.holds(estimator.predict_log_proba(x))
        assert isinstance(every(kind).fit(x, LABELS).predict(x), np.ndarray)  # texts
    else:
        columns = np.stack([y, y], axis=1)
        assert backend.device.holds(every(kind).fit(x, backend.asarray(columns)).predict(x))


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_lists_and_whole_numbers_are_numbers(kind):
    whole = np.round(10 * X).astype("uint8")
    fitted = every(kind).fit(whole.tolist(), target(kind).tolist())
    np.testing.assert_array_equal(
        fitted.predict(whole), every(kind).fit(whole.astype(float), target(kind)).predict(whole)
    )
    assert fitted.predict(X.astype(object)).shape == (120,)


class Frame:
    """What a frame of pandas or polars shows of itself."""

    def __init__(self, values, columns):
        self.values, self.columns = np.asarray(values), columns

    def __array__(self, dtype=None, copy=None):
        return self.values


def test_frames_have_names():
    frame = Frame(X, ["a", "b", "c", "d"])
    clf = gn.MLPClassifier(**QUICK).fit(frame, LABELS)
    assert clf.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(clf.predict(frame), gn.MLPClassifier(**QUICK).fit(X, LABELS).predict(X))
    with pytest.warns(UserWarning, match="X does not have valid feature names, but MLPClassifier was fitted with"):
        clf.predict(X)
    for columns, wrong in (
        (["a", "b", "d", "c"], "they are in another order"),
        (["a", "b", "c", "e"], "'d' is missing"),
    ):
        with pytest.raises(gn.DataError, match=f"The feature names should match those that were passed.*{wrong}"):
            clf.predict(Frame(X, columns))
    clf.fit(X, LABELS)
    assert not hasattr(clf, "feature_names_in_")
    with pytest.warns(UserWarning, match="X has feature names, but MLPClassifier was fitted without"):
        clf.predict(frame)
    assert not hasattr(clf.fit(Frame(X, [0, 1, 2, 3]), LABELS), "feature_names_in_")
    mixed = Frame(X.astype(object), ["a", "b", "c", "d"])
    mixed.values[3, 2] = "much"
    with pytest.raises(gn.DataError, match=r"the column 'c' of X does not hold numbers: could not convert.*'much'"):
        clf.fit(mixed, LABELS)
    mixed.values[3, 2] = {}
    with pytest.raises(gn.DtypeError, match="the column 'c' of X does not hold numbers"):
        clf.fit(mixed, LABELS)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (X, None, gn.DataError, "requires y to be passed, but the target y is None"),
        (X[0], LABELS, gn.ShapeError, r"Expected 2D array, got 1D array.*Reshape your data"),
        ([[1, 2], [3]], [0, 1], gn.DataError, "X is no array of numbers, nor can it be made one: .*inhomogeneous"),
        (X, [[0], [0, 1]] * 60, gn.DataError, "y is no array of numbers, nor can it be made one: .*inhomogeneous"),
        (X[:, :, None], LABELS, gn.ShapeError, r"Expected 2D array, got 3D array.*data: X.reshape\(len\(X\), -1\)$"),
        (X[:0], LABELS[:0], gn.DataError, r"0 sample\(s\) \(shape=\(0, 4\)\) while a minimum of 1 is required"),
        (X[:, :0], LABELS, gn.DataError, r"0 feature\(s\) \(shape=\(120, 0\)\) while a minimum of 1 is required"),
        (X, LABELS[:-1], gn.ShapeError, r"X has 120 rows and y is of shape \(119,\)"),
        (X + 1j, LABELS, gn.DataError, "Complex data not supported: X is complex128"),
        (X.astype("datetime64[s]"), LABELS, gn.DtypeError, r"X is datetime64\[s\], expected numbers"),
        (np.where(X > 2, np.nan, X), LABELS, gn.DataError, "the inputs contain NaN or infinity, first in row"),
        (X, NUMBERS, gn.DataError, "Unknown label type: continuous"),
        (X, np.where(X[:, 0] > 1, np.nan, 1.0), gn.DataError, "Input y contains NaN or infinity"),
        (X, np.full(120, "ash"), gn.DataError, "y has one class, 'ash'"),
        (X, np.array([1, "a", None] * 40, dtype=object), gn.DtypeError, "y mixes labels of several kinds"),
        (X, np.stack([np.arange(120)] * 2, axis=1), gn.DataError, "must hold 0 and 1 alone, one column for each label"),
        (X, np.zeros((120, 2, 2)), gn.ShapeError, r"y must be of shape \(N,\), or \(N, L\)"),
    ],
)
def test_data_that_does_not_fit_is_named(x, y, error, message):
    with pytest.raises(error, match=message):
        gn.MLPClassifier(**QUICK).fit(x, y)


@pytest.mark.parametrize("options", [{"early_stopping": True}, {"sample_weight": np.arange(120) > 50}], ids=str)
def test_the_row_with_a_gap_has_the_number_it_has_outside(options):
    x, options = X.copy(), dict(options)
    x[100, 2] = np.inf
    weights = options.pop("sample_weight", None)
    with pytest.raises(gn.DataError, match="NaN or infinity, first in row 100, in float64"):
        gn.MLPClassifier(**QUICK, **options).fit(x, LABELS, weights)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (LABELS, gn.DataError, "y must hold numbers .*a classifier takes other labels"),
        (np.where(X[:, 0] > 1, np.nan, 1.0), gn.DataError, "Input y contains NaN or infinity"),
        (NUMBERS + 1j, gn.DataError, "Complex data not supported: y is complex128"),
        (np.zeros((120, 2, 2)), gn.ShapeError, r"y must be of shape \(N,\) or \(N, C\)"),
    ],
)
def test_numbers_that_do_not_fit_are_named(y, error, message):
    with pytest.raises(error, match=message):
        gn.MLPRegressor(**QUICK).fit(X, y)


def test_scores_of_targets_that_do_not_fit_are_named():
    with pytest.raises(gn.ShapeError, match=r"y is of shape \(5,\), and the predictions are of shape \(120,\)"):
        gn.MLPClassifier(**QUICK).fit(X, LABELS).score(X, LABELS[:5])
    with pytest.raises(gn.ShapeError, match=r"y is of shape \(120,\), and the predictions are of shape \(120, 4\)"):
        gn.MLPClassifier(**QUICK).fit(X, (X > 0).astype(int)).score(X, LABELS)
    with pytest.raises(gn.ShapeError, match=r"y is of shape \(5, 1\), and the predictions are of shape \(120, 1\)"):
        gn.MLPRegressor(**QUICK).fit(X, NUMBERS).score(X, NUMBERS[:5])
    with pytest.raises(gn.DataError, match="Input y contains NaN or infinity"):  # not a score of 0
        gn.MLPRegressor(**QUICK).fit(X, NUMBERS).score(X, np.where(X[:, 0] > 1, np.nan, NUMBERS))
    clf, codes = gn.MLPClassifier(**QUICK), np.unique(LABELS, return_inverse=True)[1]
    for fitted, asked in ((LABELS, codes), (codes, LABELS), (LABELS.astype(object), codes)):
        with pytest.raises(gn.DataError, match=r"y has the class (0|1|2|'\w+'), which is not among the classes \["):
            clf.fit(X, fitted).score(X, asked)
    assert clf.score(X, LABELS) == clf.score(X, LABELS.astype(object)) > 0


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_a_column_is_a_row_of_labels_with_a_warning(kind):
    with pytest.warns(UserWarning, match="A column-vector y was passed when a 1d array was expected"):
        fitted = every(kind).fit(X, target(kind)[:, None])
    np.testing.assert_array_equal(fitted.predict(X), every(kind).fit(X, target(kind)).predict(X))


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
@pytest.mark.parametrize("again", [copy.deepcopy, lambda estimator: pickle.loads(pickle.dumps(estimator))])
def test_copies_answer_and_learn_alike(kind, again):
    estimator = every(kind, solver="sgd").fit(X, target(kind))
    other = again(estimator)
    np.testing.assert_array_equal(other.predict(X), estimator.predict(X))
    np.testing.assert_array_equal(
        other.partial_fit(X, target(kind)).predict(X), estimator.partial_fit(X, target(kind)).predict(X)
    )


def test_scikit_learn_is_not_needed():
    code = """
import sys
sys.modules["sklearn"] = sys.modules["scipy"] = None  # to import them is an error
import warnings, numpy as np, gpunn as gn
warnings.simplefilter("ignore")
X, y = np.random.default_rng(0).standard_normal((60, 3)), np.arange(60) % 2
clf = gn.MLPClassifier(max_iter=2, early_stopping=True, device="cpu").fit(X, y, sample_weight=y + 1.0)
reg = gn.MLPRegressor(max_iter=2, device="cpu").fit(X, X[:, 0])
try:
    gn.MLPClassifier().predict(X)
except gn.NotInitialised:
    pass
try:
    gn.MLPClassifier(solver="lbfgs", device="cpu").fit(X, y)
except gn.OptionError as error:
    print(error)
    print(clf.predict(X).shape, clf.score(X, y) >= 0.0, reg.score(X, X[:, 0]) <= 1.0)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [
        "solver 'lbfgs' is SciPy's: pip install scipy, or use 'adam' or 'sgd'",
        "(60,) True True",
    ]
