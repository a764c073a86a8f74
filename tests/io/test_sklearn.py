import re

import numpy as np
import pytest

import gpunn as gn
from gpunn.errors import OptionError
from gpunn.io.sklearn import check_sklearn, from_sklearn, to_sklearn

pytest.importorskip("sklearn", minversion="1.6")
from sklearn import neural_network as theirs

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4))
CLASSES = np.argmax(X[:, :3], axis=1)
Y = {
    "three classes": np.array(["c", "a", "b"])[CLASSES],
    "numbers as classes": CLASSES * 10 - 5,
    "two classes": np.array(["yes", "no"])[CLASSES % 2],
    "labels": (X[:, :3] > 0).astype(int),
    "a number": X @ [1.0, 2.0, 0.0, -1.0],
    "numbers": X[:, :2] ** 2,
}


def fitted(module, kind, **options):
    name = "MLPRegressor" if kind in ("a number", "numbers") else "MLPClassifier"
    with np.errstate(all="ignore"):
        return getattr(module, name)(hidden_layer_sizes=(6, 5), max_iter=5, random_state=0, **options).fit(X, Y[kind])


def same(a, b, x=X):
    """Whether two estimators answer alike."""
    if not hasattr(a, "classes_"):
        np.testing.assert_allclose(a.predict(x), b.predict(x), atol=1e-5)
    else:
        np.testing.assert_array_equal(a.predict(x), b.predict(x))
        np.testing.assert_array_equal(a.classes_, b.classes_)
        np.testing.assert_allclose(a.predict_proba(x), b.predict_proba(x), atol=1e-5)
    assert abs(a.score(x, a.predict(x)) - 1.0) < 1e-9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("kind", Y)
def test_from_scikit_learn_and_back(kind, activation, tmp_path):
    estimator = fitted(theirs, kind, activation=activation)
    net = from_sklearn(estimator)
    gn.save(tmp_path / "net", net)
    net = gn.load(tmp_path / "net")
    y = net(X)
    if kind == "two classes":
        y = np.concatenate([1 - y, y], axis=1)
    expected = estimator.predict_proba(X) if hasattr(estimator, "classes_") else estimator.predict(X)
    np.testing.assert_allclose(y, expected.reshape(y.shape), atol=1e-12)
    back = to_sklearn(net)
    same(back, estimator)
    for ours, before in zip(back.coefs_ + back.intercepts_, estimator.coefs_ + estimator.intercepts_, strict=True):
        np.testing.assert_allclose(ours, before, rtol=1e-15)
    assert check_sklearn(net, back) < 1e-12


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", Y)
def test_from_an_estimator_of_gpunn(kind):
    estimator = fitted(gn, kind, activation="logistic")
    same(to_sklearn(estimator), estimator)


def test_float32_stays_float32():
    net = from_sklearn(theirs.MLPRegressor(hidden_layer_sizes=(3,)).partial_fit(X.astype(np.float32), Y["a number"]))
    assert net.store.dtype == "float32"


def test_counts():
    pytest.importorskip("sklearn", minversion="1.7")  # the first to have them
    net = gn.mlp([4, 3, 2], hidden="tanh", output="exponential").init(dtype="float64")
    estimator = to_sklearn(net)
    np.testing.assert_allclose(estimator.predict(X), net(X))
    assert repr(from_sklearn(estimator).output) == "Exponential()"


def randomised(net):
    rng = np.random.default_rng(1)
    net.init(dtype="float64")
    net.load_state_dict({name: a + rng.uniform(0.1, 0.5, a.shape) for name, a in net.state_dict().items()})
    return net


def test_what_comes_to_the_same_is_put_into_scikit_learns_form():
    net = randomised(
        gn.Sequential(
            gn.Standardize([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 0.5, 3.0]),
            gn.BatchNorm(4),
            gn.Sequential(gn.Linear(4, 5), gn.BatchNorm(5), gn.Dropout(), gn.Tanh(), gn.GaussianNoise()),
            gn.BatchNorm(5),
            gn.Linear(5, 3, bias=False),
            gn.Standardize([1.0, 2.0, 3.0], [0.1, 0.2, 0.3]),
            gn.Linear(3, 3),
            gn.Tanh(),
            gn.Linear(3, 2),
            gn.Standardize([10.0, 0.0], [0.5, 0.25]),
        )
    )
    estimator = to_sklearn(net)
    assert estimator.hidden_layer_sizes == (5, 3)
    np.testing.assert_allclose(estimator.predict(X), net(X), rtol=1e-9)


@pytest.mark.parametrize("names", [["b", "a"], ["a", "b"], ["8", "9", "10"]])
def test_classes_keep_their_names_in_scikit_learns_order(names):
    net = randomised(gn.mlp([4, 3, len(names)], output="softmax"))
    net.about = {"classes": names}
    estimator = to_sklearn(net)
    assert list(estimator.classes_) == sorted(names)
    np.testing.assert_allclose(estimator.predict_proba(X), net(X)[:, np.argsort(names)])
    assert list(estimator.predict(X)) == [names[i] for i in np.argmax(net(X), axis=1)]
    assert check_sklearn(net, estimator) < 1e-12


