"""The face that scikit-learn knows: estimators with `fit`, `predict` and `score`.

    from gpunn import MLPClassifier                     # in place of: from sklearn.neural_network import MLPClassifier

    clf = MLPClassifier((100, 50), dropout=0.2, early_stopping=True, random_state=0).fit(X, y)
    clf.predict_proba(X_test); clf.score(X_test, y_test)

    MLPClassifier, MLPRegressor     a multilayer perceptron, with the names of scikit-learn's wherever it has one
    NetClassifier, NetRegressor     any other network of gpunn's layers

They work without scikit-learn, and with it (the extra `sklearn`) in its pipelines, searches and cross-validation. It is
never imported from here: what it asks for is found in `sys.modules` once the program has imported it.

X (N, D) may be an array of any library, a frame of pandas or polars, a list, or a scipy.sparse matrix. A sparse one is
made dense as a whole when it comes in, N D numbers of 8 bytes (4 of float32): where that does not fit into memory, give
`partial_fit` and `predict` some rows at a time. y holds labels of any kind (N,), 0s and 1s of L labels (N, L), or for
regression numbers (N,) or (N, C). Answers come in the library and on the device of X, as NumPy arrays for all that is
no array; labels that are texts are always NumPy's.

Numbers are computed in float32 where X is of it and in float64 otherwise, as scikit-learn does; `dtype` decides
otherwise. Errors are those of `gpunn.errors`; those about data and parameters are ValueErrors or TypeErrors, too.
"""

import copy
import inspect
import itertools
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import numpy as np

from gpunn import optim
from gpunn.checks import instance, nearest, number, precision, whole
from gpunn.device import Array, Device, device, device_of, namespace, to_host
from gpunn.errors import DataError, DtypeError, LossMismatch, NotInitialised, OptionError, ShapeError
from gpunn.layers import Dropout, Identity, Layer, Linear, Sequential, Sigmoid, activation
from gpunn.losses import (
    FocalLoss,
    Hinge,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    PoissonLoss,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    Weighted,
)
from gpunn.optim import SGD, Adam, Optimizer
from gpunn.rng import generator
from gpunn.schedules import Schedule
from gpunn.train import Callback, History, Trainer
from gpunn.train.diagnose import refuse_gaps
from gpunn.train.trainer import Mean

__all__ = ["MLPClassifier", "MLPRegressor", "NetClassifier", "NetRegressor"]

Network = Layer | Callable[[int, int], Layer]


class HalfSquaredError(MeanSquaredError):
    """L = 1/(2N) sum_n |z_n - y_n|^2; gradient (z - y) / N. What scikit-learn calls the squared error."""

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        loss, r = super().forward(z, y)
        return loss * (0.5 * z.shape[1]), r

    def backward(self, cache: Any) -> Array:
        return cache / cache.shape[0]

    def each(self, z: Array, y: Array) -> Array:
        return super().each(z, y) * (0.5 * z.shape[1])


_SOLVERS: dict[str, type[Optimizer]] = {
    name.lower(): getattr(optim, name) for name in optim.__all__ if name != "Optimizer"
}
_LOSSES_ON_CLASSES: dict[str, type[Loss]] = {"focal": FocalLoss, "hinge": Hinge}  # and "log_loss", which has two forms
_LOSSES_ON_NUMBERS: dict[str, type[Loss]] = {
    "squared_error": HalfSquaredError,
    "absolute_error": MeanAbsoluteError,
    "huber": Huber,
    "poisson": PoissonLoss,
}
_SKLEARN_NAMES = {"sigmoid": "logistic", "exponential": "exp"}


class NotFitted(NotInitialised, ValueError, AttributeError):
    """An estimator that has not been fitted. Where scikit-learn is in use it is its NotFittedError, too."""


# ---------------------------------------------------------------------------------------------------------------------
# What all estimators can do


