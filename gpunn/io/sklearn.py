"""Multilayer perceptrons to and from scikit-learn (the extra "sklearn").

    net = from_sklearn(fitted)              # an MLPClassifier or MLPRegressor of scikit-learn's, as a network
    est = to_sklearn(net)                   # and back: fitted, with predict, predict_proba, score, partial_fit

scikit-learn's perceptron is a chain of linear layers with one activation function for all that are hidden: identity,
logistic, tanh or relu. What comes to the same is put into that form: Standardize and BatchNorm become a part of the
Linear beside them, Dropout does nothing once training is over, and of two softmax outputs one logistic one is made.
"""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from gpunn import layers
from gpunn.checks import instance
from gpunn.device import to_host
from gpunn.errors import OptionError
from gpunn.io.atomic import write_atomic
from gpunn.io.foreign import answer, class_names, difference, kind_of, library, samples, verdict
from gpunn.layers import Layer, Linear, Sequential, activation

__all__ = ["check_sklearn", "from_sklearn", "to_sklearn"]

_TO_SKLEARN: dict[type[Layer], str] = {
    layers.Identity: "identity",
    layers.ReLU: "relu",
    layers.Sigmoid: "logistic",
    layers.Tanh: "tanh",
    layers.Exponential: "exp",
    layers.Softmax: "softmax",
}
_FROM_SKLEARN = {name: kind for kind, name in _TO_SKLEARN.items()}
_HIDDEN = ("identity", "logistic", "tanh", "relu")
_SCALES = (layers.Standardize, layers.BatchNorm)
_NOTHING = (layers.Dropout, layers.GaussianNoise)


def from_sklearn(estimator: Any) -> Sequential:
    """The network of a fitted MLPClassifier or MLPRegressor of scikit-learn's, with its weights, in its precision.

    net(x) is what predict_proba gives, or predict of a regressor as (N, C); of a classifier of two classes it is the
    probability of the second alone, (N, 1). `net.about` has the classes, unless they are yes-or-no labels. Raises
    OptionError for another estimator, or one that is not fitted.
    """
    kind = type(estimator).__name__
    try:
        weights, biases = estimator.coefs_, estimator.intercepts_
        hidden, output = estimator.activation, estimator.out_activation_
    except AttributeError as error:
        raise OptionError(f"from_sklearn takes a fitted MLPClassifier or MLPRegressor, got {kind}: {error}") from None
    if hidden not in _HIDDEN or output not in _FROM_SKLEARN:
        raise OptionError(f"from_sklearn: the activations {hidden!r} and {output!r} of this {kind} are not known")
    parts: list[Layer] = []
    state: dict[str, np.ndarray] = {}
    for i, (W, b) in enumerate(zip(weights, biases, strict=True), start=1):
        parts += [Linear(*W.shape), activation(_FROM_SKLEARN[hidden])]
        state |= {f"linear{i}.W": W, f"linear{i}.b": b}
    net = Sequential(*parts[:-1], output=None if output == "identity" else _FROM_SKLEARN[output])
    net.init(dtype="float32" if weights[0].dtype == np.float32 else "float64").load_state_dict(state)
    classes = getattr(estimator, "classes_", None)
    if classes is not None and (output == "softmax" or weights[-1].shape[1] == 1):  # else labels, which have numbers
        net.about = {"classes": to_host(classes).tolist() if classes.dtype.kind in "biuf" else list(map(str, classes))}
    return net