@pytest.mark.parametrize("names", [["b", "a"], ["a", "b"]])
def test_one_output_is_the_probability_of_the_second_class(names):
    net = randomised(gn.mlp([4, 3, 1], output="sigmoid"))
    net.about = {"classes": names}
    estimator = to_sklearn(net)
    np.testing.assert_allclose(estimator.predict_proba(X)[:, int(names[1] == "b")], net(X)[:, 0])
    assert check_sklearn(net, estimator) < 1e-12


def test_the_estimator_can_be_trained_further_and_nothing_random_is_touched():
    net = randomised(gn.mlp([4, 8, 3], output="softmax"))
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    estimator = to_sklearn(net)
    assert np.random.rand() == expected  # noqa: NPY002
    assert (estimator.n_iter_, estimator.random_state) == (0, None)
    before = estimator.score(X, CLASSES)
    estimator.set_params(learning_rate_init=0.05)
    for _ in range(60):
        estimator.partial_fit(X, CLASSES)
    assert estimator.score(X, CLASSES) > max(before, 0.9)


def test_the_check_sees_other_weights():
    net = randomised(gn.mlp([4, 3, 2], output="softmax"))
    estimator = to_sklearn(net)
    net.load_state_dict({name: 1.1 * a for name, a in net.state_dict().items()})
    assert check_sklearn(net, estimator) > 1e-3


def net_of(*parts, output="softmax", about=None):
    net = gn.Sequential(gn.Linear(4, 4), *parts, gn.Linear(4, 3), output=output)
    net.about = about or {}
    return net.init()


REFUSED = {
    "two activations": (lambda: net_of(gn.ReLU(), gn.Linear(4, 4), gn.Tanh()), "hidden activations relu, tanh cannot"),
    "softmax inside": (lambda: net_of(gn.Softmax()), "hidden activations softmax cannot be expressed"),
    "an activation": (lambda: net_of(gn.GELU()), "GELU cannot be expressed in scikit-learn"),
    "a residual": (lambda: net_of(gn.Residual(gn.Linear(4, 4))), "Residual cannot be expressed in scikit-learn"),
    "a layer": (lambda: net_of(gn.LayerNorm(4)), "LayerNorm cannot be expressed in scikit-learn"),
    "an output": (lambda: net_of(gn.ReLU(), output="softplus"), "the output 'Softplus' of a regressor cannot"),
    "many sigmoids": (
        lambda: net_of(gn.ReLU(), output="sigmoid", about={"classes": ["a", "b", "c"]}),
        "3 sigmoid outputs for as many classes cannot be expressed",
    ),
    "scores": (
        lambda: net_of(gn.ReLU(), output=None, about={"classes": ["a", "b", "c"]}),
        "the output 'identity' of a classifier cannot be expressed",
    ),
    "no linear at the end": (lambda: gn.Sequential(gn.Linear(4, 4), gn.Tanh()).init(), "that ends with 'tanh' cannot"),
    "no linear": (lambda: gn.Sequential(gn.Dropout()).init(), "that ends with 'nothing' cannot be"),
    "no linear at the start": (lambda: net_of().init() and gn.Sequential(gn.Tanh(), gn.Linear(4, 3)).init(), "Tanh()"),
    "other classes": (
        lambda: net_of(gn.ReLU(), about={"classes": ["a", "b"]}),
        "the network has 3 outputs for 2 classes, 2 of them different",
    ),
    "a class twice": (
        lambda: net_of(gn.ReLU(), about={"classes": ["a", "b", "a"]}),
        "the network has 3 outputs for 3 classes, 2 of them different",
    ),
    "classes that are none": (lambda: net_of(about={"classes": 3}), '"classes" must be a list of names, got 3'),
    "a softmax of one": (lambda: gn.mlp([4, 1], output="softmax").init(), "the softmax of one output is always 1"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_scikit_learn_cannot_express_is_named(kind):
    make, message = REFUSED[kind]
    with pytest.raises(OptionError, match=re.escape(message)):
        to_sklearn(make())


def test_what_is_no_fitted_perceptron_is_refused():
    from sklearn.linear_model import LogisticRegression

    for estimator in (LogisticRegression(), theirs.MLPClassifier(), 3):
        name = type(estimator).__name__
        with pytest.raises(OptionError, match=f"takes a fitted MLPClassifier or MLPRegressor, got {name}"):
            from_sklearn(estimator)
    for what in ("net", gn.MLPClassifier()):
        with pytest.raises(OptionError, match="net must be an instance of Layer, got"):
            to_sklearn(what)