class _Estimator:
    """Parameters by name, and fitting; what a y means is for _Classifier and _Regressor."""

    # parameters, whichever the estimator has
    alpha: float
    batch_size: int | str
    callbacks: Any
    device: str | Device
    dtype: str | None
    early_stopping: bool
    learning_rate: str
    learning_rate_init: float | Schedule
    loss: str | Loss
    max_iter: int
    n_iter_no_change: float
    power_t: float
    random_state: Any
    solver: str | Optimizer
    tol: float
    warm_start: bool
    # what a fit leaves
    _trainer: Trainer
    n_features_in_: int
    n_iter_: int
    n_outputs_: int
    t_: int
    loss_: float
    loss_curve_: list[float]
    best_loss_: Any  # None where it goes by the score of rows held out, as those two are where it does not
    best_validation_score_: Any
    validation_scores_: Any
    _best_weights: dict[str, Array] | None
    _no_better: int

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name. `deep` is scikit-learn's and changes nothing: none of them has parameters itself."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Change parameters by name, for the next fit; returns the estimator. Raises OptionError for another name."""
        known = inspect.signature(type(self)).parameters
        for name in params:
            if name not in known:
                raise OptionError(
                    f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(known)}{nearest(name, known)}"
                )
        vars(self).update(params)
        return self

    def __repr__(self) -> str:
        """The parameters that are not as by default."""
        parameters = inspect.signature(type(self)).parameters.items()
        changed = {name: getattr(self, name) for name, p in parameters if repr(getattr(self, name)) != repr(p.default)}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Keep what a constructor was given, each argument under its own name; it is looked at by fit."""
        vars(self).update({name: value for name, value in arguments.items() if name not in ("self", "__class__")})

    # --- fitting

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X (N, D) and y until the loss, or the score of the rows held out, no longer gets better.

        `sample_weight` (N,) says for how much each row counts: the loss is the weighted mean; rows of weight 0 are left
        out. With `warm_start` a second fit goes on from the weights of the first. Raises DataError, ShapeError or
        DtypeError for data that does not fit, OptionError for a parameter, Diverged where the loss became infinite.
        """
        go_on = bool(self.warm_start) and self.__sklearn_is_fitted__()
        epochs, first = whole("max_iter", self.max_iter, at_least=1), not go_on
        x, y, w = self._data(X, y, sample_weight, first)
        seed = _seed(self.random_state)
        held_out = None
        if self.early_stopping:
            rest, part = self._held_out(y, seed)
            (x, y, w), held_out = _rows((x, y, w), rest), _rows((x, y, w), part)
        rng = _legacy(seed + (self.t_ if go_on else 0))  # if it goes on, with other orders of the rows than before
        if go_on:
            self._begin_again(x, self._trainer.net, seed + self.t_)
        else:
            self._begin(x, seed, rng)
        progress = _Progress(self, held_out)
        try:
            self._run(progress, x, y, w, epochs, rng)
        except KeyboardInterrupt:
            _warn("UserWarning", f"training was interrupted after {self.n_iter_} epochs; the weights are kept")
        else:
            if not self._trainer.stop:
                _warn(
                    "ConvergenceWarning",
                    f"max_iter={epochs} epochs were reached before training had converged: allow more, or a larger tol",
                )
        if self._best_weights is not None:  # of the rows held out
            self.net_.load_state_dict(self._best_weights)
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        if self.early_stopping:
            raise OptionError("partial_fit does not support early_stopping=True: there is no telling what to hold out")
        first = not self.__sklearn_is_fitted__()
        x, y, w = self._data(X, y, sample_weight, first)
        if first:
            seed = _seed(self.random_state)
            self._begin(x, seed, rng := _legacy(seed))
        else:
            rng = _legacy(self._trainer.seed + self.t_)
        self._run(_Progress(self), x, y, w, 1, rng)
        return self

    def _begin(self, x: Array, seed: int, rng: np.random.RandomState) -> None:
        """A new network, and nothing known of its training yet."""
        self.t_, self.loss_curve_ = 0, []
        self.best_loss_ = self.best_validation_score_ = self.validation_scores_ = self._best_weights = None
        self._no_better = 0  # epochs since the last one that was better
        self._begin_again(x, self._network(x, rng), seed)

    def _begin_again(self, x: Array, net: Layer, seed: int) -> None:
        """A new Trainer for the network."""
        where, dtype = self._place(x)
        if net.initialised:
            net.to(where, dtype)
        else:
            net.init(seed, device=where, dtype=dtype)
        n_out = net.infer(where.zeros((1, *x.shape[1:]), dtype)).shape[-1]
        loss = self._loss(n_out)
        self._check_outputs(n_out, loss)
        self._trainer = Trainer(net, loss, self._optimizer(), device=where, seed=seed)
        self._came_from = device_of(x).name
        self.n_outputs_ = n_out

    def _run(self, progress: "_Progress", x: Array, y: Any, w: Any, epochs: int, rng: np.random.RandomState) -> None:
        trainer, n = self._trainer, x.shape[0]
        self.n_iter_ = 0
        size = 200 if self.batch_size == "auto" else whole("batch_size", self.batch_size, at_least=1)
        size = min(size, n)
        if isinstance(self.solver, str):  # else it has its own
            progress.alpha = number("alpha", self.alpha, at_least=0.0) / (1.0 if w is None else float(np.mean(w)))
        loss = trainer.loss.loss if isinstance(trainer.loss, Weighted) else trainer.loss
        trainer.loss = loss if w is None else Weighted(loss)
        trainer.batch, trainer.losses, trainer.seconds = 0, Mean(), 0.0  # an epoch that was broken off is not taken up
        given = self.callbacks
        trainer.fit(
            (x, y if w is None else (y, w)),
            epochs=epochs,
            batch_size=size,
            shuffle=_Shuffled(rng) if self.shuffle else False,
            verbose=bool(self.verbose),
            callbacks=[progress, *(given if isinstance(given, Iterable) else () if given is None else (given,))],
        )

    def _optimizer(self) -> Optimizer:
        solver = self.solver
        if self.learning_rate not in ("constant", "invscaling", "adaptive"):
            raise OptionError(
                f"learning_rate {self.learning_rate!r} is not known; expected constant, invscaling or adaptive. For "
                "another way to change it give learning_rate_init a schedule of gn.schedules"
            )
        if isinstance(solver, Optimizer | type):
            return copy.deepcopy(instance("solver", solver, Optimizer))
        if solver == "lbfgs":
            raise OptionError(
                "solver 'lbfgs' takes all rows at every step, and gpunn trains in batches: use 'adam' or 'sgd', or "
                "scikit-learn's own estimator"
            )
        if not isinstance(solver, str) or solver not in _SOLVERS:
            known = f"{', '.join(_SOLVERS)}, or an Optimizer"
            raise OptionError(f"solver {solver!r} is not known; expected {known}{nearest(solver, _SOLVERS)}")
        kind, lr = _SOLVERS[solver], self.learning_rate_init
        options: dict[str, Any] = {"lr": lr if callable(lr) else number("learning_rate_init", lr, above=0.0)}
        if kind is SGD:
            options["momentum"] = self.momentum
            options["nesterov"] = bool(self.nesterovs_momentum and self.momentum)
        elif issubclass(kind, Adam):
            options |= {"beta1": self.beta_1, "beta2": self.beta_2, "epsilon": self.epsilon}
        return kind(**options)

    def _place(self, x: Array) -> tuple[Device, str]:
        """The device and the data type to compute in."""
        where = device_of(x) if self.device in (None, "auto") and not isinstance(x, np.ndarray) else device(self.device)
        own = "float32" if x.dtype == device_of(x).dtype("float32") else "float64"
        return where, own if self.dtype is None else precision(self.dtype)

    def _data(self, X: Any, y: Any, sample_weight: Any, first: bool) -> tuple[Array, np.ndarray, np.ndarray | None]:
        """Inputs, targets as the losses take them, and weights, or None for all alike; rows of weight 0 left out."""
        if y is None:
            raise DataError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        x, y = self._inputs(X, first), _on_host(y)
        refuse_gaps(x)  # here, where its rows have the numbers that they have outside
        if y.shape[:1] != (x.shape[0],):
            raise ShapeError(f"X has {x.shape[0]} rows and y is of shape {y.shape}: each row needs one")
        w = _row_weights(sample_weight, x.shape[0])
        if w is not None and not w.all():
            x, y, w = _rows((x, y, w), np.flatnonzero(w))
        y = self._encode(y, first)
        w = self._with_class_weights(y, w)
        return x, y, w

    def _inputs(self, X: Any, first: bool) -> Array:
        """X as an array of floats, with as many features as the first had."""
        name = type(self).__name__
        self._check_names(_feature_names(X), first)
        x = _floats(X)
        if len(x.shape) < 2 or (len(x.shape) > 2 and self._flat_rows):
            raise ShapeError(
                f"Expected 2D array, got {len(x.shape)}D array of shape {tuple(x.shape)} instead. Reshape your data: "
                "X.reshape(-1, 1) where it is one feature, X.reshape(1, -1) where it is one row"
            )
        for size, what in ((x.shape[0], "sample(s)"), (math.prod(x.shape[1:]), "feature(s)")):
            if size == 0:
                raise DataError(f"X has 0 {what} (shape={tuple(x.shape)}) while a minimum of 1 is required.")
        if first:
            self.n_features_in_ = x.shape[1]
        elif x.shape[1] != self.n_features_in_:
            raise ShapeError(
                f"X has {x.shape[1]} features, but {name} is expecting {self.n_features_in_} features as input"
            )
        return x

    _unit = 1.0  # of the loss that is reported, and that tol is held against
    _flat_rows = True  # whether a row must be a row of numbers, not an image say

    def _check_names(self, names: np.ndarray | None, first: bool) -> None:
        if first:
            vars(self).pop("feature_names_in_", None)
            if names is not None:
                self.feature_names_in_ = names
            return
        mine, me = getattr(self, "feature_names_in_", None), type(self).__name__
        if mine is None and names is not None:
            _warn("UserWarning", f"X has feature names, but {me} was fitted without feature names")
        elif mine is not None and names is None:
            _warn("UserWarning", f"X does not have valid feature names, but {me} was fitted with feature names")
        elif mine is not None and names is not None and list(mine) != list(names):
            wrong = [f"{n!r} was not there" for n in names if n not in mine]
            wrong += [f"{n!r} is missing" for n in mine if n not in names]
            raise DataError(
                "The feature names should match those that were passed during fit: "
                f"{', '.join(wrong) or f'they are in another order, expected {list(mine)}'}"
            )

    def _held_out(self, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the rows to train on and of those to hold out; of classes the same share of each."""
        share, n = number("validation_fraction", self.validation_fraction, above=0.0, below=1.0), y.shape[0]
        size = math.ceil(share * n)
        if size < 2 or size >= n:
            raise DataError(
                f"validation_fraction={share:g} of {n} rows holds out {size}: choose one that leaves 2 or more there "
                "and at least one to train on"
            )
        rng = generator(seed, "held out")
        order = rng.permutation(n)
        if y.ndim == 1:
            order = order[np.argsort(y[order], kind="stable")]
        chosen = np.floor((np.arange(size) + rng.random()) * n / size).astype(np.int64)  # one of every n / size
        return np.sort(np.delete(order, chosen)), np.sort(order[chosen])

    # --- what has been fitted

    def __sklearn_is_fitted__(self) -> bool:
        return "_trainer" in vars(self)

    def _fitted(self) -> Trainer:
        if not self.__sklearn_is_fitted__():
            theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
            error = NotFitted if theirs is None else type("NotFittedError", (NotFitted, theirs), {})
            raise error(f"this {type(self).__name__} has not been fitted yet: call fit(X, y) first")
        return self._trainer

    @property
    def net_(self) -> Layer:
        """The trained network."""
        return self._fitted().net

    @property
    def history_(self) -> History:
        """The Trainer's history: loss without the penalty, learning rate and seconds of every epoch."""
        return self._fitted().history

    @property
    def out_activation_(self) -> str:
        """What turns the network's numbers into its answer: "softmax", "logistic", "identity" or "exp"."""
        trainer = self._fitted()
        output = trainer.net.output
        name = trainer.loss.output if output is None else type(output).__name__.lower()
        return _SKLEARN_NAMES.get(name, name)

    def _outputs(self, X: Any, method: str) -> Array:
        """What the network says to X, with its output function applied: (N, C), of the library and device of X."""
        trainer = self._fitted()
        x = self._inputs(X, first=False)
        sklearn, here = sys.modules.get("sklearn"), device_of(x).name
        if sklearn is not None and sklearn.get_config()["array_api_dispatch"] and here != self._came_from:
            raise DataError(  # a rule of scikit-learn's; without its dispatch any array will do
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace and the same device as "
                f"those passed to fit(): they are on {here} and those were on {self._came_from}"
            )
        return trainer.predict(x)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=True),
            array_api_support=True,
            input_tags=InputTags(sparse=True, three_d_array=not self._flat_rows),
        )

    # --- for _Classifier and _Regressor, _MLP and _Net

    shuffle: bool
    verbose: bool
    momentum: float
    nesterovs_momentum: bool
    beta_1: float
    beta_2: float
    epsilon: float
    validation_fraction: float

    def _encode(self, y: np.ndarray, first: bool) -> np.ndarray:
        raise NotImplementedError

    def _with_class_weights(self, y: np.ndarray, w: np.ndarray | None) -> np.ndarray | None:
        return w

    def _loss(self, n_out: int | None = None) -> Loss:
        raise NotImplementedError

    def _check_outputs(self, n_out: int, loss: Loss) -> None:
        raise NotImplementedError

    def _network(self, x: Array, rng: np.random.RandomState) -> Layer:
        raise NotImplementedError

    def _score(self, outputs: Array, y: np.ndarray, w: np.ndarray | None) -> float:
        raise NotImplementedError


