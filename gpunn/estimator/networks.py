"""Which network: the four classes that are announced."""

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpunn.checks import instance, number, whole
from gpunn.device import Array
from gpunn.errors import OptionError
from gpunn.estimator.base import Estimator
from gpunn.estimator.targets import Classifier, Regressor
from gpunn.layers import Dropout, Identity, Layer, Linear, Sequential, Sigmoid, activation

__all__ = ["MLPClassifier", "MLPRegressor", "NetClassifier", "NetRegressor"]

Network = Layer | Callable[[int, int], Layer]


class Drawn:
    """Initial numbers from U(-bound, bound), drawn one layer after another as scikit-learn draws them."""

    def __init__(self, rng: np.random.RandomState, bound: float) -> None:
        self.rng, self.bound = rng, bound

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.uniform(-self.bound, self.bound, shape)


@dataclass(kw_only=True, eq=False, repr=False)
class MLP(Estimator):
    """A multilayer perceptron."""

    hidden_layer_sizes: int | Sequence[int] = field(default=(100,), kw_only=False)
    activation: Any = field(default="relu", kw_only=False)
    dropout: float | Sequence[float] = 0.0

    def _network(self, x: Array, rng: np.random.RandomState) -> Layer:
        given = self.hidden_layer_sizes
        hidden = [
            whole("hidden_layer_sizes", n, at_least=1) for n in (given if isinstance(given, Iterable) else [given])
        ]
        several = isinstance(self.activation, list | tuple)
        kinds = [_named_activation(kind) for kind in (self.activation if several else [self.activation] * len(hidden))]
        rates = self.dropout if isinstance(self.dropout, list | tuple) else [self.dropout] * len(hidden)
        if len(rates) != len(hidden):
            raise OptionError(f"dropout names {len(rates)} rates for {len(hidden)} hidden layers")
        if len(kinds) != len(hidden):
            raise OptionError(f"activation names {len(kinds)} functions for {len(hidden)} hidden layers")
        loss = self._loss()
        sizes, layers = [x.shape[1], *hidden, self._n_out(loss)], list[Layer]()
        for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            function = activation(kinds[min(i, len(hidden) - 1)]) if hidden else Identity()
            numbers = Drawn(rng, math.sqrt((2.0 if isinstance(function, Sigmoid) else 6.0) / (n_in + n_out)))
            layers.append(Linear(n_in, n_out, init=numbers, bias_init=numbers))
            if i < len(hidden):
                layers.append(function)
                if rate := number("dropout", rates[i], at_least=0.0, below=1.0):
                    layers.append(Dropout(rate))
        return Sequential(*layers, output=loss.output)

    @property
    def _linear(self) -> list[Linear]:
        return [layer for _, layer in self.net_.walk() if isinstance(layer, Linear)]

    @property
    def coefs_(self) -> list[Array]:
        """The weights W (n_in, n_out) of each layer: the network's own arrays, on its device."""
        return [layer.W.value for layer in self._linear]

    @property
    def intercepts_(self) -> list[Array]:
        """The biases b (n_out,) of each layer: the network's own arrays, on its device."""
        return [layer.b.value for layer in self._linear if layer.b is not None]

    @property
    def n_layers_(self) -> int:
        """The number of layers, that of the inputs counted."""
        return len(self._linear) + 1


@dataclass(kw_only=True, eq=False, repr=False)
class Net(Estimator):
    """Any network."""

    net: Network = field(kw_only=False)
    _flat_rows = False

    def _network(self, x: Array, rng: np.random.RandomState) -> Layer:
        if isinstance(self.net, Layer):
            return copy.deepcopy(self.net)
        if not callable(self.net):
            raise OptionError(
                f"net must be a network, or a function of (inputs, outputs) that makes one, got {self.net!r}"
            )
        outputs = len(self.classes_) if isinstance(self, Classifier) else self._n_out(self._loss())
        return instance("what net(inputs, outputs) returns", self.net(x.shape[1], outputs), Layer)


