"""Optimisers: how the parameters follow the gradient.

An optimiser holds its constants only. What it accumulates, such as Adam's moments, are flat arrays beside the
parameters that `start` makes and `update` changes:

    state = optimizer.start(net.store)
    for done in range(steps):
        ...                                     # forward, backward
        optimizer.update(net.store, state, done)

Each class says what its optimiser is; the equations of its step are with the function of `gpunn.ops` that it calls. The
learning rate is a number or a schedule. `weight_decay` = lambda adds lambda w to the gradient of every weight, the
gradient of the L2 penalty lambda/2 |w|^2; biases are spared. (Nielsen's lambda is n times this one, for n training
examples: w <- (1 - eta lambda / n) w - eta g.)

`groups` sets some parameters apart, by the beginning of their names: a layer's name, or a parameter's in full. A group
may have an `lr_factor`, by which its learning rate is multiplied (0 leaves it unchanged), and a `weight_decay` of its
own. Where two groups fit a parameter, the longer name counts.

    gn.SGD(0.1, momentum=0.9, groups={"linear1": {"lr_factor": 0.1}, "linear3.W": {"weight_decay": 1e-3}})
"""

import math
from collections.abc import Callable, Mapping

from gpunn import ops
from gpunn.checks import instance, number
from gpunn.device import Array
from gpunn.errors import OptionError
from gpunn.params import ParamStore
from gpunn.schedules import Schedule, schedule

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "RMSprop",
]

State = dict[str, Array]
Groups = Mapping[str, Mapping[str, float]]

# An epsilon of 0 is refused: it would divide 0 by 0 at a parameter that has had no gradient yet.