class _Progress(Callback):
    """Notes of every epoch what scikit-learn notes, and stops training where it would.

    The loss of an epoch is that of its batches and the penalty of the weights that each began with: the very sum whose
    gradient the steps follow.
    """

    def __init__(self, estimator: _Estimator, held_out: Any = None) -> None:
        self.estimator, self.held_out = estimator, held_out
        self.alpha: float | None = None  # alpha over the mean weight of a row; None where the optimiser has its own
        self.epsilon = number("epsilon", estimator.epsilon, above=0.0)
        self.tol = number("tol", estimator.tol, at_least=0.0)
        patience = estimator.n_iter_no_change
        self.patience = patience if patience == math.inf else whole("n_iter_no_change", patience, at_least=1)
        e = estimator  # what was best in fits before this one counts, where they went by the same figure
        if held_out is None:
            e.best_loss_ = math.inf if e.best_loss_ is None else e.best_loss_
            e.best_validation_score_ = e.validation_scores_ = e._best_weights = None
        else:
            e.best_loss_ = None
            if e.validation_scores_ is None:
                e.best_validation_score_, e.validation_scores_ = -math.inf, []

    def on_start(self, trainer: Trainer, epochs: int, batches: int) -> None:
        self.rows, self.size = trainer.order["rows"], trainer.order["batch_size"]
        self.penalty: Array = 0.0
        self._look_ahead(trainer)

    def on_step(self, trainer: Trainer) -> None:
        self.penalty += self.next
        self._look_ahead(trainer)

    def _look_ahead(self, trainer: Trainer) -> None:
        """The penalty of the batch that comes next, and the weight decay that is its gradient."""
        first = trainer.batch * self.size
        n = min(self.size, self.rows - first if first < self.rows else self.rows)  # at the end of an epoch: of the next
        if self.alpha is not None:
            trainer.optimizer.weight_decay = self.alpha / n
        if self.estimator.solver == "adam":  # scikit-learn adds epsilon to the root of v before that is corrected
            optimizer = instance("the optimiser", trainer.optimizer, Adam)
            optimizer.epsilon = self.epsilon / math.sqrt(1.0 - optimizer.beta2 ** (trainer.steps + 1))
        store, rate = trainer.net.store, trainer.optimizer.weight_decay
        w = store.values[store.decaying]
        self.next = 0.5 * rate * n / self.rows * store.device.xp.vecdot(w, w) if rate else 0.0  # no GPU waits for it

    def on_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        e = self.estimator
        e.n_iter_ += 1
        e.t_ += trainer.order["rows"]
        e.loss_ = row["loss"] * e._unit + float(self.penalty)
        self.penalty = 0.0
        e.loss_curve_.append(e.loss_)
        better = self._by_loss() if self.held_out is None else self._by_score(trainer, row)
        e._no_better = 0 if better else e._no_better + 1
        by_name = e.solver == "sgd"  # as in scikit-learn: for others `learning_rate` says nothing
        if by_name and e.learning_rate == "invscaling":
            self._scale(trainer, (e.t_ + 1) ** -number("power_t", e.power_t, at_least=0.0))
        if e._no_better > self.patience:
            if by_name and e.learning_rate == "adaptive" and row["lr"] > 1e-6:
                self._scale(trainer, trainer.optimizer.scale / 5.0)
                e._no_better = 0
            else:
                trainer.stop = True

    def _scale(self, trainer: Trainer, scale: float) -> None:
        """Change the learning rate. scikit-learn's velocity is eta v and keeps its length where eta becomes less."""
        if "v" in trainer.state:
            trainer.state["v"] *= trainer.optimizer.scale / scale
        trainer.optimizer.scale = scale

    def _by_loss(self) -> bool:
        e = self.estimator
        better = e.loss_ <= e.best_loss_ - self.tol
        e.best_loss_ = min(e.best_loss_, e.loss_)
        return better

    def _by_score(self, trainer: Trainer, row: dict[str, float]) -> bool:
        e = self.estimator
        x, y, w = self.held_out
        score = e._score(trainer.predict(x), y, w)
        row["valid_accuracy" if trainer.loss.classifies else "valid_r2"] = score
        e.validation_scores_.append(score)
        better = score >= e.best_validation_score_ + self.tol
        if score > e.best_validation_score_:
            e.best_validation_score_, e._best_weights = score, trainer.net.state_dict()
        return better


