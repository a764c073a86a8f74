"""Batches: the pieces of a data set that a network is trained on, one step each."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from gpunn.checks import counted, precision, several, whole
from gpunn.data.augment import Augmentation
from gpunn.data.streamed import Streamed
from gpunn.device import Array, device_of, to_host
from gpunn.errors import DataError, DeviceMismatch
from gpunn.rng import generator

__all__ = ["Batches", "as_input", "rows"]


class Batches:
    """x (N, ...) and y (N, ...), arrays of one library or both Streamed, cut into batches of `batch_size` rows.

    Every epoch has its own order, which depends on the seed and the number of the epoch alone; `shuffle=False` keeps
    the rows as they are, and a function of (epoch, N) gives the order itself, as row numbers (N,). The last batch is
    smaller where N is no multiple of the size, unless `drop_last`. Images in bytes (uint8) stay so in memory and are
    scaled to 0 ... 1, as `dtype`, one batch at a time; other inputs come as they are. `augment` are changes made to the
    images of every batch (see gpunn.data.augment), for which rows are taken as images of `image_shape` = (height,
    width, channels).

        for x, y in Batches(X, Y, 32, seed=0).epoch(3): ...
    """

    def __init__(
        self,
        x: Array,
        y: Array,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool | Callable[[int, int], Array] = True,
        drop_last: bool = False,
        dtype: str = "float32",
        augment: Augmentation | Iterable[Augmentation] | None = (),
        image_shape: Sequence[int] | None = None,
    ) -> None:
        batch_size = whole("batch_size", batch_size, at_least=1)
        self.device, where = (a.device if isinstance(a, Streamed) else device_of(a) for a in (x, y))
        if where != self.device:
            raise DeviceMismatch(f"the inputs are on {self.device} and the targets on {where}: move one to the other")
        if not x.shape or not y.shape:
            raise DataError("the data is a single number, expected arrays with a row for each example")
        if x.shape[0] != y.shape[0]:
            raise DataError(f"{x.shape[0]} inputs but {y.shape[0]} targets: each input needs one")
        self.x, self.y, self.batch_size = x, y, batch_size
        self.seed, self.shuffle, self.drop_last = seed, shuffle, drop_last
        if len(self) == 0:
            what = (
                f"{counted(x.shape[0], 'row')} cannot fill a batch of {batch_size}"
                if drop_last
                else "the data has no rows"
            )
            raise DataError(f"{what}: nothing to train on")
        self.augment: list[Augmentation] = several("an augmentation", augment, Callable)
        self.image_shape = tuple(image_shape or x.shape[1:])
        if self.augment and (len(self.image_shape) != 3 or math.prod(self.image_shape) != math.prod(x.shape[1:])):
            raise DataError(
                "what can be augmented are images (height, width, channels), and the inputs are of shape "
                f"{tuple(x.shape[1:])}: give them that shape, or a Dataset with image_shape"
            )
        self.streamed = isinstance(x, Streamed)
        if self.streamed and self.device.backend == "cupy":
            chunk = min(a.chunk(batch_size) for a in (x, y))
            x.begin(chunk)
            y.begin(chunk)
        self.dtype = self.device.dtype(precision(dtype))

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        n = self.x.shape[0]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[tuple[Array, Array]]:
        """The batches (x, y) of epoch `number`, from the one numbered `start`."""
        order = self.order(number)
        for i in range(start, len(self)):
            yield self.batch(i, order, number)

    def order(self, number: int) -> Array | None:
        """The rows of epoch `number` in their order, as row numbers where the data is; None for as they are."""
        if not self.shuffle:
            return None
        n = self.x.shape[0]
        if callable(self.shuffle):
            order = self.shuffle(number, n)
        else:
            order = generator(self.seed, "order", number).permutation(n)
        order = to_host(order) if self.streamed else self.device.asarray(order)
        if order.shape != (n,):
            raise DataError(f"the order has shape {tuple(order.shape)}, expected ({n},): the number of each row once")
        return order

    def batch(self, i: int, order: Array | None, number: int) -> tuple[Array, Array]:
        """Batch i (x, y) of epoch `number`, which has this order."""
        xp, first, size = self.device.xp, i * self.batch_size, self.batch_size
        if self.streamed:
            x, y = self.x.rows(first, size, order), self.y.rows(first, size, order)
        elif order is None:
            x, y = rows(self.x, first, size), rows(self.y, first, size)
        else:
            chosen = rows(order, first, size)
            x, y = xp.take(self.x, chosen, axis=0), xp.take(self.y, chosen, axis=0)
        x = as_input(x, self.dtype, xp)
        if self.augment:
            shape, x = x.shape, xp.reshape(x, (-1, *self.image_shape))
            rng = generator(self.seed, "augment", number, i)
            for change in self.augment:
                x = change(x, rng)
            x = xp.reshape(x, shape)
        return x, y


def rows(x: Array, start: int, size: int) -> Array:
    """The `size` rows of x from `start`, or as many as there are: a slice that the standard allows."""
    if isinstance(x, Streamed):
        return x.rows(start, size)
    return x[start : min(start + size, x.shape[0]), ...]


def as_input(x: Array, dtype: object, xp: object) -> Array:
    """Images in bytes (uint8) as numbers from 0 to 1, as PyTorch's ToTensor makes of them; other arrays as they are."""
    if x.dtype == xp.uint8:  # type: ignore[attr-defined]
        x = xp.astype(x, dtype)  # type: ignore[attr-defined]
        x /= 255.0
    return x
