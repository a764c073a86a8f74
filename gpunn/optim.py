"""Optimisers: how the parameters follow the gradient.

An optimiser holds its constants only. What it accumulates, such as Adam's moments, are flat arrays beside the
parameters that `start` makes and `update` changes:

    state = optimizer.start(net.store)
    for done in range(steps):
        ...                                     # forward, backward
        optimizer.update(net.store, state, done)

The learning rate is a number or a schedule. `weight_decay` = lambda adds lambda w to the gradient of every weight, the
gradient of the L2 penalty lambda/2 |w|^2; biases are spared. (Nielsen's lambda is n times this one, for n training
examples: w <- (1 - eta lambda / n) w - eta g.)
"""

from gpunn import ops
from gpunn.checks import number
from gpunn.device import Array
from gpunn.errors import OptionError
from gpunn.params import ParamStore
from gpunn.schedules import Schedule, schedule

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop"]

State = dict[str, Array]

# An epsilon of 0 is refused: it would divide 0 by 0 at a parameter that has had no gradient yet.


class Optimizer:
    """The base of all optimisers: the learning rate, weight decay, and the arrays named in `keeps`."""

    keeps: tuple[str, ...] = ()

    def __init__(self, lr: float | Schedule, weight_decay: float = 0.0) -> None:
        self.lr = schedule(lr)
        self.weight_decay = number("weight_decay", weight_decay, at_least=0.0)

    def start(self, store: ParamStore) -> State:
        """What the optimiser keeps between steps: flat arrays of zeros, by name."""
        return {name: store.device.zeros(store.values.shape, store.dtype) for name in self.keeps}

    def update(self, store: ParamStore, state: State, done: int) -> None:
        """Take one step, after `done` others: change the parameters by their gradients, and the state, in place."""
        g, eta = store.gradient(), float(self.lr(done))
        if self.weight_decay:
            self.decay(store.values[store.decaying], g[store.decaying], eta)
        self.step(store.values, g, *(state[name] for name in self.keeps), eta=eta, t=done + 1)
        store.next_step()

    def decay(self, w: Array, g: Array, eta: float) -> None:
        """Apply weight decay to the weights w (biases are not among them) or their gradients g, in place."""
        g += self.weight_decay * w

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        """Change w and what is kept, in place, given the gradients g; t is this step's number, from 1."""
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


class SGD(Optimizer):
    """Stochastic gradient descent: w <- w - eta g; with momentum mu, v <- mu v + g and w <- w - eta v.

    `nesterov=True` looks ahead along v: w <- w - eta (g + mu v). Equations in `gpunn.ops.update`.
    """

    def __init__(
        self, lr: float | Schedule, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        super().__init__(lr, weight_decay)
        self.momentum, self.nesterov = number("momentum", momentum, at_least=0.0, below=1.0), nesterov
        if nesterov and not momentum:
            raise OptionError("nesterov=True needs a momentum above 0, such as momentum=0.9")

    @property
    def keeps(self) -> tuple[str, ...]:  # type: ignore[override]
        """The velocity v, where there is momentum."""
        return ("v",) if self.momentum else ()

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        if not self.momentum:
            ops.sgd(w, g, eta=eta)
        elif self.nesterov:
            ops.nesterov(w, g, *kept, eta=eta, mu=self.momentum)
        else:
            ops.momentum(w, g, *kept, eta=eta, mu=self.momentum)


class Adam(Optimizer):
    """Steps of about eta in each coordinate: the mean gradient over its root mean square (Kingma and Ba, 2015)."""

    keeps = ("m", "v")

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay)
        self.beta1 = number("beta1", beta1, at_least=0.0, below=1.0)
        self.beta2 = number("beta2", beta2, at_least=0.0, below=1.0)
        self.epsilon = number("epsilon", epsilon, above=0.0)

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        ops.adam(w, g, *kept, eta=eta, beta1=self.beta1, beta2=self.beta2, epsilon=self.epsilon, t=t)


class AdamW(Adam):
    """Adam with decoupled weight decay: w <- (1 - eta lambda) w before the step (Loshchilov and Hutter, 2019)."""

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(lr, beta1, beta2, epsilon, weight_decay)

    def decay(self, w: Array, g: Array, eta: float) -> None:
        w *= 1.0 - eta * self.weight_decay


class RMSprop(Optimizer):
    """The gradient over its root mean square: v <- rho v + (1 - rho) g^2 (Tieleman and Hinton, 2012)."""

    keeps = ("v",)

    def __init__(
        self, lr: float | Schedule = 1e-3, rho: float = 0.9, epsilon: float = 1e-8, weight_decay: float = 0.0
    ) -> None:
        super().__init__(lr, weight_decay)
        self.rho = number("rho", rho, at_least=0.0, below=1.0)
        self.epsilon = number("epsilon", epsilon, above=0.0)

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        ops.rmsprop(w, g, *kept, eta=eta, rho=self.rho, epsilon=self.epsilon)


class Adagrad(Optimizer):
    """The gradient over the root of the sum of all its squares: v <- v + g^2 (Duchi, Hazan and Singer, 2011)."""

    keeps = ("v",)

    def __init__(self, lr: float | Schedule = 1e-2, epsilon: float = 1e-10, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay)
        self.epsilon = number("epsilon", epsilon, above=0.0)

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        ops.adagrad(w, g, *kept, eta=eta, epsilon=self.epsilon)