# ---------------------------------------------------------------------------------------------------------------------
# What y means


class _Classifier(_Estimator):
    class_weight: Any
    classes_: np.ndarray

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch on these rows. The first call needs `classes`, all labels there will ever be.

        The optimiser keeps what it has accumulated from call to call. For yes-or-no answers y (N, L) the classes are
        the numbers 0 to L - 1. Raises as `fit` does.
        """
        if not self.__sklearn_is_fitted__():
            if classes is None:
                raise DataError("the first call of partial_fit needs classes=, all labels that there will be")
            self.classes_ = _unique(_on_host(classes))
            self._several = _on_host(y).ndim == 2 and _on_host(y).shape[1] > 1
        elif classes is not None and list(_unique(_on_host(classes))) != list(self.classes_):
            raise DataError(f"classes={classes!r} are not those of the first call of partial_fit, {self.classes_}")
        if isinstance(self.class_weight, str):
            raise OptionError("partial_fit does not see all rows, as class_weight='balanced' must: give the weights")
        self._classes_are_known = True
        try:
            return self._partial_fit(X, y, sample_weight)
        finally:
            del self._classes_are_known

    def predict(self, X: Any) -> Any:
        """The likeliest class of each row (N,), or 0 and 1 for each label (N, L)."""
        codes = self._codes(self._outputs(X, "predict"))
        if self._several:
            return codes
        if self.classes_.dtype.kind in "biuf":
            return namespace(codes).take(device_of(codes).asarray(self.classes_), codes, axis=0)
        return self.classes_[to_host(codes)]

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class (N, C), in the order of `classes_`, or of each label (N, L).

        Of several outputs that are each a yes-or-no answer, as of SigmoidCrossEntropy with more than two classes, the
        shares are given. Raises LossMismatch for a loss whose answers are no probabilities, such as Hinge.
        """
        return self._probabilities(X, "predict_proba")

    def predict_log_proba(self, X: Any) -> Any:
        """The logarithms of the probabilities; of one that is 0 that of the smallest number of its data type."""
        p = self._probabilities(X, "predict_log_proba")
        xp = namespace(p)
        return xp.log(xp.maximum(p, float(xp.finfo(p.dtype).smallest_normal)))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of rows whose class was found; with several labels a row counts where all of them are right."""
        y, codes = _on_host(y), to_host(self._codes(self._outputs(X, "score")))
        if not self._several:
            y, codes = y[:, 0] if y.shape[1:] == (1,) else y, self.classes_[codes]
        _same_shape(y, codes)
        return _share_right(y, codes, _row_weights(sample_weight, codes.shape[0]))

    def _score(self, outputs: Array, y: np.ndarray, w: np.ndarray | None) -> float:
        return _share_right(y, to_host(self._codes(outputs)), w)

    def _codes(self, outputs: Array) -> Array:
        """Numbers of classes (N,), or 0 and 1 for each label (N, L)."""
        xp, half = namespace(outputs), 0.0 if self._trainer.loss.output == "identity" else 0.5
        if self._several:
            return xp.astype(outputs > half, xp.int64)
        if outputs.shape[1] == 1:
            return xp.astype(outputs[:, 0] > half, xp.int64)
        return xp.argmax(outputs, axis=1)

    def _probabilities(self, X: Any, method: str) -> Array:
        p = self._outputs(X, method)
        loss, xp = self._trainer.loss, namespace(p)
        if loss.output == "identity":
            raise LossMismatch(
                f"the loss {loss!r} gives scores, no probabilities: fit with loss='log_loss' to have them"
            )
        if p.shape[1] == 1 and not self._several:
            return xp.concat([1.0 - p, p], axis=1)
        if loss.output == "sigmoid" and not self._several:
            tiny = float(xp.finfo(p.dtype).smallest_normal)
            return p / xp.maximum(xp.sum(p, axis=1, keepdims=True), tiny)
        return p

    def _encode(self, y: np.ndarray, first: bool) -> np.ndarray:
        if y.ndim == 2 and y.shape[1] == 1:
            _warn("DataConversionWarning", "A column-vector y was passed when a 1d array was expected: use y[:, 0]")
            y = y[:, 0]
        several = y.ndim == 2
        if y.ndim > 2:
            raise ShapeError(f"y must be of shape (N,), or (N, L) of 0 and 1, got {y.shape}")
        if y.dtype.kind == "f":
            if not np.isfinite(y).all():
                raise DataError("Input y contains NaN or infinity: remove those rows, or fill them in")
            if (y != np.floor(y)).any():
                raise DataError(
                    "Unknown label type: continuous. y holds fractions, no labels: use the regressor for them"
                )
        if several and not np.isin(y, (0, 1)).all():
            raise DataError(
                f"Unknown label type: y of shape {y.shape} must hold 0 and 1 alone, one column for each label"
            )
        known = hasattr(self, "_classes_are_known")
        if first and not known:
            self.classes_ = np.arange(y.shape[1]) if several else _unique(y)
            self._several = several
        if len(self.classes_) < 2:
            raise DataError(f"y has one class, {self.classes_.tolist()[0]!r}: a classifier needs two classes or more")
        if several != self._several or (several and y.shape[1] != len(self.classes_)):
            raise ShapeError(f"y is of shape {y.shape}, unlike before: there were {len(self.classes_)} classes")
        if several:
            return y.astype(np.int64)
        if not first and not known and list(_unique(y)) != list(self.classes_):
            raise DataError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit: there were "
                f"{self.classes_}, now there are {_unique(y)}"
            )
        wrong = ~np.isin(y, self.classes_)
        if wrong.any():
            raise DataError(f"y has the class {y[wrong].tolist()[0]!r}, which is not among the classes {self.classes_}")
        return np.searchsorted(self.classes_, y).astype(np.int64)

    def _with_class_weights(self, y: np.ndarray, w: np.ndarray | None) -> np.ndarray | None:
        given = self.class_weight
        if given is None:
            return w
        if self._several:
            raise OptionError("class_weight is for classes; of several labels a row each give sample_weight instead")
        n = len(self.classes_)
        w = np.ones(y.shape[0]) if w is None else w
        if isinstance(given, str) and given == "balanced":
            of_class = np.sum(w) / (n * np.maximum(np.bincount(y, weights=w, minlength=n), 1e-300))
        elif isinstance(given, dict):
            labels = self.classes_.tolist()
            for label, weight in given.items():
                number(f"class_weight of {label!r}", weight, at_least=0.0)
                if label not in labels:
                    raise OptionError(f"class_weight names {label!r}, which is not among the classes {labels}")
            of_class = np.array([float(given.get(label, 1.0)) for label in labels])
        else:
            raise OptionError(f"class_weight {given!r} is not known; expected 'balanced', a dict of weights, or None")
        w = w * of_class[y]
        if not w.any():
            raise DataError("class_weight and sample_weight together are zero for every row")
        return w

    def _loss(self, n_out: int | None = None) -> Loss:
        given = self.loss
        if isinstance(given, str) and given == "log_loss":
            yes_or_no = self._several or (len(self.classes_) == 2 and n_out in (None, 1))
            return SigmoidCrossEntropy() if yes_or_no else SoftmaxCrossEntropy()
        loss = _named_loss(given, _LOSSES_ON_CLASSES, "log_loss")
        if not loss.classifies:
            raise OptionError(f"loss {loss!r} is for numbers: a classifier needs one for classes, such as log_loss")
        return loss

    def _n_out(self, loss: Loss) -> int:
        """How many outputs a network needs."""
        return 1 if len(self.classes_) == 2 and not self._several and loss.output != "softmax" else len(self.classes_)

    def _check_outputs(self, n_out: int, loss: Loss) -> None:
        if n_out not in (len(self.classes_), self._n_out(loss)):
            raise ShapeError(f"the network has {n_out} outputs, and y has {len(self.classes_)} classes")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags

        tags = super().__sklearn_tags__()
        tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags(multi_label=True)
        return tags


class _Regressor(_Estimator):
    _columns: int | None  # how many y has; None where it has one axis

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch on these rows; the optimiser keeps what it has accumulated. Raises as `fit` does."""
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any) -> Any:
        """The number for each row (N,), or the numbers (N, C)."""
        z = self._outputs(X, "predict")
        return z[:, 0] if self._columns is None else z

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R^2 = 1 - sum (y - p)^2 / sum (y - mean y)^2, the mean of it over the columns of y."""
        p, y = self._outputs(X, "score"), _numbers_of(_on_host(y))
        y = y[:, None] if y.ndim == 1 else y
        _same_shape(y, p)
        return self._score(p, y, _row_weights(sample_weight, p.shape[0]))

    def _score(self, outputs: Array, y: np.ndarray, w: np.ndarray | None) -> float:
        p = to_host(outputs).astype(np.float64)
        rest = np.average((y - p) ** 2, axis=0, weights=w)
        spread = np.average((y - np.average(y, axis=0, weights=w)) ** 2, axis=0, weights=w)
        r2 = 1.0 - rest / np.where(spread > 0.0, spread, 1.0)
        return float(np.mean(np.where(spread > 0.0, r2, rest == 0.0)))  # as scikit-learn has it where y is constant

    def _encode(self, y: np.ndarray, first: bool) -> np.ndarray:
        y = _numbers_of(y)
        if y.ndim == 2 and y.shape[1] == 1:
            _warn("DataConversionWarning", "A column-vector y was passed when a 1d array was expected: use y[:, 0]")
            y = y[:, 0]
        if y.ndim > 2 or y.size == 0:
            raise ShapeError(f"y must be of shape (N,) or (N, C), got {y.shape}")
        if not np.isfinite(y).all():
            raise DataError("Input y contains NaN or infinity: remove those rows, or fill them in")
        columns = None if y.ndim == 1 else y.shape[1]
        if not first and columns != self._columns:
            raise ShapeError(f"y is of shape {y.shape}, unlike before: there were {self._columns or 1} columns")
        self._columns = columns
        self._unit = 1.0 / (columns or 1) if self.loss == "squared_error" else 1.0
        return y.reshape(y.shape[0], -1)

    def _loss(self, n_out: int | None = None) -> Loss:
        loss = _named_loss(self.loss, _LOSSES_ON_NUMBERS)
        if loss.classifies:
            raise OptionError(f"loss {loss!r} is for classes: a regressor needs one for numbers, such as squared_error")
        return loss

    def _n_out(self, loss: Loss) -> int:
        return self._columns or 1

    def _check_outputs(self, n_out: int, loss: Loss) -> None:
        if n_out != self._n_out(loss):
            raise ShapeError(f"the network has {n_out} outputs, and y has {self._n_out(loss)} numbers a row")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import RegressorTags

        tags = super().__sklearn_tags__()
        tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        tags.target_tags.multi_output = True
        return tags


# ---------------------------------------------------------------------------------------------------------------------
# Which network


class _Drawn:
    """Initial numbers from U(-bound, bound), drawn one layer after another as scikit-learn draws them."""

    def __init__(self, rng: np.random.RandomState, bound: float) -> None:
        self.rng, self.bound = rng, bound

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.uniform(-self.bound, self.bound, shape)


class _Shuffled:
    """The order of the rows in each epoch: that of the epoch before, shuffled, as scikit-learn does it."""

    def __init__(self, rng: np.random.RandomState) -> None:
        self.rng = rng
        self.order: np.ndarray | None = None

    def __call__(self, epoch: int, n: int) -> np.ndarray:
        places = np.arange(n)
        self.rng.shuffle(places)
        self.order = places if self.order is None else self.order[places]
        return self.order


class _MLP(_Estimator):
    hidden_layer_sizes: int | Sequence[int]
    activation: Any
    dropout: float | Sequence[float]
    _n_out: Callable[[Loss], int]

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
            numbers = _Drawn(rng, math.sqrt((2.0 if isinstance(function, Sigmoid) else 6.0) / (n_in + n_out)))
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


class _Net(_Estimator):
    net: Network
    _flat_rows = False
    _n_out: Callable[[Loss], int]

    def _network(self, x: Array, rng: np.random.RandomState) -> Layer:
        if isinstance(self.net, Layer):
            return copy.deepcopy(self.net)
        if not callable(self.net):
            raise OptionError(
                f"net must be a network, or a function of (inputs, outputs) that makes one, got {self.net!r}"
            )
        return instance("what net(inputs, outputs) returns", self.net(x.shape[1], self._outputs_wanted()), Layer)

    def _outputs_wanted(self) -> int:
        return len(self.classes_) if isinstance(self, _Classifier) else self._n_out(self._loss())


class MLPClassifier(_Classifier, _MLP):
    """A multilayer perceptron that tells classes, with the parameters of scikit-learn's MLPClassifier, and more.

    hidden_layer_sizes      neurons of each hidden layer: a number, or one for each layer; () for none
    activation              "relu", "logistic", "tanh", "identity", any other that gpunn names, a layer such as
                            gn.LeakyReLU(0.1), or a list with one for each hidden layer
    solver                  "adam", "sgd", "adamw", "nadam", "adamax", "rmsprop", "adagrad", "adadelta", "lion", "muon",
                            or an Optimizer, which brings its own learning rate and weight decay
    alpha                   the L2 penalty alpha/2 |W|^2, over the rows of a batch: as scikit-learn divides it
    batch_size              rows of a batch; "auto" is 200, or all rows where they are fewer
    learning_rate           for "sgd": "constant"; "invscaling", learning_rate_init / t^power_t after t rows; or
                            "adaptive", divided by 5 whenever training gets no further, until it is below 1e-6
    learning_rate_init      a number, or a schedule of gn.schedules
    max_iter                epochs at most; ConvergenceWarning where they do not suffice
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
    class_weight            weights by class {label: weight}; "balanced" makes all classes count alike
    dropout                 the share of a hidden layer's outputs that is dropped in training, or one for each layer
    callbacks               gn.Callback objects, called while it trains
    device                  "auto", "cpu", "cuda" and so on (see gn.device); "auto" computes where X is, where that is
                            an array of CuPy or PyTorch
    dtype                   "float32" or "float64"; None is that of X

    After fit there are classes_, coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_,
    best_validation_score_, n_iter_, t_, n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_ (of a
    frame) as in scikit-learn, and net_ and history_, the network and the Trainer's history.

    From the same random_state come the initial weights and the orders of the rows that scikit-learn has, and the steps
    are its steps, so "sgd" and "adam" give its weights but for rounding. They part where rows are held out, which are
    chosen in another way, and with weights of rows in several batches (see gn.losses.Weighted). What it has and this
    has not: the solver "lbfgs", and y of one class alone.
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: Any = "relu",
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float | Schedule = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        loss: str | Loss = "log_loss",
        class_weight: dict[Any, float] | str | None = None,
        dropout: float | Sequence[float] = 0.0,
        callbacks: Callback | Sequence[Callback] | None = None,
        device: str | Device = "auto",
        dtype: str | None = None,
    ) -> None:
        self._keep(locals())


