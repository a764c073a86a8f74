"""Losses: how far the network's answer is from the target, and the gradient that starts the backward pass.

All take the network's last numbers z (N, C), before its output function, because there the gradient is simplest and
nothing can overflow. Each names the `output` it goes with:

    loss                     output      targets y
    SoftmaxCrossEntropy      softmax     one of C classes: integers (N,), or probabilities (N, C) whose rows sum to 1
    SigmoidCrossEntropy      sigmoid     C yes-or-no answers: numbers from 0 to 1 (N, C), or class integers (N,)
    FocalLoss                softmax     as SoftmaxCrossEntropy; right answers count for little
    KLDivergence             softmax     as SoftmaxCrossEntropy; 0 where the answer is the target
    Quadratic                sigmoid     as SigmoidCrossEntropy; Nielsen's first cost
    Hinge                    identity    C yes-or-no answers: 0 or 1 (N, C), or class integers (N,)
    MeanSquaredError         identity    real numbers (N, C), or (N,) where C = 1
    MeanAbsoluteError        identity    the same; less moved by outliers
    Huber                    identity    the same; a square near 0, straight beyond delta
    PoissonLoss              exponential counts, from 0 (N, C), or (N,) where C = 1

All apply the output themselves. A network given to a Trainer may say the same `output=`, or none; a network that ends
in such a *layer*, Softmax for example, would apply it twice, and is refused. MeanSquaredError, MeanAbsoluteError and
Huber also go with any other output, such as `output="tanh"`: they then compare output(z) with y.

L is a mean over the batch. Losses on classes sum over the C outputs (most are a negative log-likelihood, or Nielsen's
cost), those on numbers and counts take the mean over them. `Weighted` lets some rows count for more than others.

Class numbers out of range are found in every forward pass on a CPU. On a GPU that would wait for the device, so there
only `targets` looks, which a Trainer calls once for all data.
"""

from typing import Any

import numpy as np

from gpunn import ops
from gpunn.checks import instance, number
from gpunn.device import Array, Device, device_of, namespace, on_host, to_host, whole_numbers
from gpunn.errors import DataError, DeviceMismatch, DtypeError, LossMismatch, ShapeError
from gpunn.layers import Flatten, Identity, Layer, Residual, Sequential, Sigmoid, Softmax, activation

__all__ = [
    "FocalLoss",
    "Hinge",
    "Huber",
    "KLDivergence",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "PoissonLoss",
    "Quadratic",
    "SigmoidCrossEntropy",
    "SoftmaxCrossEntropy",
    "Weighted",
]


