"""What a y means: classes and labels for a Classifier, numbers for a Regressor."""

import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from gpunn.checks import counted, instance, nearest, number
from gpunn.device import Array, device_of, namespace, to_host
from gpunn.errors import DataError, LossMismatch, OptionError, ShapeError
from gpunn.estimator.base import Estimator
from gpunn.estimator.given import numbers_of, on_host, row_weights, unique, warn
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
)

__all__ = ["Classifier", "Regressor"]


class HalfSquaredError(MeanSquaredError):
    """L = 1/(2N) sum_n |z_n - y_n|^2; gradient (z - y) / N. What scikit-learn calls the squared error."""

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        loss, r = super().forward(z, y)
        return loss * (0.5 * z.shape[1]), r

    def backward(self, cache: Any) -> Array:
        return cache / cache.shape[0]

    def each(self, z: Array, y: Array) -> Array:
        return super().each(z, y) * (0.5 * z.shape[1])


_LOSSES_ON_CLASSES: dict[str, type[Loss]] = {"focal": FocalLoss, "hinge": Hinge}  # and "log_loss", which has two forms
_LOSSES_ON_NUMBERS: dict[str, type[Loss]] = {
    "squared_error": HalfSquaredError,
    "absolute_error": MeanAbsoluteError,
    "huber": Huber,
    "poisson": PoissonLoss,
}


@dataclass(kw_only=True, eq=False, repr=False)
class Classifier(Estimator):
    """Tells one of several classes, or answers yes or no for each of several labels."""

    loss: str | Loss = "log_loss"
    class_weight: dict[Any, float] | str | None = None

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch on these rows. The first call needs `classes`, all labels there will ever be.

        The optimiser keeps what it has accumulated from call to call. Weights of rows and classes say how much a row
        counts among those of the same call. For yes-or-no answers y (N, L) the classes are the numbers 0 to L - 1.
        Raises as `fit` does.
        """
        if not self.__sklearn_is_fitted__():
            if classes is None:
                raise DataError("the first call of partial_fit needs classes=, all labels that there will be")
            self.classes_ = unique(on_host(classes))
            self._several = on_host(y).ndim == 2 and on_host(y).shape[1] > 1
        elif classes is not None and list(unique(on_host(classes))) != list(self.classes_):
            raise DataError(f"classes={classes!r} are not those of the first call of partial_fit, {self.classes_}")
        if isinstance(self.class_weight, str):
            raise OptionError("partial_fit does not see all rows, as class_weight='balanced' must: give the weights")
        return self._partial_fit(X, y, sample_weight)

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
        y, codes = on_host(y), to_host(self._codes(self._outputs(X, "score")))
        if not self._several:
            y, codes = y[:, 0] if y.shape[1:] == (1,) else y, self.classes_[codes]
        _same_shape(y, codes)
        if isinstance(y.flat[0], str) != isinstance(codes.flat[0], str):  # of which none would be equal
            raise DataError(f"y has the class {y.tolist()[0]!r}, which is not among the classes {self.classes_}")
        return _share_right(y, codes, row_weights(sample_weight, codes.shape[0]))

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

    def _encode(self, y: np.ndarray, first: bool, partial: bool) -> np.ndarray:
        y = _one_column(y)
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
        if first and not partial:  # which has been told the classes
            self.classes_ = np.arange(y.shape[1]) if several else unique(y)
            self._several = several
        if len(self.classes_) < 2:
            raise DataError(f"y has one class, {self.classes_.tolist()[0]!r}: a classifier needs two classes or more")
        if several != self._several or (several and y.shape[1] != len(self.classes_)):
            raise ShapeError(f"y is of shape {y.shape}, unlike before: there were {len(self.classes_)} classes")
        if several:
            return y.astype(np.int64)
        if not first and not partial and list(unique(y)) != list(self.classes_):
            raise DataError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit: there were "
                f"{self.classes_}, now there are {unique(y)}"
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
        return 1 if len(self.classes_) == 2 and not self._several and loss.output != "softmax" else len(self.classes_)

    def _check_outputs(self, n_out: int, loss: Loss) -> None:
        if n_out not in (len(self.classes_), self._n_out(loss)):
            raise ShapeError(f"the network has {n_out} outputs, and y has {len(self.classes_)} classes")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags

        tags = super().__sklearn_tags__()
        tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags(multi_label=True)
        return tags


@dataclass(kw_only=True, eq=False, repr=False)
class Regressor(Estimator):
    """Tells a number, or several."""

    loss: str | Loss = "squared_error"

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch on these rows; the optimiser keeps what it has accumulated. Raises as `fit` does."""
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any) -> Any:
        """The number for each row (N,), or the numbers (N, C)."""
        z = self._outputs(X, "predict")
        return z[:, 0] if self._columns is None else z

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R^2 = 1 - sum (y - p)^2 / sum (y - mean y)^2, the mean of it over the columns of y."""
        p, y = self._outputs(X, "score"), numbers_of(on_host(y))
        y = y[:, None] if y.ndim == 1 else y
        _same_shape(y, p)
        return self._score(p, y, row_weights(sample_weight, p.shape[0]))

    def _score(self, outputs: Array, y: np.ndarray, w: np.ndarray | None) -> float:
        p = to_host(outputs).astype(np.float64)
        rest = np.average((y - p) ** 2, axis=0, weights=w)
        spread = np.average((y - np.average(y, axis=0, weights=w)) ** 2, axis=0, weights=w)
        r2 = 1.0 - rest / np.where(spread > 0.0, spread, 1.0)
        return float(np.mean(np.where(spread > 0.0, r2, rest == 0.0)))  # as scikit-learn has it where y is constant

    def _encode(self, y: np.ndarray, first: bool, partial: bool) -> np.ndarray:
        y = _one_column(numbers_of(y))
        if y.ndim > 2 or y.size == 0:
            raise ShapeError(f"y must be of shape (N,) or (N, C), got {y.shape}")
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
            raise ShapeError(
                f"the network has {counted(n_out, 'output')}, and y has {counted(self._n_out(loss), 'number')} a row"
            )

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import RegressorTags

        tags = super().__sklearn_tags__()
        tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        tags.target_tags.multi_output = True
        return tags


def _named_loss(given: Any, known: dict[str, type[Loss]], *others: str) -> Loss:
    if isinstance(given, str):
        if given not in known:
            names = [*others, *known]
            raise OptionError(
                f"loss {given!r} is not known; expected {', '.join(names)}, or a Loss{nearest(given, names)}"
            )
        return known[given]()
    return copy.deepcopy(instance("loss", given, Loss))


def _one_column(y: np.ndarray) -> np.ndarray:
    if y.ndim != 2 or y.shape[1] != 1:
        return y
    warn("DataConversionWarning", "A column-vector y was passed when a 1d array was expected: use y[:, 0]")
    return y[:, 0]


def _same_shape(y: np.ndarray, predicted: Array) -> None:
    if y.shape != tuple(predicted.shape):
        raise ShapeError(f"y is of shape {y.shape}, and the predictions are of shape {tuple(predicted.shape)}")


def _share_right(y: np.ndarray, predicted: np.ndarray, w: np.ndarray | None) -> float:
    right = y == predicted
    return float(np.average(right.all(axis=1) if right.ndim == 2 else right, weights=w))