class MLPRegressor(_Regressor, _MLP):
    """A multilayer perceptron that tells numbers, with the parameters of scikit-learn's MLPRegressor, and more.

    `loss` is "squared_error" (half the square; the gradient is that of its sum over the columns of y, loss_ and
    loss_curve_ have its mean: both as in scikit-learn), "absolute_error", "huber", "poisson" for counts, or a loss of
    gpunn's. `early_stopping` goes by R^2. All else is as in MLPClassifier, but for classes.
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: Any = "relu",
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float | Schedule = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        loss: str | Loss = "squared_error",
        dropout: float | Sequence[float] = 0.0,
        callbacks: Callback | Sequence[Callback] | None = None,
        device: str | Device = "auto",
        dtype: str | None = None,
    ) -> None:
        self._keep(locals())


class NetClassifier(_Classifier, _Net):
    """Any network as an estimator that tells classes; parameters as in MLPClassifier.

        NetClassifier(gn.Sequential(gn.Reshape((8, 8, 1)), gn.Conv2d(1, 16, 3), gn.ReLU(), gn.Flatten(),
                                    gn.Linear(576, 10)), max_iter=20).fit(X, y)

    `net` is a network with an output for each class (one suffices for two classes), or a function of (inputs, outputs)
    that makes one for the data at hand. It is copied, never changed: one that has its weights is trained further from
    these, another is given new ones at every fit. Rows may have any shape that the network takes, (N, height, width,
    channels) say. The trained network is `net_`.
    """

    def __init__(
        self,
        net: Network,
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float | Schedule = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        loss: str | Loss = "log_loss",
        class_weight: dict[Any, float] | str | None = None,
        callbacks: Callback | Sequence[Callback] | None = None,
        device: str | Device = "auto",
        dtype: str | None = None,
    ) -> None:
        self._keep(locals())


class NetRegressor(_Regressor, _Net):
    """Any network as an estimator that tells numbers; `net` as in NetClassifier, the rest as in MLPRegressor."""

    def __init__(
        self,
        net: Network,
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float | Schedule = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        loss: str | Loss = "squared_error",
        callbacks: Callback | Sequence[Callback] | None = None,
        device: str | Device = "auto",
        dtype: str | None = None,
    ) -> None:
        self._keep(locals())


# ---------------------------------------------------------------------------------------------------------------------
# Looking at what was given


def _warn(category: str, message: str) -> None:
    """Warn with scikit-learn's own category of that name where it is in use, else with a plain UserWarning."""
    kind = getattr(sys.modules.get("sklearn.exceptions"), category, UserWarning)
    level = 2
    while sys._getframe(level).f_globals.get("__name__") == __name__:
        level += 1
    warnings.warn(message, kind, stacklevel=level + 1)


