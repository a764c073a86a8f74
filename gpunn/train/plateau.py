"""A learning rate that is cut when training makes no more progress."""

import math

from gpunn.checks import number, whole
from gpunn.train.history import History, Row, badness
from gpunn.train.trainer import Callback, Trainer

__all__ = ["Plateau"]


class Plateau(Callback):
    """Multiplies the learning rate by `factor` whenever `patience` epochs have passed without a better one.

        trainer.fit((X, Y), valid=(Xv, Yv), epochs=100, callbacks=[gn.Plateau(factor=0.1, patience=10)])

    Better in `monitor`, a column of the history; None stands for what the fit itself monitors. After a cut the epochs
    are counted anew. It works beside any schedule, during the fit that it is given to; a fit takes one at most.

    It keeps nothing: how often the rate has been cut is read from the trainer's history, which a checkpoint has. So a
    run that is resumed, with the same callback, goes on with the same learning rate. Raises OptionError unless
    0 <= factor < 1 and patience >= 1, and for a column that is not in the history.
    """

    def __init__(self, factor: float = 0.1, patience: int = 10, monitor: str | None = None) -> None:
        self.factor = number("Plateau: factor", factor, at_least=0.0, below=1.0)
        self.patience = whole("Plateau: patience", patience, at_least=1)
        self.monitor = monitor

    def on_start(self, trainer: Trainer, epochs: int, batches: int) -> None:
        self._scale(trainer)

    def on_epoch(self, trainer: Trainer, row: Row) -> None:
        self._scale(trainer)

    def on_end(self, trainer: Trainer) -> None:
        vars(trainer.optimizer).pop("scale", None)

    def _scale(self, trainer: Trainer) -> None:
        monitor = self.monitor or trainer.best.get("monitor", "loss")
        trainer.optimizer.scale = self.factor ** self.cuts(trainer.history, monitor)

    def cuts(self, history: History, monitor: str) -> int:
        """How often the learning rate has been cut over these epochs."""
        cuts = waited = 0
        best = None
        values = history[monitor] if len(history) else []
        for value in values:
            if math.isnan(value):  # it was not measured in that epoch
                continue
            bad = badness(monitor, value)
            if best is None or bad < best:
                best, waited = bad, 0
                continue
            waited += 1
            if waited == self.patience:
                cuts, waited = cuts + 1, 0
        return cuts