def to_sklearn(net: Any) -> Any:
    """A fitted MLPClassifier or MLPRegressor of scikit-learn's that answers as a network, or as an estimator of gpunn.

    A classifier where the network's output is a softmax or sigmoid, whose classes are those in `net.about` or else
    numbers from 0; several sigmoid outputs are as many yes-or-no labels. Its weights are float64. It can be trained
    further with partial_fit, from scikit-learn's default settings. Raises OptionError that names a layer it cannot
    express.
    """
    if hasattr(net, "net_"):  # an estimator of gpunn's
        output, classes, labels = net.out_activation_, getattr(net, "classes_", None), getattr(net, "_several", False)
        net = net.net_
    else:
        given = instance("net", net, Layer).output
        output = "identity" if given is None else _TO_SKLEARN.get(type(given), type(given).__name__)
        classes = class_names(net)
        labels = output == "logistic" and classes is None
    weights, biases, hidden = _chain(net)
    sizes, n_in, n_out = [W.shape[1] for W in weights[:-1]], weights[0].shape[0], weights[-1].shape[1]
    if output in ("softmax", "logistic"):
        fitted = _new("MLPClassifier", sizes, hidden)
        if labels and n_out > 1:
            fitted.partial_fit(np.zeros((2, n_in)), np.eye(n_out, dtype=int)[:2], classes=range(n_out))
        else:
            classes, weights[-1], biases[-1] = _sorted_classes(output, classes, weights[-1], biases[-1])
            fitted.partial_fit(np.zeros((1, n_in)), classes[:1], classes=classes)
    elif output in ("identity", "exp") and classes is None:
        fitted = _new("MLPRegressor", sizes, hidden, **({"loss": "poisson"} if output == "exp" else {}))
        fitted.partial_fit(np.zeros((1, n_in)), np.zeros((1, n_out) if n_out > 1 else 1))
    else:
        raise OptionError(
            f"the output {output!r} of a {'classifier' if classes is not None else 'regressor'} cannot be expressed in "
            "scikit-learn: expected softmax or sigmoid for classes, none or exponential for numbers"
        )
    # that one step has made everything scikit-learn keeps; now the numbers are put in their place
    for mine, theirs in ((weights, fitted.coefs_), (biases, fitted.intercepts_)):
        for array, place in zip(mine, theirs, strict=True):
            place[...] = array
    del fitted._optimizer
    fitted.n_iter_ = fitted.t_ = 0
    fitted.loss_curve_, fitted.loss_, fitted.best_loss_ = [], math.nan, math.inf
    return fitted.set_params(random_state=None)


