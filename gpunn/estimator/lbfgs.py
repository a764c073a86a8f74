"""The solver "lbfgs": all rows at every step."""

from typing import Any

import numpy as np

from gpunn.device import Array, to_host
from gpunn.errors import OptionError
from gpunn.losses import pair
from gpunn.train import Trainer

__all__ = ["lbfgs"]


def lbfgs(
    trainer: Trainer, x: Array, y: Any, *, rate: float, unit: float, max_iter: int, max_fun: int, tol: float
) -> tuple[Any, list[float]]:
    """Make f(w) = L(w) + rate/2 |W|^2 small, from the trainer's weights on; L is the loss of all rows at once.

    A quasi-Newton method: w <- w - eta H g, g the gradient of f, H what the last ten steps tell about the inverse of
    its second derivatives, eta from a search along that line (Liu and Nocedal, 1989). It is SciPy's L-BFGS-B, as in
    scikit-learn, so numbers go to the host and back at every step. It ends when no part of g is larger than `tol`.
    Returns SciPy's result, and unit L + rate/2 |W|^2 after each step. Raises OptionError where there is no SciPy.
    """
    try:
        from scipy.optimize import minimize
    except ImportError:
        raise OptionError("solver 'lbfgs' is SciPy's: pip install scipy, or use 'adam' or 'sgd'") from None
    net, store = trainer.net, trainer.net.store
    loss, x = pair(net, trainer.loss), trainer.device.asarray(x, store.dtype)
    y = loss.targets(y, net.infer(x[:1, ...]).shape[-1], trainer.device, store.dtype)
    now, losses = 0.0, list[float]()

    def f(w: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal now
        store.values[...] = store.device.asarray(w, store.dtype)
        z, cache = net.forward(x, train=True)
        L, saved = loss.forward(z, y)
        net.zero_grad()
        net.backward(loss.backward(saved), cache, need_dx=False)
        W, g = w[store.decaying], to_host(store.gradient()).astype(np.float64)
        g[store.decaying] += rate * W  # dL/dW + rate W
        penalty = 0.5 * rate * float(W @ W)
        now = float(L) * unit + penalty
        return float(L) + penalty, g

    result = minimize(
        f,
        to_host(store.values).astype(np.float64),
        method="L-BFGS-B",
        jac=True,
        callback=lambda w: losses.append(now),
        options={"maxiter": max_iter, "maxfun": max_fun, "gtol": tol},
    )
    f(result.x)  # for its last point is not always its best
    return result, losses or [now]