class Loss:
    """The base of all losses. `output` names the output function the loss goes with."""

    output = "identity"
    classifies = False  # whether the targets are classes, so that there is an accuracy

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        """(L, cache): the mean loss of the batch as a 0-d array (on NumPy a scalar), and what backward needs."""
        raise NotImplementedError(f"{type(self).__name__} has no forward pass")

    def backward(self, cache: Any) -> Array:
        """dz = dL/dz."""
        raise NotImplementedError(f"{type(self).__name__} has no backward pass")

    def both(self, z: Array, y: Array) -> tuple[Array, Array]:
        """(L, dz), forward and backward in one: what a Trainer calls. A loss of your own needs only those two."""
        loss, cache = self.forward(z, y)
        return loss, self.backward(cache)

    def fused(self, y: Array) -> bool:
        """Whether `both` is a single op for targets y, without `forward` and `backward`.

        Such an op takes z of bfloat16, too, and gives dz in bfloat16 and L in float32.
        """
        return False

    def __call__(self, z: Array, y: Array) -> Array:
        """L alone."""
        return self.forward(z, y)[0]

    def each(self, z: Array, y: Array) -> Array:
        """The loss of each row (N,), of which L is the mean. By forward, row after row: override it for speed."""
        xp = namespace(z)
        return xp.stack([xp.asarray(self.forward(z[n : n + 1, ...], y[n : n + 1, ...])[0]) for n in range(z.shape[0])])

    def targets(self, y: Any, n_out: int, device: Device, dtype: str, look: bool = True) -> Array:
        """Targets y for a network with `n_out` outputs, checked and moved to the device: what forward expects.

        Rows that are all 0 but for one 1 become the class numbers that they stand for. Raises ShapeError, or DataError
        that names a value that does not fit; with `look=False` no value is looked at.
        """
        y = device.asarray(y) if device.holds(y) else to_host(y)  # what is on the host is checked there, then moved
        xp, shape = namespace(y), tuple(y.shape)
        if self.classifies and n_out > 1 and len(shape) == 1 and whole_numbers(y):
            if look:
                _check_labels(y, n_out)
            return device.asarray(y, "int64")
        if n_out == 1 and len(shape) == 1:
            y, shape = xp.reshape(y, (-1, 1)), (*shape, 1)
        if len(shape) != 2 or shape[1] != n_out:
            expected = f"(N, {n_out})" if n_out > 1 else "(N, 1) or (N,)"
            if self.classifies and n_out > 1:
                expected += f", or class numbers 0 to {n_out - 1} of shape (N,)"
            mend = ""
            if self.classifies and len(shape) == 1:
                mend = ". If these are class numbers, use y.astype(int)"
            elif len(shape) == 2 and shape[1] == 1:
                mend = ". If there is one for each row, use y[:, 0]"
            raise ShapeError(
                f"{type(self).__name__} expects targets of shape {expected}; got {y.dtype} of shape {shape}{mend}"
            )
        if look:
            y = xp.astype(y, xp.float64, copy=False)  # Booleans have no sum
            self._check_values(y)
            if not bool(xp.all(xp.abs(y) <= float(np.finfo(dtype).max))):
                raise DataError(f"the targets contain numbers beyond {dtype}: rescale them, or use float64")
            if self.classifies and n_out > 1 and bool(xp.all((y == 0) | (y == 1)) & xp.all(xp.sum(y, axis=1) == 1)):
                return device.asarray(xp.argmax(y, axis=1), "int64")
        return device.asarray(y, dtype)

    def _check_values(self, y: Array) -> None:
        xp = namespace(y)
        if not bool(xp.all(xp.isfinite(y))):
            raise DataError("the targets contain NaN or infinity: remove those rows, or fill them in")

    def correct(self, z: Array, y: Array) -> Array:
        """How many of the batch's N answers are right, as a 0-d array: the class with the largest z is the answer.

        With yes-or-no targets (N, C) an answer counts as the share of its C parts that lie on the right side of 1/2.
        """
        return namespace(z).sum(self._right(z, y))

    def _right(self, z: Array, y: Array) -> Array:
        """How right the answer to each row is (N,), from 0 to 1."""
        xp = namespace(z)
        if z.shape[1] == 1 and len(y.shape) == 1:
            y = y[:, None]
        if len(y.shape) == 1:
            right = xp.argmax(z, axis=1) == y
        elif self.output == "softmax":
            right = xp.argmax(z, axis=1) == xp.argmax(y, axis=1)
        else:  # sigmoid(z) > 1/2 where z > 0
            return xp.mean(xp.astype((z > 0.0) == (y > 0.5), z.dtype), axis=1)
        return xp.astype(right, z.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


def _check_labels(y: Array, n_out: int) -> None:
    if not ops.labels_fit(y, classes=n_out):
        xp = namespace(y)
        row = int(xp.argmax(xp.astype((y < 0) | (y >= n_out), xp.int32)))
        raise DataError(
            f"label {int(y[row])} in row {row} is out of range: the network has {n_out} outputs, so labels go from 0 "
            f"to {n_out - 1}"
        )


def _fitting(loss: Loss, z: Array, y: Array, as_rows: bool = True) -> Array:
    """The targets in the data type of z; class numbers become rows of 0 and 1, or with as_rows=False stay as they are.

    Raises ShapeError, DtypeError, DeviceMismatch or DataError where they do not go with z.
    """
    xp = namespace(z)
    if namespace(y) is not xp or z.device != y.device:
        here, there = device_of(z), device_of(y)
        raise DeviceMismatch(
            f"{type(loss).__name__}: the network's numbers are on {here} and the targets on {there}: move them with "
            f"gn.device({here.name!r}).asarray(y)"
        )
    if len(z.shape) != 2:
        raise ShapeError(f"{type(loss).__name__} expects the network's numbers as (N, C), got {tuple(z.shape)}")
    of_classes = loss.classifies and len(y.shape) == 1
    if (y.shape[0] != z.shape[0]) if of_classes else (z.shape != y.shape):
        raise ShapeError(
            f"{type(loss).__name__}: the network gives {tuple(z.shape)} and the targets are {tuple(y.shape)}; "
            "they must have one shape"
        )
    if not of_classes:
        return y if y.dtype == z.dtype else xp.astype(y, z.dtype)
    if z.shape[1] == 1:
        return xp.astype(y[:, None], z.dtype)
    if not whole_numbers(y):
        raise DtypeError(f"{type(loss).__name__} expects class numbers, got {y.dtype}: use y.astype(int)")
    if on_host(z):
        _check_labels(y, z.shape[1])
    return ops.one_hot(y, z) if as_rows else y


class _OnClasses(Loss):
    """Losses whose targets are numbers from 0 to 1, or class numbers (N,) that are used as rows of 0 and 1."""

    classifies = True

    def _check_values(self, y: Array) -> None:
        super()._check_values(y)
        xp = namespace(y)
        if not bool(xp.all((y >= 0) & (y <= 1))):
            low, high = float(xp.min(y)), float(xp.max(y))
            raise DataError(f"{type(self).__name__} expects targets from 0 to 1, got {low:g} to {high:g}")


class _OnSoftmax(_OnClasses):
    """Losses of softmax(z), whose targets are class numbers (N,) or rows of probabilities (N, C) that sum to 1."""

    output = "softmax"

    def targets(self, y: Any, n_out: int, device: Device, dtype: str, look: bool = True) -> Array:
        if n_out == 1:
            raise LossMismatch(
                f"{type(self).__name__} needs an output for each class, and the network has one in all, whose softmax "
                "is always 1: use SigmoidCrossEntropy for a yes-or-no answer, or give the network two outputs"
            )
        return super().targets(y, n_out, device, dtype, look)

    def __call__(self, z: Array, y: Array) -> Array:
        """L alone. Raises LossMismatch if z are probabilities already: the softmax would be applied twice.

        One row may look so by chance, so only a batch of more is judged.
        """
        xp = namespace(z)
        if z.shape[0] > 1 and bool(xp.all(z >= 0.0)) and bool(xp.all(xp.abs(xp.sum(z, axis=1) - 1.0) < 1e-5)):
            raise LossMismatch(
                f"{type(self).__name__} was given probabilities (rows from 0 to 1 that sum to 1) and would apply the "
                "softmax twice: give it the logits, the first value of net.forward(x)"
            )
        return super().__call__(z, y)

    def _check_values(self, y: Array) -> None:
        super()._check_values(y)
        xp = namespace(y)
        sums = xp.sum(y, axis=1)
        off = xp.abs(sums - 1.0)
        if bool(xp.any(off > 1e-3)):
            row = int(xp.argmax(off))
            raise DataError(
                f"{type(self).__name__} expects rows of probabilities that sum to 1; row {row} sums to "
                f"{float(sums[row]):.6g}. For several yes-or-no answers a row use SigmoidCrossEntropy"
            )


class SoftmaxCrossEntropy(_OnSoftmax):
    """L = -1/N sum_n sum_c y_nc log softmax(z_n)_c: the negative log-likelihood of the right classes.

    `label_smoothing` = s trains towards (1 - s) y + s / C instead of y (Szegedy et al., 2016), so that no probability
    is driven to 1. The gradient is (softmax(z) - y) / N. Output: softmax. Raises OptionError unless 0 <= s < 1.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = number("label_smoothing", label_smoothing, at_least=0.0, below=1.0)

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        y = self._aims(z, y)
        loss, p = ops.softmax_cross_entropy(z, y)
        return loss, (p, y)

    def each(self, z: Array, y: Array) -> Array:
        return ops.softmax_cross_entropy_each(z, self._aims(z, y))

    def _aims(self, z: Array, y: Array) -> Array:
        y = _fitting(self, z, y, as_rows=self.label_smoothing > 0.0)
        return (1.0 - self.label_smoothing) * y + self.label_smoothing / z.shape[1] if self.label_smoothing else y

    def backward(self, cache: Any) -> Array:
        return ops.softmax_cross_entropy_backward(*cache)

    def both(self, z: Array, y: Array) -> tuple[Array, Array]:
        if not self.fused(y):
            return super().both(z, y)
        return ops.softmax_cross_entropy_both(z, _fitting(self, z, y, as_rows=False))

    def fused(self, y: Array) -> bool:
        # a subclass may have a forward or backward of its own
        return type(self) is SoftmaxCrossEntropy and not self.label_smoothing and len(getattr(y, "shape", ())) == 1


class FocalLoss(_OnSoftmax):
    """L = -1/N sum_n sum_c y_nc (1 - p_nc)^gamma log p_nc, p = softmax(z): a cross-entropy for rare classes.

    The factor (1 - p)^gamma takes weight from answers that are right already, so that many easy examples do not drown
    the few hard ones; with gamma = 0 it is the cross-entropy (Lin, Goyal, Girshick, He and Dollar, 2017, in its form
    for C classes, without their alpha). Output: softmax. Raises OptionError unless gamma >= 0.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        self.gamma = number("FocalLoss: gamma", gamma, at_least=0.0)

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        y = _fitting(self, z, y)
        loss, log_p = ops.focal(z, y, gamma=self.gamma)
        return loss, (log_p, y)

    def each(self, z: Array, y: Array) -> Array:
        return ops.focal_each(z, _fitting(self, z, y), gamma=self.gamma)

    def backward(self, cache: Any) -> Array:
        return ops.focal_backward(*cache, gamma=self.gamma)


class KLDivergence(_OnSoftmax):
    """L = 1/N sum_n sum_c y_nc (log y_nc - log p_nc), p = softmax(z): how far p is from the probabilities y.

    The gradient is that of SoftmaxCrossEntropy, (p - y) / N, and for class numbers so is the loss; for probabilities,
    such as another network's answers, this one is 0 where p = y (Kullback and Leibler, 1951). Output: softmax.
    """

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        y = _fitting(self, z, y)
        loss, p = ops.kl_divergence(z, y)
        return loss, (p, y)

    def each(self, z: Array, y: Array) -> Array:
        return ops.kl_divergence_each(z, _fitting(self, z, y))

    def backward(self, cache: Any) -> Array:
        return ops.kl_divergence_backward(*cache)


class SigmoidCrossEntropy(_OnClasses):
    """L = -1/N sum_n sum_c (y log a + (1 - y) log(1 - a)), a = sigmoid(z): Nielsen's cross-entropy.

    For C independent yes-or-no answers, or one of C classes as in his book. The gradient is (a - y) / N. Output:
    sigmoid.
    """

    output = "sigmoid"

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        y = _fitting(self, z, y)
        loss, a = ops.sigmoid_cross_entropy(z, y)
        return loss, (a, y)

    def each(self, z: Array, y: Array) -> Array:
        return ops.sigmoid_cross_entropy_each(z, _fitting(self, z, y))

    def backward(self, cache: Any) -> Array:
        return ops.sigmoid_cross_entropy_backward(*cache)


class Quadratic(_OnClasses):
    """L = 1/(2N) sum_n |y_n - a_n|^2, a = sigmoid(z): Nielsen's first cost.

    The gradient is (a - y) a (1 - a) / N: small where a is surely wrong, so such a neuron learns slowly. Output:
    sigmoid.
    """

    output = "sigmoid"

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        y = _fitting(self, z, y)
        loss, a = ops.quadratic(z, y)
        return loss, (a, y)

    def each(self, z: Array, y: Array) -> Array:
        return ops.quadratic_each(z, _fitting(self, z, y))

    def backward(self, cache: Any) -> Array:
        return ops.quadratic_backward(*cache)


class Hinge(_OnClasses):
    """L = 1/N sum_n sum_c max(0, 1 - t z), t = 1 for yes and -1 for no: the loss of a support vector machine.

    Each output is a yes-or-no answer by the sign of z, and of C classes the largest z is the answer: one against the
    rest. `squared=True` takes the square of each term. Targets are class numbers or rows of 0 and 1; for targets y of
    -1 and 1 give (y + 1) / 2. The gradient is -t / N where t z < 1, otherwise 0; of the squares -2 t (1 - t z) / N
    (Cortes and Vapnik, 1995). Output: identity: z is a score, not a probability.
    """

    def __init__(self, squared: bool = False) -> None:
        self.squared = squared

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        t = 2.0 * _fitting(self, z, y) - 1.0
        loss, h = ops.hinge(z, t, squared=self.squared)
        return loss, (h, t)

    def each(self, z: Array, y: Array) -> Array:
        return ops.hinge_each(z, 2.0 * _fitting(self, z, y) - 1.0, squared=self.squared)

    def backward(self, cache: Any) -> Array:
        return ops.hinge_backward(*cache, squared=self.squared)

    def _check_values(self, y: Array) -> None:
        Loss._check_values(self, y)
        xp = namespace(y)
        wrong = (y != 0) & (y != 1)
        if bool(xp.any(wrong)):
            row = int(xp.argmax(xp.astype(xp.any(wrong, axis=1), xp.int32)))
            found = next(float(y[row, c]) for c in range(y.shape[1]) if bool(wrong[row, c]))
            raise DataError(
                f"Hinge expects targets of 0 and 1, got {found:g} in row {row}. For targets of -1 and 1 give "
                "(y + 1) / 2"
            )


class MeanSquaredError(Loss):
    """L = 1/(NC) sum (z - y)^2; gradient 2 (z - y) / (NC). Output: identity."""

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        return ops.mean_squared_error(z, _fitting(self, z, y))

    def each(self, z: Array, y: Array) -> Array:
        return ops.mean_squared_error_each(z, _fitting(self, z, y))

    def backward(self, cache: Any) -> Array:
        return ops.mean_squared_error_backward(cache)


class MeanAbsoluteError(Loss):
    """L = 1/(NC) sum |z - y|; gradient sign(z - y) / (NC). Output: identity."""

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        return ops.mean_absolute_error(z, _fitting(self, z, y))

    def each(self, z: Array, y: Array) -> Array:
        return ops.mean_absolute_error_each(z, _fitting(self, z, y))

    def backward(self, cache: Any) -> Array:
        return ops.mean_absolute_error_backward(cache)


class Huber(Loss):
    """L = 1/(NC) sum h(z - y), h(r) = r^2/2 for |r| <= delta, else delta (|r| - delta/2) (Huber, 1964).

    The gradient is (z - y) held between -delta and delta, over NC. Output: identity. Raises OptionError unless
    delta > 0.
    """

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = number("Huber: delta", delta, above=0.0)

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        return ops.huber(z, _fitting(self, z, y), delta=self.delta)

    def each(self, z: Array, y: Array) -> Array:
        return ops.huber_each(z, _fitting(self, z, y), delta=self.delta)

    def backward(self, cache: Any) -> Array:
        return ops.huber_backward(cache, delta=self.delta)


class PoissonLoss(Loss):
    """L = 1/(NC) sum (e^z - y z): for counts y; the network gives z, the logarithm of their rate.

    It is the negative log-likelihood of Poisson's distribution of rate e^z, less log y!, which no weight changes; so L
    may be below 0. The gradient is (e^z - y) / (NC). Output: exponential, so that the network's answer is the expected
    count. e^z is held at e^87 = 6e37 from z = 87 on.
    """

    output = "exponential"

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        y = _fitting(self, z, y)
        loss, rate = ops.poisson(z, y)
        return loss, (rate, y)

    def each(self, z: Array, y: Array) -> Array:
        return ops.poisson_each(z, _fitting(self, z, y))

    def backward(self, cache: Any) -> Array:
        return ops.poisson_backward(*cache)

    def _check_values(self, y: Array) -> None:
        super()._check_values(y)
        xp = namespace(y)
        if bool(xp.any(y < 0)):
            raise DataError(f"PoissonLoss expects counts, from 0, as targets, got {float(xp.min(y)):g}")


class Weighted(Loss):
    """L = sum_n w_n l_n / sum_n w_n, l_n the loss of row n by `loss`: a row of weight 2 counts as two rows.

        trainer = gn.Trainer(net, gn.losses.Weighted(gn.SoftmaxCrossEntropy()))
        trainer.fit((X, (Y, w)))

    Targets are a pair (y, w): y as `loss` has them, w (N,) 0 or more, not all 0. The sum of the weights is over all
    rows that `targets` is given, with a Trainer all of the fit: it scales the weights to a mean of 1, and each batch of
    B rows gives 1/B sum_n w_n l_n. A sum within each batch instead would make a row count for less wherever heavy ones
    lie in the same batch. The gradient is w_n times that of `loss`.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss: Loss = instance("loss", loss, Loss)

    @property
    def output(self) -> str:  # type: ignore[override]
        """That of `loss`."""
        return self.loss.output

    @property
    def classifies(self) -> bool:  # type: ignore[override]
        """That of `loss`."""
        return self.loss.classifies

    def targets(self, y: Any, n_out: int, device: Device, dtype: str, look: bool = True) -> Array:
        """Targets and weights side by side: (N, C + 1), or (N, 2) for class numbers.

        Raises DataError for what is no pair (y, w) and for weights below 0, not finite, or all 0; ShapeError.
        """
        if not isinstance(y, tuple | list) or len(y) != 2:
            raise DataError(f"Weighted expects targets as a pair (y, weights), got {type(y).__name__}")
        w, xp = device.asarray(y[1], dtype), device.xp
        y = self.loss.targets(y[0], n_out, device, dtype, look)
        if tuple(w.shape) != tuple(y.shape[:1]):
            raise ShapeError(f"Weighted expects a weight for each of {y.shape[0]} rows, got shape {tuple(w.shape)}")
        if look and not (bool(xp.all(xp.isfinite(w) & (w >= 0.0))) and bool(xp.any(w > 0.0))):
            raise DataError("the weights of the rows must be finite numbers, 0 or more, and not all zero")
        if len(y.shape) == 1:
            y = y[:, None]
        return xp.concat([xp.astype(y, w.dtype), (w / xp.mean(w))[:, None]], axis=1)

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        y, w = self._apart(z, y)
        _, cache = self.loss.forward(z, y)
        return namespace(z).mean(w * self.loss.each(z, y)), (cache, w)

    def each(self, z: Array, y: Array) -> Array:
        y, w = self._apart(z, y)
        return w * self.loss.each(z, y)

    def backward(self, cache: Any) -> Array:
        cache, w = cache
        return self.loss.backward(cache) * w[:, None]

    def _right(self, z: Array, y: Array) -> Array:
        y, w = self._apart(z, y)
        return w * self.loss._right(z, y)

    def _apart(self, z: Array, y: Array) -> tuple[Array, Array]:
        y, w = y[:, :-1], y[:, -1]
        if self.classifies and y.shape[1] == 1 < z.shape[1]:
            y = namespace(y).astype(y[:, 0], namespace(y).int64)
        return y, w


class _Of(Loss):
    """A loss taken of the network's output function: L(output(z), y)."""

    def __init__(self, function: Layer, loss: Loss) -> None:
        self.function, self.loss = function, loss

    def targets(self, y: Any, n_out: int, device: Device, dtype: str, look: bool = True) -> Array:
        return self.loss.targets(y, n_out, device, dtype, look)

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        a, function_cache = self.function.forward(z)
        value, loss_cache = self.loss.forward(a, y)
        return value, (function_cache, loss_cache)

    def each(self, z: Array, y: Array) -> Array:
        return self.loss.each(self.function.infer(z), y)

    def backward(self, cache: Any) -> Array:
        function_cache, loss_cache = cache
        return self.function.backward(self.loss.backward(loss_cache), function_cache)


def pair(net: Layer, loss: Loss) -> Loss:
    """The loss to train `net` with, taken of its last numbers z.

    Raises LossMismatch where the output function would be applied twice, or is not the one the loss goes with.
    """
    name, last, own = type(loss).__name__, _last_layer(net), type(activation(loss.output))
    ending, of_any = type(last).__name__, own is Identity and not loss.classifies
    if isinstance(last, Softmax | Sigmoid) if loss.classifies else isinstance(last, own) and not of_any:
        if own is Identity:  # Hinge takes scores
            mend = f"goes by the numbers before it: leave out the {ending}() layer"
        else:
            what = f"the {loss.output} twice" if isinstance(last, own) else f"a {loss.output} to its output"
            mend = (
                f"would apply {what}: leave out the {ending}() layer, and write output={loss.output!r} on the network "
                f"to get {'probabilities' if loss.classifies else 'such answers'} from it"
            )
        raise LossMismatch(f"the network ends in a {ending} layer, and {name} {mend}")
    if net.output is None or isinstance(net.output, own):
        return loss
    if of_any:
        return _Of(net.output, loss)
    raise LossMismatch(
        f"{name} goes with output={loss.output!r}, and the network has output="
        f"{type(net.output).__name__.lower()!r}: change one of the two"
    )


def _last_layer(net: Layer) -> Layer | None:
    """The layer that the network's last numbers come from; None where they are a sum, or nothing is known."""
    if not isinstance(net, Sequential):
        return net
    working = [layer for layer in net.layers if not isinstance(layer, Identity | Flatten)]
    return _last_layer(working[-1]) if working and not isinstance(net, Residual) else None
