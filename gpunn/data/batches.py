"""Batches: the pieces of a data set that a network is trained on, one step each."""

from collections.abc import Iterator

from gpunn.device import Array, device_of
from gpunn.errors import DataError, OptionError
from gpunn.rng import generator

__all__ = ["Batches", "as_input"]


class Batches:
    """x (N, ...) and y (N, ...), arrays of one library, cut into batches of `batch_size` rows.

    Every epoch has its own order, which depends on the seed and the number of the epoch alone; `shuffle=False` keeps
    the rows as they are. The last batch is smaller where N is no multiple of the size, unless `drop_last`. The inputs
    come as `dtype`; images in bytes (uint8) stay so in memory and are scaled to 0 ... 1 one batch at a time.

        for x, y in Batches(X, Y, 32, seed=0).epoch(3): ...
    """

    def __init__(
        self,
        x: Array,
        y: Array,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        dtype: str = "float32",
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise OptionError(f"batch_size must be a whole number above 0, got {batch_size!r}")
        if x.shape[0] != y.shape[0]:
            raise DataError(f"{x.shape[0]} inputs but {y.shape[0]} targets: each input needs one")
        if len(self._starts(x.shape[0], batch_size, drop_last)) == 0:
            what = f"{x.shape[0]} rows make no batch of {batch_size}" if drop_last else "the data has no rows"
            raise DataError(f"{what}: nothing to train on")
        self.x, self.y, self.batch_size = x, y, batch_size
        self.seed, self.shuffle, self.drop_last = seed, shuffle, drop_last
        self.device = device_of(x)
        self.dtype = self.device.dtype(dtype)

    @staticmethod
    def _starts(n: int, size: int, drop_last: bool) -> range:
        return range(0, n - size + 1 if drop_last else n, size)

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self._starts(self.x.shape[0], self.batch_size, self.drop_last))

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[tuple[Array, Array]]:
        """The batches (x, y) of epoch `number`, from the one numbered `start`."""
        xp, n, size = self.device.xp, self.x.shape[0], self.batch_size
        order = self.device.asarray(generator(self.seed, "order", number).permutation(n)) if self.shuffle else None
        for first in self._starts(n, size, self.drop_last)[start:]:
            if order is None:
                x, y = self.x[first : first + size], self.y[first : first + size]
            else:
                rows = order[first : first + size]
                x, y = xp.take(self.x, rows, axis=0), xp.take(self.y, rows, axis=0)
            yield as_input(x, self.dtype, xp), y


def as_input(x: Array, dtype: object, xp: object) -> Array:
    """Images in bytes (uint8) as numbers from 0 to 1, as PyTorch's ToTensor makes of them; other arrays as they are."""
    if x.dtype == xp.uint8:  # type: ignore[attr-defined]
        x = xp.astype(x, dtype)  # type: ignore[attr-defined]
        x /= 255.0
    return x