@dataclass(kw_only=True, eq=False, repr=False)
class MLPClassifier(Classifier, MLP):
    """A multilayer perceptron that tells classes, with the parameters of scikit-learn's MLPClassifier, and more.

    a_0 = x, a_l = f(a_{l-1} W_l + b_l) for each hidden layer, and the answer is softmax(a W + b), or sigmoid(a W + b)
    for two classes and for labels. Each step makes small, over the N rows of its batch,
    1/N sum_n w_n l_n + alpha/(2N) sum |W|^2: l the loss of a row, w its weight (1 on the average over all rows of the
    fit), W the weights of all layers.

    hidden_layer_sizes      neurons of each hidden layer: a number, or one for each layer; () for none
    activation              "relu", "logistic", "tanh", "identity", any other that gpunn names, a layer such as
                            gn.LeakyReLU(0.1), or a list with one for each hidden layer
    solver                  "adam", "sgd", "adamw", "nadam", "adamax", "rmsprop", "adagrad", "adadelta", "lion", "muon",
                            or an Optimizer, which brings its own learning rate and weight decay; "lbfgs", which
                            needs SciPy and all rows at every step, has no epochs and no use for what is said of them
    alpha                   the L2 penalty
    batch_size              rows of a batch; "auto" is 200, or all rows where they are fewer
    learning_rate           for "sgd": "constant"; "invscaling", learning_rate_init / t^power_t after t rows; or
                            "adaptive", divided by 5 whenever training gets no further, until it is below 1e-6
    learning_rate_init      a number, or a schedule of gn.schedules
    max_iter                epochs at most, of "lbfgs" steps; ConvergenceWarning where they do not suffice
    max_fun                 for "lbfgs": how often it may compute the loss
    shuffle                 whether every epoch has its own order of the rows
    random_state            a number, for runs that repeat themselves; None for another each time
    tol, n_iter_no_change   training ends once n_iter_no_change epochs and one more have passed without the loss, or
                            the score of the rows held out, getting better by tol
    verbose                 whether to print a line for every epoch
    warm_start              whether the next fit goes on from these weights
    momentum, nesterovs_momentum    for "sgd"
    early_stopping, validation_fraction     whether to hold out that share of the rows, of each class alike, go by the
                            accuracy on them, and put back the weights of the best epoch at the end
    beta_1, beta_2, epsilon for "adam" and its kin
    loss                    "log_loss", the cross-entropy; "focal", "hinge", or a loss of gpunn's
    class_weight            weights by class {label: weight}, times which the weights of rows are taken; "balanced"
                            makes all classes count alike
    dropout                 the share of a hidden layer's outputs that is dropped in training, or one for each layer
    callbacks               gn.Callback objects, called while it trains
    device                  "auto", "cpu", "cuda" and so on (see gn.device); "auto" computes where X is, where that is
                            an array of CuPy or PyTorch
    dtype                   "float32" or "float64"; None is that of X

    After fit there are classes_, coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_,
    best_validation_score_, n_iter_, t_, n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_ (of a
    frame) as in scikit-learn, and net_ and history_, the network and the Trainer's history.

    From the same number as random_state come the initial weights and the orders of the rows that scikit-learn has, and
    the steps are its steps, so "sgd", "adam" and "lbfgs" give its weights but for rounding. They part where rows are
    held out, which are chosen in another way; with weights of rows in several batches (see gn.losses.Weighted); and
    from the second `fit` of a warm start or call of `partial_fit` on, which take new orders of the rows where
    scikit-learn takes the first ones again. What it has and this has not: y of one class alone.
    """


@dataclass(kw_only=True, eq=False, repr=False)
class MLPRegressor(Regressor, MLP):
    """A multilayer perceptron that tells numbers, with the parameters of scikit-learn's MLPRegressor, and more.

    `loss` is "squared_error" (half the square; the gradient is that of its sum over the columns of y, loss_ and
    loss_curve_ have its mean: both as in scikit-learn), "absolute_error", "huber", "poisson" for counts, or a loss of
    gpunn's. `early_stopping` goes by R^2. All else is as in MLPClassifier, but for classes. With "lbfgs" and
    several columns the weights are others than scikit-learn's, which searches along its gradient by that mean.
    """


@dataclass(kw_only=True, eq=False, repr=False)
class NetClassifier(Classifier, Net):
    """Any network as an estimator that tells classes; parameters as in MLPClassifier.

        NetClassifier(gn.Sequential(gn.Reshape((8, 8, 1)), gn.Conv2d(1, 16, 3), gn.ReLU(), gn.Flatten(),
                                    gn.Linear(576, 10)), max_iter=20).fit(X, y)

    `net` is a network with an output for each class (one suffices for two classes), or a function of (inputs, outputs)
    that makes one for the data at hand. It is copied, never changed: one that has its weights is trained further from
    these, another is given new ones at every fit. Rows may have any shape that the network takes, (N, height, width,
    channels) say. The trained network is `net_`.
    """


@dataclass(kw_only=True, eq=False, repr=False)
class NetRegressor(Regressor, Net):
    """Any network as an estimator that tells numbers; `net` as in NetClassifier, the rest as in MLPRegressor."""


def _named_activation(given: Any) -> Any:
    return "sigmoid" if given == "logistic" else given if isinstance(given, str) else copy.deepcopy(given)