def _seed(random_state: Any) -> int:
    if random_state is None:
        return int(np.random.randint(2**31 - 1))  # noqa: NPY002  what np.random.seed sets, as in scikit-learn
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    return whole("random_state", random_state)


def _legacy(seed: int) -> np.random.RandomState:
    """scikit-learn's generator: from the same seed its initial weights and its orders of the rows come."""
    return np.random.RandomState(seed % 2**32)


def _named_loss(given: Any, known: dict[str, type[Loss]], *others: str) -> Loss:
    if isinstance(given, str):
        if given not in known:
            names = [*others, *known]
            raise OptionError(
                f"loss {given!r} is not known; expected {', '.join(names)}, or a Loss{nearest(given, names)}"
            )
        return known[given]()
    return copy.deepcopy(instance("loss", given, Loss))


def _named_activation(given: Any) -> Any:
    return "sigmoid" if given == "logistic" else given if isinstance(given, str) else copy.deepcopy(given)


def _feature_names(X: Any) -> np.ndarray | None:
    """The names of a frame's columns, where all are texts."""
    columns = getattr(X, "columns", None)
    names = [] if columns is None else list(columns)
    return np.asarray(names, dtype=object) if names and all(isinstance(name, str) for name in names) else None


def _is_array(x: Any) -> bool:
    """Whether x is an array of a library that gpunn computes with, other than NumPy."""
    try:
        return not isinstance(x, np.ndarray) and bool(device_of(x))
    except DtypeError:
        return False