def _sorted_classes(output: str, classes: Any, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
    """The classes in order, as scikit-learn has them, and the last layer for them: with one output for two classes."""
    n_out = W.shape[1]
    classes = np.arange(max(n_out, 2)) if classes is None else np.asarray(classes)
    different = len(set(classes.tolist()))
    if not len(classes) == different == max(n_out, 2):
        raise OptionError(f"the network has {n_out} outputs for {len(classes)} classes, {different} of them different")
    if output == "logistic" and n_out > 1:
        raise OptionError(
            f"{n_out} sigmoid outputs for as many classes cannot be expressed in scikit-learn, which takes them for "
            "labels that may all be right: train with a softmax"
        )
    if output == "softmax" and n_out == 1:
        raise OptionError("the softmax of one output is always 1: give the network a sigmoid, or two outputs")
    order = np.argsort(classes)
    if n_out == 1:
        sign = -1.0 if order[0] else 1.0
        return classes[order], W * sign, b * sign
    W, b = W[:, order], b[order]
    if n_out == 2:  # softmax(z)_2 = sigmoid(z_2 - z_1)
        W, b = np.diff(W), np.diff(b)
    return classes[order], W, b


def _new(name: str, sizes: list[int], hidden: str, **more: Any) -> Any:
    kind = getattr(library("sklearn.neural_network", "gpunn[sklearn]"), name)
    try:
        return kind(hidden_layer_sizes=tuple(sizes), activation=hidden, random_state=0, **more)
    except TypeError as error:  # "poisson" came with version 1.7
        raise OptionError(f"this version of scikit-learn cannot express the network: {error}; update it") from None


def check_sklearn(net: Layer, fitted: Any) -> float:
    """The largest difference between net(x) and the answers of `to_sklearn(net)`, for 7 random inputs.

    Of numbers above 1, the difference as a share of them.
    """
    x = samples(net, (fitted.n_features_in_,), 7)
    y, expected = fitted.predict_proba(x) if hasattr(fitted, "predict_proba") else fitted.predict(x), answer(net, x)
    if hasattr(fitted, "classes_") and (names := class_names(net)):
        if expected.shape[1] == 1:
            expected = np.concatenate([1.0 - expected, expected], axis=1)
        expected = expected[:, np.argsort(names)]
    elif hasattr(fitted, "classes_") and expected.shape[1] == 1:
        y = y[:, 1:]
    return difference(y.reshape(expected.shape), expected)


def export(net: Layer, path: Path, input_shape: tuple[int, ...] | None) -> list[str]:
    """What `gpunn export --to sklearn` does."""
    joblib, fitted = library("joblib", "gpunn[sklearn]"), to_sklearn(net)
    file = io.BytesIO()
    joblib.dump(fitted, file)
    write_atomic(path, file.getvalue())
    program = f"scikit-learn {library('sklearn', 'gpunn[sklearn]').__version__}"
    return [
        f"         {fitted!r}",
        f"read it with joblib.load(FILE) under {program}; it is a pickle, and reading one runs what is in it: open "
        "none from people you do not trust",
        verdict(program, check_sklearn(net, fitted)),
    ]


def _chain(net: Layer) -> tuple[list[np.ndarray], list[np.ndarray], str]:
    """(weights, biases, the activation of all hidden layers) of a network, in float64."""
    weights: list[np.ndarray] = []
    biases: list[np.ndarray] = []
    functions: list[str] = []
    # y = x scale W + (shift W + b): what has come since the last activation; W is None before the first Linear
    W: np.ndarray | None = None
    scale, shift = np.ones(1), np.zeros(1)
    for layer in _in_a_row(net):
        if isinstance(layer, Linear):
            V = _numbers(layer.W)
            b = _numbers(layer.b) if layer.b else np.zeros(layer.n_out)
            new_shift = np.broadcast_to(shift, len(V)) @ V + b
            W = scale[:, None] * V if W is None else (W * scale) @ V
            scale, shift = np.ones(1), new_shift
        elif isinstance(layer, layers.Standardize):
            factor, centre = 1.0 / _numbers(layer.std), _numbers(layer.mean)
            scale, shift = scale * factor, (shift - centre) * factor
        elif isinstance(layer, layers.BatchNorm):
            factor = _numbers(layer.gamma) / np.sqrt(_numbers(layer.variance) + layer.epsilon)
            scale, shift = scale * factor, (shift - _numbers(layer.mean)) * factor + _numbers(layer.beta)
        else:
            functions.append(_TO_SKLEARN[type(layer)])
            if W is None:
                raise OptionError(f"{layer!r} before the first Linear cannot be expressed in scikit-learn")
            weights.append(W * scale)
            biases.append(shift)
            W, scale, shift = None, np.ones(1), np.zeros(1)
    if W is None:
        last = functions[-1] if functions else "nothing"
        raise OptionError(f"a network that ends with {last!r} cannot be expressed in scikit-learn: end with a Linear")
    weights.append(W * scale)
    biases.append(shift)
    if len(set(functions)) > 1 or (functions and functions[0] not in _HIDDEN):
        raise OptionError(
            f"hidden activations {', '.join(functions)} cannot be expressed in scikit-learn: it has one of "
            f"{', '.join(_HIDDEN)} for all hidden layers"
        )
    return weights, biases, functions[0] if functions else "relu"


def _numbers(entry: Any) -> np.ndarray:
    return to_host(entry.value).astype(np.float64)


def _in_a_row(net: Layer) -> list[Layer]:
    """The layers of a network, those of Sequentials among them, without those that do nothing at inference."""
    known = {Sequential, Linear, layers.Flatten, *_SCALES, *_NOTHING, *_TO_SKLEARN}
    kind = kind_of(net, known, "scikit-learn")
    if isinstance(net, Sequential):
        return [layer for part in net.layers for layer in _in_a_row(part)]
    return [] if kind in (*_NOTHING, layers.Flatten) else [net]
