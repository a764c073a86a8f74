"""One answer from several networks."""

from collections.abc import Iterable, Sequence

from gpunn.checks import counted, instance
from gpunn.device import Array, namespace
from gpunn.errors import OptionError, ShapeError
from gpunn.layers import Layer
from gpunn.ops import one_hot

__all__ = ["Ensemble"]


class Ensemble:
    """Networks that answer together: the mean of their probabilities, or the share of their votes for each class.

    `Ensemble([net1, net2, net3])(x)` gives (N, C); its largest number in each row is the answer. how="mean" takes the
    networks' answers, with their output functions applied; "vote" counts only which class each thinks best (Nielsen,
    chapter 6). Raises OptionError for no networks or another `how`.
    """

    def __init__(self, networks: Sequence[Layer], how: str = "mean") -> None:
        self.networks = [instance("a network", net, Layer) for net in instance("networks", networks, Iterable)]
        if not self.networks:
            raise OptionError("an Ensemble needs at least one network, got none")
        if how not in ("mean", "vote"):
            raise OptionError(f"how {how!r} is not known; expected mean or vote")
        self.how = how

    def __call__(self, x: Array) -> Array:
        """The joint answer for a batch x (N, ...)."""
        total = self._voice(self.networks[0](x))
        for net in self.networks[1:]:
            total = total + self._voice(net(x))
        return total / len(self.networks)

    def _voice(self, answer: Array) -> Array:
        if self.how == "mean":
            return answer
        if answer.shape[-1] == 1:
            raise ShapeError('a vote is between classes, and these networks have one output: use how="mean"')
        return one_hot(namespace(answer).argmax(answer, axis=1), answer)

    def __repr__(self) -> str:
        return f"Ensemble({counted(len(self.networks), 'network')}, how={self.how!r})"
