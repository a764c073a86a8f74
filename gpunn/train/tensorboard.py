"""The history for TensorBoard (needs tensorboardX, the extra "tensorboard")."""

from pathlib import Path
from typing import Any

from gpunn.errors import OptionError
from gpunn.train.history import Row
from gpunn.train.trainer import Callback, Trainer

__all__ = ["TensorBoard", "summary_writer"]


class TensorBoard(Callback):
    """Writes each row of the history into a folder that `tensorboard --logdir` reads, a curve for each column.

    A fit that goes on takes the place of what was written of its epochs before. Raises OptionError where tensorboardX
    is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder, self._make = folder, summary_writer()
        self._writer: Any = None

    def on_start(self, trainer: Trainer, epochs: int, batches: int) -> None:
        begin = trainer.epoch + 1
        self._writer = self._make(
            str(self.folder),
            purge_step=begin if trainer.epoch else None,
            filename_suffix=f".{begin}",  # the rest of the name is the second, which two fits may share
        )

    def on_epoch(self, trainer: Trainer, row: Row) -> None:
        for name, value in row.items():
            if name not in ("epoch", "step"):
                self._writer.add_scalar(name, value, row["epoch"])
        self._writer.flush()

    def on_end(self, trainer: Trainer) -> None:
        if self._writer is not None:
            self._writer.close()


def summary_writer() -> Any:
    """tensorboardX's SummaryWriter. Raises OptionError where it is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise OptionError('tensorboard needs tensorboardX: pip install "gpunn[tensorboard]"') from None
    return SummaryWriter
