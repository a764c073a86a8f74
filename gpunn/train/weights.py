"""Callbacks that look after the weights while a network is trained."""

from gpunn import ops
from gpunn.checks import number
from gpunn.device import Array
from gpunn.errors import OptionError
from gpunn.layers import Layer
from gpunn.params import ParamStore
from gpunn.train.trainer import Callback, Trainer

__all__ = ["L1", "AverageWeights", "MaxNorm"]


class MaxNorm(Callback):
    """After every step, no neuron's incoming weights are longer than `limit`: w <- w min(1, limit / |w|).

    For every parameter that decays and has inputs and outputs; w is without the bias. What a group of the optimiser
    keeps as it is (an lr_factor of 0) stays. (Srebro and Shraibman, 2005; with dropout in Srivastava et al., 2014.)
    Raises OptionError unless limit > 0.
    """

    def __init__(self, limit: float) -> None:
        self.limit = number("MaxNorm: limit", limit, above=0.0)

    def on_step(self, trainer: Trainer) -> None:
        for name, param in trainer.net.params().items():
            factor, _ = trainer.optimizer.setting(name)  # a group may not learn at all
            if factor and param.decay and len(param.shape) > 1:
                ops.max_norm(param.value, limit=self.limit)


class L1(Callback):
    """An L1 penalty, rate |w| summed over all weights, biases spared: it makes weights that matter little exactly 0.

    After every step each weight is brought nearer to 0 by eta rate, eta the learning rate, and not beyond. That is the
    step that the penalty asks for (the proximal gradient: Parikh and Boyd, 2014), where its plain gradient, rate
    sign(w), would go back and forth over 0. Nielsen's lambda is n times the rate, for n training examples. Raises
    OptionError for a negative rate.
    """

    def __init__(self, rate: float) -> None:
        self.rate = number("L1: rate", rate, at_least=0.0)

    def on_step(self, trainer: Trainer) -> None:
        eta = trainer.optimizer.learning_rate(trainer.steps - 1)
        for name, param in trainer.net.params().items():
            factor, _ = trainer.optimizer.setting(name)  # a group may learn more slowly, or not at all
            if param.decay and factor:
                ops.soft_threshold(param.value, by=eta * factor * self.rate)


class AverageWeights(Callback):
    """The moving average of the weights over the steps, average <- d average + (1 - d) w: often the better network.

    (Polyak and Juditsky, 1992.) `decay` = d remembers about 1 / (1 - d) steps; at the beginning d is no more than
    (1 + t) / (10 + t), so that the first weights are soon forgotten. `average.load_into(net)` puts the average in place
    of the weights. What is not learned, such as BatchNorm's running means, is not averaged, and the average is not part
    of a checkpoint. Raises OptionError unless 0 <= decay < 1, and for another network than it began with.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = number("AverageWeights: decay", decay, at_least=0.0, below=1.0)
        self.values: Array = None  # flat, as the network's own
        self.store: ParamStore | None = None  # of the network
        self.steps = 0

    def on_step(self, trainer: Trainer) -> None:
        w = trainer.net.store.values
        if self.store is None:
            self.store, self.values = trainer.net.store, trainer.device.xp.asarray(w, copy=True)
        self._check(trainer.net)
        self.steps += 1
        d = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.values += (1.0 - d) * (w - self.values)

    def load_into(self, net: Layer) -> None:
        """Put the average in place of the weights of the network that was trained. Raises OptionError before a step."""
        if self.values is None:
            raise OptionError("there is no average yet: give this to trainer.fit(..., callbacks=...) first")
        self._check(net)
        net.store.values[...] = self.values

    def _check(self, net: Layer) -> None:
        if net.store is not self.store:
            raise OptionError("this average is of another network: make an AverageWeights for each")
