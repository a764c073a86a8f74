"""How the numbers in a network are spread while it learns: a histogram of every parameter, epoch by epoch."""

import math
from pathlib import Path
from typing import Self

import numpy as np

from gpunn.device import to_host
from gpunn.errors import FileError, OptionError
from gpunn.io.tensors import read_tensors, write_tensors
from gpunn.train.history import Row
from gpunn.train.trainer import Callback, Trainer

__all__ = ["Histograms"]

BINS = 40
KEPT = 128  # epochs at most: of longer runs every second one, every fourth one ... is kept


class Histograms(Callback):
    """Keeps, after every epoch, a histogram and the length of every parameter and of its gradient.

        histograms = gn.Histograms()
        trainer.fit(train, epochs=10, callbacks=histograms)
        gn.plot.histograms(histograms)

    `epochs` are the numbers of the epochs kept, and for each parameter ("linear1.W") and kind ("value" or "gradient")
    with E epochs

        counts[kind, name]   (E, BINS) how many numbers fell into each of BINS equal bins
        ranges[kind, name]   (E, 2) where the first bin begins and the last one ends
        norms[kind, name]    (E,) |w| = sqrt(sum w^2), over all numbers of the parameter

    The gradient is that of the epoch's last step, on one batch, as the optimiser took it. Of the network nothing is
    read during an epoch, so a GPU is not stopped. With `path` all is written to that file after every epoch. A run that
    goes on from an earlier epoch replaces what is later. Raises OptionError for a network of other parameters than
    before.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = path
        self.epochs: list[int] = []
        self.counts: dict[tuple[str, str], np.ndarray] = {}
        self.ranges: dict[tuple[str, str], np.ndarray] = {}
        self.norms: dict[tuple[str, str], np.ndarray] = {}

    def on_epoch(self, trainer: Trainer, row: Row) -> None:
        epoch, params = int(row["epoch"]), trainer.net.params()
        names = {(kind, name) for name in params for kind in ("value", "gradient")}
        if self.epochs and names != self.counts.keys():
            raise OptionError("these histograms are of another network: make a Histograms for each")
        every = 1
        while epoch > KEPT * every:
            every *= 2
        kept = [i for i, e in enumerate(self.epochs) if e < epoch and e % every == 0]
        self.epochs = [*(self.epochs[i] for i in kept), epoch]
        for name, param in params.items():
            for kind, array in (("value", param.value), ("gradient", param.grad)):
                counts, ends, norm = _histogram(to_host(array))
                for rows, new in ((self.counts, counts), (self.ranges, ends), (self.norms, norm)):
                    before = rows[kind, name][kept] if (kind, name) in rows else np.empty((0, *new.shape), new.dtype)
                    rows[kind, name] = np.concatenate([before, new[None]])
        if self.path is not None:
            self.save(self.path)

    @property
    def names(self) -> list[str]:
        """The names of the parameters, in the order of the layers."""
        return list(dict.fromkeys(name for _, name in self.counts))

    def save(self, path: str | Path) -> None:
        """Write all to a safetensors file, whole or not at all. Raises FileError."""
        parts = {"counts": self.counts, "ranges": self.ranges, "norms": self.norms}
        arrays = {f"{part}/{kind}/{name}": a for part, rows in parts.items() for (kind, name), a in rows.items()}
        write_tensors(path, "histograms", arrays, {"epochs": self.epochs, "names": self.names})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What `save` wrote. Raises FileError for a file that is missing, damaged or of something else."""
        tensors, about = read_tensors(path, "histograms")
        found = cls()
        try:
            found.epochs = [int(epoch) for epoch in about["epochs"]]
            for name in about["names"]:
                for kind in ("value", "gradient"):
                    for part in ("counts", "ranges", "norms"):
                        array = tensors[f"{part}/{kind}/{name}"]
                        if len(array) != len(found.epochs):
                            raise ValueError(f"{len(array)} rows of {name}")
                        getattr(found, part)[kind, name] = array
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{path}: does not describe histograms: {error}; use another copy") from None
        return found


def _histogram(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(counts (BINS,), ends (2,), norm ()) of all finite numbers in x. np.histogram would take five times as long."""
    x = x.reshape(-1).astype(np.float64)
    if not math.isfinite(x.min() + x.max()):
        x = x[np.isfinite(x)]
    low, high = (float(x.min()), float(x.max())) if len(x) else (0.0, 0.0)
    if not math.isfinite(BINS / max(high - low, 1e-300)) or high - low <= 1e-12 * abs(low):  # all are one number
        high = low + (1e-6 * abs(low) or 1e-12)
    place = ((x - low) * (BINS / (high - low))).astype(np.int64)
    counts = np.bincount(np.minimum(place, BINS - 1), minlength=BINS).astype(np.uint32)
    return counts, np.array([low, high]), np.sqrt(x @ x)
