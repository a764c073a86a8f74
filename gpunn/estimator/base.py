"""What all estimators can do: parameters by name, fitting, and asking the network."""

import copy
import inspect
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from gpunn.checks import counted, instance, nearest, number, precision, several, whole
from gpunn.device import Array, Device, device, device_of
from gpunn.errors import DataError, NotInitialised, OptionError, ShapeError
from gpunn.estimator.given import feature_names, floats, legacy, on_host, row_weights, rows, seed_of, warn
from gpunn.estimator.lbfgs import lbfgs
from gpunn.estimator.progress import Progress, Shuffled
from gpunn.layers import Dropout, GaussianNoise, Layer
from gpunn.losses import Loss, Weighted
from gpunn.optim import SGD, Adam, Optimizer
from gpunn.rng import generator
from gpunn.schedules import Schedule
from gpunn.train import Callback, History, Trainer
from gpunn.train.diagnose import refuse_gaps
from gpunn.train.mean import Mean
from gpunn.train.recipe import OPTIMIZERS

__all__ = ["Estimator", "Parameters"]


class NotFitted(NotInitialised, ValueError, AttributeError):
    """An estimator that has not been fitted. Where scikit-learn is in use it is its NotFittedError, too."""


@dataclass(kw_only=True, eq=False, repr=False)
class Parameters:
    """What every estimator can be told. It is looked at by fit, not before."""

    loss: str | Loss
    solver: str | Optimizer = "adam"
    alpha: float = 0.0001
    batch_size: int | str = "auto"
    learning_rate: str = "constant"
    learning_rate_init: float | Schedule = 0.001
    power_t: float = 0.5
    max_iter: int = 200
    max_fun: int = 15000
    shuffle: bool = True
    random_state: Any = None
    tol: float = 1e-4
    verbose: bool = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: float = 10
    callbacks: Callback | Sequence[Callback] | None = None
    device: str | Device = "auto"
    dtype: str | None = None