class Optimizer:
    """The base of all optimisers: the learning rate, weight decay, and the arrays named in `keeps`."""

    keeps: tuple[str, ...] = ()
    groups: Groups = {}  # noqa: RUF012  shared because it is never changed
    scale = 1.0  # the learning rate is the schedule's times this; see `gpunn.train.Plateau`

    def __init__(self, lr: float | Schedule, weight_decay: float = 0.0, groups: Groups | None = None) -> None:
        self.lr = schedule(lr)
        self.weight_decay = number("weight_decay", weight_decay, at_least=0.0)
        if groups:
            self.groups = {name: _checked(name, group) for name, group in instance("groups", groups, Mapping).items()}

    def start(self, store: ParamStore) -> State:
        """What the optimiser keeps between steps: flat arrays of zeros, by name.

        Raises OptionError for a group that no parameter belongs to.
        """
        for group in self.groups:
            if not any(_is_of(name, group) for name in store.params):
                raise OptionError(f"groups: no parameter is of {group!r}; there are {', '.join(store.params)}")
        return {name: store.device.zeros(store.values.shape, store.dtype) for name in self.keeps}

    def learning_rate(self, done: int) -> float:
        """The learning rate of the step after `done` others."""
        return float(self.lr(done)) * self.scale

    def update(self, store: ParamStore, state: State, done: int) -> None:
        """Take one step, after `done` others: change the parameters by their gradients, and the state, in place."""
        w, g, eta = store.values, store.gradient(), self.learning_rate(done)
        kept = [state[name] for name in self.keeps]
        if self.groups:
            alike = store.pieces(lambda name: (store.params[name].decay, *self.setting(name)))
            for part, (decays, factor, rate) in alike:
                if rate and decays:
                    self.decay(w[part], g[part], eta * factor, rate)
                self.step(w[part], g[part], *(array[part] for array in kept), eta=eta * factor, t=done + 1)
        else:
            if self.weight_decay:
                self.decay(w[store.decaying], g[store.decaying], eta, self.weight_decay)
            self.step(w, g, *kept, eta=eta, t=done + 1)
        store.next_step()

    def setting(self, name: str) -> tuple[float, float]:
        """(lr_factor, weight_decay) of the parameter of this name."""
        fitting = [group for group in self.groups if _is_of(name, group)]
        chosen = self.groups[max(fitting, key=len)] if fitting else {}
        return chosen.get("lr_factor", 1.0), chosen.get("weight_decay", self.weight_decay)

    def decay(self, w: Array, g: Array, eta: float, rate: float) -> None:
        """Apply weight decay to the weights w (biases are not among them) or their gradients g, in place."""
        ops.l2_decay(g, w, rate=rate)

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        """Change w and what is kept, in place, given the gradients g; t is this step's number, from 1.

        All are flat: the network's whole arrays, or parts of them where there are groups.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


def _is_of(name: str, group: str) -> bool:
    return name == group or name.startswith(f"{group}.")


def _checked(name: str, group: Mapping[str, float]) -> dict[str, float]:
    """A copy of the group of that name, if it is one."""
    known = ("lr_factor", "weight_decay")
    for option in instance(f"the group {name!r}", group, Mapping):
        if option not in known:
            raise OptionError(f"groups: {name!r} has {option!r}, expected {' or '.join(known)}")
    return {option: number(f"groups: {option} of {name!r}", value, at_least=0.0) for option, value in group.items()}


class _Decoupled(Optimizer):
    """Weight decay apart from the gradient: w <- (1 - eta lambda) w before the step (Loshchilov and Hutter, 2019)."""

    def decay(self, w: Array, g: Array, eta: float, rate: float) -> None:
        ops.shrink(w, by=eta * rate)


class SGD(Optimizer):
    """Stochastic gradient descent: w <- w - eta g; with momentum mu, v <- mu v + g and w <- w - eta v.

    `nesterov=True` looks ahead along v: w <- w - eta (g + mu v). Equations in `gpunn.ops.update`. Like the learning
    rate, the momentum may be a schedule: gn.schedules.Polynomial(0.5, 1000, end=0.99) rises to 0.99 in 1000 steps.
    """

    def __init__(
        self,
        lr: float | Schedule,
        momentum: float | Schedule = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, groups)
        if nesterov and not momentum:
            raise OptionError("nesterov=True needs a momentum above 0, such as momentum=0.9")
        self.momentum = (
            instance("momentum", momentum, Callable)
            if callable(momentum)
            else number("momentum", momentum, at_least=0.0, below=1.0)
        )
        self.nesterov = nesterov

    @property
    def keeps(self) -> tuple[str, ...]:  # type: ignore[override]
        """The velocity v, where there is momentum."""
        return ("v",) if self.momentum else ()

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        if not self.momentum:
            ops.sgd(w, g, eta=eta)
            return
        mu = self.momentum
        if callable(mu):
            mu = number(f"momentum in step {t}", mu(t - 1), at_least=0.0, below=1.0)
        (ops.nesterov if self.nesterov else ops.momentum)(w, g, *kept, eta=eta, mu=mu)


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
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, groups)
        self.beta1 = number("beta1", beta1, at_least=0.0, below=1.0)
        self.beta2 = number("beta2", beta2, at_least=0.0, below=1.0)
        self.epsilon = number("epsilon", epsilon, above=0.0)

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        ops.adam(w, g, *kept, eta=eta, beta1=self.beta1, beta2=self.beta2, epsilon=self.epsilon, t=t)


class AdamW(_Decoupled, Adam):
    """Adam with decoupled weight decay: w <- (1 - eta lambda) w before the step (Loshchilov and Hutter, 2019)."""

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(lr, beta1, beta2, epsilon, weight_decay, groups=groups)


class NAdam(Adam):
    """Adam with Nesterov's momentum in place of Polyak's (Dozat, 2016)."""

    def __init__(
        self,
        lr: float | Schedule = 2e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(lr, beta1, beta2, epsilon, weight_decay, groups=groups)

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        ops.nadam(w, g, *kept, eta=eta, beta1=self.beta1, beta2=self.beta2, epsilon=self.epsilon, t=t)


class Adamax(Adam):
    """Adam with the largest recent gradient in place of the root mean square (Kingma and Ba, 2015)."""

    keeps = ("m", "u")

    def __init__(
        self,
        lr: float | Schedule = 2e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(lr, beta1, beta2, epsilon, weight_decay, groups=groups)

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        ops.adamax(w, g, *kept, eta=eta, beta1=self.beta1, beta2=self.beta2, epsilon=self.epsilon, t=t)


class Lion(_Decoupled):
    """Every weight moves by eta each step, by the sign of its momentum (Chen et al., 2023).

    A learning rate 3 to 10 times smaller than Adam's suits it, with a weight decay as many times larger (their section
    5); weight decay is apart from the gradient, as in AdamW.
    """

    keeps = ("m",)

    def __init__(
        self,
        lr: float | Schedule = 1e-4,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, groups)
        self.beta1 = number("beta1", beta1, at_least=0.0, below=1.0)
        self.beta2 = number("beta2", beta2, at_least=0.0, below=1.0)

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        ops.lion(w, g, *kept, eta=eta, beta1=self.beta1, beta2=self.beta2)


class Muon(_Decoupled):
    """Momentum, made orthogonal: every direction of a weight matrix learns alike (Jordan et al., 2024).

    For each weight W (D, M), where D stands for all axes of a convolution's but the last: m <- mu m + g, as v in SGD, O
    about U V^T where g + mu m = U S V^T (see `gpunn.ops.orthogonal`), and W <- W - 0.2 sqrt(max(D, M)) eta O. With that
    factor a step is about as long as Adam's (Liu et al., "Muon is scalable for LLM training", 2025), so one learning
    rate also serves the parameters of one axis, biases and gains, which are left to Adam. Weight decay is apart from
    the gradient, as in AdamW.
    """

    keeps = ("m", "v")  # the momentum of all; Adam's mean square, which weights do not use

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        momentum: float = 0.95,
        beta1: float = 0.9,
        beta2: float = 0.95,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, groups)
        self.momentum = number("momentum", momentum, at_least=0.0, below=1.0)
        self.beta1 = number("beta1", beta1, at_least=0.0, below=1.0)
        self.beta2 = number("beta2", beta2, at_least=0.0, below=1.0)
        self.epsilon = number("epsilon", epsilon, above=0.0)

    def update(self, store: ParamStore, state: State, done: int) -> None:
        eta = self.learning_rate(done)
        w, g, m, v = map(store.views, (store.values, store.gradient(), state["m"], state["v"]))
        for name, param in store.params.items():
            factor, rate = self.setting(name)
            if rate and param.decay:
                self.decay(w[name], g[name], eta * factor, rate)
            if len(param.shape) > 1:
                size = max(param.size // param.shape[-1], param.shape[-1])  # max(D, M)
                alike = eta * factor * (0.2 * math.sqrt(size))
                ops.muon(w[name], g[name], m[name], eta=alike, mu=self.momentum)
            else:
                self.step(w[name], g[name], m[name], v[name], eta=eta * factor, t=done + 1)
        store.next_step()

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        ops.adam(w, g, *kept, eta=eta, beta1=self.beta1, beta2=self.beta2, epsilon=self.epsilon, t=t)


class Adadelta(Optimizer):
    """g times the root mean square of past steps over that of past gradients: no rate to choose (Zeiler, 2012)."""

    keeps = ("v", "d")

    def __init__(
        self,
        lr: float | Schedule = 1.0,
        rho: float = 0.95,
        epsilon: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, groups)
        self.rho = number("rho", rho, at_least=0.0, below=1.0)
        self.epsilon = number("epsilon", epsilon, above=0.0)

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        ops.adadelta(w, g, *kept, eta=eta, rho=self.rho, epsilon=self.epsilon)


class RMSprop(Optimizer):
    """The gradient over its root mean square: v <- rho v + (1 - rho) g^2 (Tieleman and Hinton, 2012)."""

    keeps = ("v",)

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        rho: float = 0.9,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, groups)
        self.rho = number("rho", rho, at_least=0.0, below=1.0)
        self.epsilon = number("epsilon", epsilon, above=0.0)

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        ops.rmsprop(w, g, *kept, eta=eta, rho=self.rho, epsilon=self.epsilon)


class Adagrad(Optimizer):
    """The gradient over the root of the sum of all its squares: v <- v + g^2 (Duchi, Hazan and Singer, 2011)."""

    keeps = ("v",)

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        epsilon: float = 1e-10,
        weight_decay: float = 0.0,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, groups)
        self.epsilon = number("epsilon", epsilon, above=0.0)

    def step(self, w: Array, g: Array, *kept: Array, eta: float, t: int) -> None:
        ops.adagrad(w, g, *kept, eta=eta, epsilon=self.epsilon)