def _on_host(y: Any) -> np.ndarray:
    """y as a NumPy array, of texts too."""
    if _is_sparse(y):
        y = y.toarray()
    return to_host(y) if _is_array(y) else _as_numpy(y, "y")


def _as_numpy(x: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(x)
    except ValueError as error:  # a list whose rows are not alike
        raise DataError(f"{name} is no array of numbers, nor can it be made one: {error}") from None


def _is_sparse(x: Any) -> bool:
    return hasattr(x, "toarray") and hasattr(x, "nnz")


def _unique(y: np.ndarray) -> np.ndarray:
    try:
        return np.unique(y)
    except TypeError:
        raise DtypeError(
            "Unknown label type: y mixes labels of several kinds, or has gaps: make all of one kind"
        ) from None


def _numbers_of(y: np.ndarray) -> np.ndarray:
    if y.dtype.kind == "c":
        raise DataError(f"Complex data not supported: y is {y.dtype}, take its real part")
    try:
        return y.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"y must hold numbers ({error}); a classifier takes other labels") from None


def _floats(X: Any) -> Array:
    """X as an array of float32, if it is that, or float64: in its own library, or in NumPy where it is no array."""
    complex_data = "Complex data not supported: X is {}, take its real part"
    x = X.toarray() if _is_sparse(X) else X
    if _is_array(x):
        xp, where = namespace(x), device_of(x)
        if xp.isdtype(x.dtype, "complex floating"):
            raise DataError(complex_data.format(x.dtype))
        is_float = x.dtype in (where.dtype("float32"), where.dtype("float64"))
        return x if is_float else xp.astype(x, where.dtype("float64"))
    x = _as_numpy(x, "X")
    if x.dtype.kind == "c":
        raise DataError(complex_data.format(x.dtype))
    if x.dtype.kind in "OUS":
        return _floats_of_objects(x, X)
    if x.dtype.kind not in "biuf":
        raise DtypeError(f"X is {x.dtype}, expected numbers")
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)


