"""What training shows: a bar that fills during an epoch, and a line for each."""

import sys
from typing import TYPE_CHECKING, Any

from gpunn.train.history import Row
from gpunn.train.trainer import Callback, Trainer

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["EpochTable"]


def _loss(value: float) -> str:
    return f"{value:.4f}" if value == 0.0 or 1e-4 <= abs(value) < 1e5 else f"{value:.3e}"


_COLUMNS = {  # column of the history: (heading, width, how a number is written)
    "epoch": ("epoch", 5, "{:.0f}".format),
    "loss": ("loss", 10, _loss),
    "valid_loss": ("valid loss", 10, _loss),
    "valid_accuracy": ("valid accuracy", 14, "{:.2%}".format),
    "valid_r2": ("valid R^2", 9, "{:.4f}".format),
    "lr": ("learning rate", 13, "{:.2g}".format),
    "seconds": ("seconds", 7, "{:.2f}".format),
}


class EpochTable(Callback):
    """A table on standard output with a line per epoch; on a terminal also a bar that shows the epoch in progress."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._batches = 0
        self._headed = False

    def on_start(self, trainer: Trainer, epochs: int, batches: int) -> None:
        self._batches, self._headed = batches, False

    def on_step(self, trainer: Trainer) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._batches,
                initial=trainer.batch - 1,
                desc=f"epoch {trainer.epoch + 1}",
                unit="batch",
                leave=False,
                disable=None,  # where standard error is no terminal
                file=sys.stderr,
            )
        self._bar.update()

    def on_epoch(self, trainer: Trainer, row: Row) -> None:
        self.close()
        columns = [(name, *column) for name, column in _COLUMNS.items() if name in row]
        if not self._headed:
            print("  ".join(f"{heading:>{width}}" for _, heading, width, _ in columns))
            self._headed = True
        print("  ".join(f"{text(row[name]):>{width}}" for name, _, width, text in columns), flush=True)

    def on_end(self, trainer: Trainer) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