class Estimator(Parameters):
    """Parameters and fitting; what a y means is for Classifier and Regressor, which network for MLP and Net."""

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
    _solver: str | Optimizer  # that the Trainer was made for
    _came_from: str
    _columns: int | None  # of y, for a Regressor; None where it has one axis

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

    # --- fitting

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X (N, D) and y until the loss, or the score of the rows held out, no longer gets better.

        `sample_weight` (N,) says for how much each row counts: the loss is the weighted mean; rows of weight 0 are left
        out. With `warm_start` a second fit goes on from the weights of the first, and from what was best then. Raises
        DataError, ShapeError or DtypeError for data that does not fit, OptionError for a parameter, Diverged where the
        loss became infinite; the estimator is then what it was before, unless it was to go on.
        """
        go_on = bool(self.warm_start) and self.__sklearn_is_fitted__()
        before = dict(vars(self))
        try:
            self._fit(X, y, sample_weight, go_on)
        except Exception:
            if not go_on:
                vars(self).clear()
                vars(self).update(before)
            raise
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, go_on: bool) -> None:
        epochs, first = whole("max_iter", self.max_iter, at_least=1), not go_on
        x, y, w = self._data(X, y, sample_weight, first)
        seed = seed_of(self.random_state)
        held_out = None
        if self.early_stopping and self.solver != "lbfgs":  # which has no epochs
            rest, part = self._held_out(y, seed)
            (x, y, w), held_out = rows((x, y, w), rest), rows((x, y, w), part)
        rng = legacy(seed + (self.t_ if go_on else 0))  # if it goes on, with other orders of the rows than before
        if go_on:
            self._begin_again(x, self._trainer.net, seed + self.t_)
        else:
            self._begin(x, seed, rng)
        progress = Progress(self, held_out)
        if self.solver == "lbfgs":
            self._run_lbfgs(x, y, w, epochs)
            return
        try:
            self._run(progress, x, y, w, epochs, rng)
        except KeyboardInterrupt:
            warn(
                "UserWarning", f"training was interrupted after {counted(self.n_iter_, 'epoch')}; the weights are kept"
            )
        else:
            if not self._trainer.stop:
                warn(
                    "ConvergenceWarning",
                    f"max_iter={epochs} epochs were reached before training had converged: allow more, or a larger tol",
                )
        if self._best_weights is not None:  # of the rows held out
            self.net_.load_state_dict(self._best_weights)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        if self.early_stopping:
            raise OptionError("partial_fit does not support early_stopping=True: there is no telling what to hold out")
        if self.solver == "lbfgs":
            raise OptionError("partial_fit steps on a few rows, and solver 'lbfgs' needs all: use 'adam' or 'sgd'")
        first = not self.__sklearn_is_fitted__()
        x, y, w = self._data(X, y, sample_weight, first, partial=True)
        if first:
            seed = seed_of(self.random_state)
            self._begin(x, seed, rng := legacy(seed))
        else:
            rng = legacy(self._trainer.seed + self.t_)
            if self.solver != self._solver:  # what the one before has accumulated is of no use
                self._begin_again(x, self._trainer.net, self._trainer.seed + self.t_)
        self._run(Progress(self), x, y, w, 1, rng)
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
        self._solver, self._came_from = self.solver, device_of(x).name
        self.n_outputs_ = n_out

    def _run(self, progress: Progress, x: Array, y: Any, w: Any, epochs: int, rng: np.random.RandomState) -> None:
        trainer, n = self._trainer, x.shape[0]
        self.n_iter_ = 0
        self._weigh(w)
        size = 200 if self.batch_size == "auto" else whole("batch_size", self.batch_size, at_least=1)
        size = min(size, n)
        if isinstance(self.solver, str):  # else it has its own
            progress.alpha = self._penalty(w)
        trainer.batch, trainer.losses, trainer.seconds = 0, Mean(), 0.0  # an epoch that was broken off is not taken up
        trainer.fit(
            (x, y if w is None else (y, w)),
            epochs=epochs,
            batch_size=size,
            shuffle=Shuffled(rng) if self.shuffle else False,
            verbose=bool(self.verbose),
            callbacks=[progress, *several("a callback", self.callbacks, Callback)],
        )

    def _run_lbfgs(self, x: Array, y: Any, w: Any, steps: int) -> None:
        if self.callbacks or any(isinstance(layer, Dropout | GaussianNoise) for _, layer in self.net_.walk()):
            raise OptionError("solver 'lbfgs' has no epochs and no chance: leave out callbacks and dropout")
        self._weigh(w)
        result, losses = lbfgs(
            self._trainer,
            x,
            y if w is None else (y, w),
            rate=self._penalty(w) / x.shape[0],
            unit=self._unit,
            max_iter=steps,
            max_fun=whole("max_fun", self.max_fun, at_least=1),
            tol=number("tol", self.tol, at_least=0.0),
        )
        self.n_iter_, self.loss_ = min(int(result.nit), steps), losses[-1]
        self.loss_curve_ += losses
        self.best_loss_ = min(self.loss_curve_)
        if not result.success:
            warn("ConvergenceWarning", f"lbfgs had not converged after {self.n_iter_} steps: {result.message}")

    def _weigh(self, w: np.ndarray | None) -> None:
        """Let the loss be one with weights of rows, or without."""
        loss = self._trainer.loss.loss if isinstance(self._trainer.loss, Weighted) else self._trainer.loss
        self._trainer.loss = loss if w is None else Weighted(loss)

    def _penalty(self, w: np.ndarray | None) -> float:
        """alpha over the mean weight of a row: a row of weight 2 is two rows."""
        return number("alpha", self.alpha, at_least=0.0) / (1.0 if w is None else float(np.mean(w)))

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
            return SGD(1.0)  # a Trainer has one; no step is taken by it
        if not isinstance(solver, str) or solver not in OPTIMIZERS:
            known = f"{', '.join(OPTIMIZERS)}, lbfgs, or an Optimizer"
            raise OptionError(f"solver {solver!r} is not known; expected {known}{nearest(solver, OPTIMIZERS)}")
        kind, lr = OPTIMIZERS[solver], self.learning_rate_init
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

    def _data(
        self, X: Any, y: Any, sample_weight: Any, first: bool, partial: bool = False
    ) -> tuple[Array, np.ndarray, np.ndarray | None]:
        """Inputs, targets as the losses take them, and weights, or None for all alike; rows of weight 0 left out."""
        if y is None:
            raise DataError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        x, y = self._inputs(X, first), on_host(y)
        refuse_gaps(x)  # here, where its rows have the numbers that they have outside
        if y.shape[:1] != (x.shape[0],):
            raise ShapeError(f"X has {x.shape[0]} rows and y is of shape {y.shape}: each row needs one")
        w = row_weights(sample_weight, x.shape[0])
        if w is not None and not w.all():
            x, y, w = rows((x, y, w), np.flatnonzero(w))
        y = self._encode(y, first, partial)
        w = self._with_class_weights(y, w)
        return x, y, w

    def _inputs(self, X: Any, first: bool) -> Array:
        """X as an array of floats, with as many features as the first had."""
        name = type(self).__name__
        self._check_names(feature_names(X), first)
        x = floats(X)
        if len(x.shape) < 2 or (len(x.shape) > 2 and self._flat_rows):
            mend = "X.reshape(len(X), -1)"
            if len(x.shape) < 2:
                mend = "X.reshape(-1, 1) where it is one feature, X.reshape(1, -1) where it is one row"
            raise ShapeError(
                f"Expected 2D array, got {len(x.shape)}D array of shape {tuple(x.shape)} instead. "
                f"Reshape your data: {mend}"
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
            warn("UserWarning", f"X has feature names, but {me} was fitted without feature names")
        elif mine is not None and names is None:
            warn("UserWarning", f"X does not have valid feature names, but {me} was fitted with feature names")
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
        return {"sigmoid": "logistic", "exponential": "exp"}.get(name, name)

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

    def get_metadata_routing(self) -> Any:
        """What scikit-learn may pass on beside X and y where its metadata routing is on."""
        from sklearn.utils.metadata_routing import MetadataRequest

        if "_metadata_request" in vars(self):
            return self._metadata_request
        requests = MetadataRequest(owner=type(self).__name__)
        for method in (requests.fit, requests.partial_fit, requests.score):
            method.add_request(param="sample_weight", alias=None)
        return requests

    def set_fit_request(self, *, sample_weight: bool | str | None) -> Self:
        """Whether scikit-learn's metadata routing passes sample_weight on to `fit`, or under which name it comes."""
        return self._set_request("fit", sample_weight)

    def set_partial_fit_request(self, *, sample_weight: bool | str | None) -> Self:
        """As set_fit_request, for `partial_fit`."""
        return self._set_request("partial_fit", sample_weight)

    def set_score_request(self, *, sample_weight: bool | str | None) -> Self:
        """As set_fit_request, for `score`."""
        return self._set_request("score", sample_weight)

    def _set_request(self, method: str, wanted: bool | str | None) -> Self:
        requests = self.get_metadata_routing()
        getattr(requests, method).add_request(param="sample_weight", alias=wanted)
        self._metadata_request = requests  # under this name scikit-learn's clone takes it along
        return self

    # --- for Classifier and Regressor

    def _encode(self, y: np.ndarray, first: bool, partial: bool) -> np.ndarray:
        """Targets as the losses take them; `first`: the first of this network; `partial`: in partial_fit."""
        raise NotImplementedError

    def _with_class_weights(self, y: np.ndarray, w: np.ndarray | None) -> np.ndarray | None:
        return w

    def _loss(self, n_out: int | None = None) -> Loss:
        """The loss, for a network of so many outputs if that is known."""
        raise NotImplementedError

    def _n_out(self, loss: Loss) -> int:
        """How many outputs a network needs."""
        raise NotImplementedError

    def _check_outputs(self, n_out: int, loss: Loss) -> None:
        """Raise ShapeError where a network of so many outputs does not fit y."""
        raise NotImplementedError

    def _score(self, outputs: Array, y: np.ndarray, w: np.ndarray | None) -> float:
        """Accuracy or R^2 of the network's outputs, y as the losses have it."""
        raise NotImplementedError

    # --- for MLP and Net

    def _network(self, x: Array, rng: np.random.RandomState) -> Layer:
        raise NotImplementedError