def _floats_of_objects(x: np.ndarray, X: Any) -> np.ndarray:
    try:
        return x.astype(np.float64)
    except (TypeError, ValueError) as error:
        names, column = _feature_names(X), ""
        for i in range(x.shape[1] if x.ndim == 2 else 0):
            try:
                x[:, i].astype(np.float64)
            except (TypeError, ValueError):
                column = f"the column {names[i]!r} of " if names is not None else f"column {i} of "
                break
        kind = DtypeError if isinstance(error, TypeError) else DataError
        raise kind(f"{column}X does not hold numbers: {error}. Encode texts, fill in what is missing") from None


def _row_weights(sample_weight: Any, n: int) -> np.ndarray | None:
    """Weights of rows (n,) as float64 on the host, checked."""
    if sample_weight is None:
        return None
    w = _on_host(sample_weight)
    try:
        w = w.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"sample_weight must hold numbers ({error})") from None
    if w.ndim == 0:
        w = np.full(n, float(w))
    if w.shape != (n,):
        raise ShapeError(f"sample_weight is of shape {w.shape}, expected ({n},): one for each row")
    if not np.isfinite(w).all() or (w < 0).any():
        raise DataError("sample_weight must be finite numbers, 0 or more")
    if not w.any():
        raise DataError("sample_weight is zero for every row: at least one must count")
    return w


def _rows(data: tuple[Array, Any, Any], chosen: np.ndarray) -> tuple[Array, Any, Any]:
    x, y, w = data
    x = namespace(x).take(x, device_of(x).asarray(chosen), axis=0)
    return x, y[chosen], None if w is None else w[chosen]


def _same_shape(y: np.ndarray, predicted: Array) -> None:
    if y.shape != tuple(predicted.shape):
        raise ShapeError(f"y is of shape {y.shape}, and the predictions are of shape {tuple(predicted.shape)}")


def _share_right(y: np.ndarray, predicted: np.ndarray, w: np.ndarray | None) -> float:
    right = y == predicted
    return float(np.average(right.all(axis=1) if right.ndim == 2 else right, weights=w))
