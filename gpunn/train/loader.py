"""Data for a trainer: brought to its device, or left on the host to be streamed, and looked at on the way."""

import math
import numbers
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpunn.checks import whole
from gpunn.data.batches import as_input, rows
from gpunn.data.dataset import Dataset, split_rows
from gpunn.data.streamed import Streamed
from gpunn.device import Array, Device, to_host
from gpunn.device import device as find_device
from gpunn.errors import DataError, ShapeError
from gpunn.layers import Layer
from gpunn.losses import Loss
from gpunn.train.diagnose import refuse_gaps

__all__ = ["Loader"]

SHARE = 0.5  # of the memory that is free, the most that a data set is given: the rest is for activations

Pair = tuple[Array, Array]


class Loader:
    """Brings inputs and targets of any library to where a network is, as numbers of its data type, and checks them.

    Inputs in bytes (uint8) stay so until they are used. What would take more than SHARE of the free memory of a GPU
    becomes Streamed, with a warning the first time, and so does a file that is mapped into memory (numpy.memmap).
    """

    def __init__(self, net: Layer, device: Device) -> None:
        self.net, self.device, self.dtype = net, device, net.store.dtype
        self.n_out = 0  # outputs of the network, once they are known
        self._told = False  # that data are streamed
        self.graphs: Any = None  # of the trainer, which hold memory

    def pair(self, data: Any, loss: Loss, *, times: int = 1, look: bool = True) -> Pair:
        """Inputs and targets, which become those of `loss`; `times` and `look` as in `inputs`."""
        pair = tuple(data) if isinstance(data, tuple | list | Dataset) else ()
        if len(pair) != 2:
            raise DataError(f"expected data as a pair (X, Y) or a gpunn Dataset, got {type(data).__name__}")
        x, y = pair
        x = self.inputs(x, y, times=times, look=look)
        n_out = self.outputs(x)
        streamed = isinstance(x, Streamed)
        # Targets that fit are computed on the device even so: a mean of weights, say, has the very same bits then.
        where = find_device("cpu") if streamed and not self._fits(_size(y)) else self.device
        y = loss.targets(y, n_out, where, self.dtype)
        if streamed:
            y = to_host(y)
            y = Streamed(y, self.device, y.dtype.name)
        if x.shape[0] != y.shape[0]:
            raise DataError(f"{x.shape[0]} inputs but {y.shape[0]} targets: each input needs one")
        return x, y

    def pairs(self, data: Any, valid: Any, loss: Loss, seed: int) -> tuple[Pair, Pair | None]:
        """Data to train on and to validate with: other data, a share of the same drawn by the seed, or None."""
        split = isinstance(valid, numbers.Real)
        x, y = self.pair(data, loss, times=2 if split else 1)  # a split is a copy
        if not split:
            return (x, y), None if valid is None else self.pair(valid, loss)
        rest, part = split_rows(x.shape[0], float(valid), seed)
        if isinstance(x, Streamed):
            return (x.select(rest), y.select(rest)), (x.select(part), y.select(part))
        rest, part, take = self.device.asarray(rest), self.device.asarray(part), self.device.xp.take
        return (take(x, rest, axis=0), take(y, rest, axis=0)), (take(x, part, axis=0), take(y, part, axis=0))

    def inputs(self, x: Any, y: Any = (), *, times: int = 1, look: bool = True) -> Array:
        """Inputs, with at least one row and all numbers finite; with look=False those that are Streamed are not read.

        y are the targets that go with them, and `times` how often there will be all of that.
        """
        if isinstance(x, Dataset):
            raise DataError(f"expected inputs X, got {x}, which has targets, too: fit(train), predict(test.x)")
        mapped = isinstance(x, np.memmap)
        if mapped or not self.device.holds(x):
            x = to_host(x)
            _refuse_no_rows(x)
            in_bytes = x.dtype == np.uint8
            size = x.size * (1 if in_bytes else np.dtype(self.dtype).itemsize) + _size(y)
            stays = mapped if self.device.on_host else not self._fits(size, times, announce=True)
            if stays:
                x = Streamed(x, self.device, "uint8" if in_bytes else self.dtype)
                if look and not in_bytes:
                    for _ in self.pieces(x, x.chunk(1), look=True):
                        pass
                return x
        x = self.move(x)
        if x.dtype != self.device.xp.uint8:
            refuse_gaps(x)
        return x

    def outputs(self, x: Array) -> int:
        """How many the network has, by its answer for the first row of x. Raises ShapeError if it cannot take that."""
        try:
            self.n_out = self.net.infer(self.scaled(rows(x, 0, 1))).shape[-1]
        except ShapeError as error:
            raise ShapeError(f"{error} (the first row of inputs of shape {tuple(x.shape)})") from None
        return self.n_out

    def move(self, x: Any) -> Array:
        """Inputs on the device: bytes stay bytes, all other numbers become the network's data type."""
        like = self.net.store.values
        if type(x) is type(like) and x.dtype == like.dtype and x.device == like.device and x.shape and x.shape[0]:
            return x
        if self.device.holds(x):
            in_bytes = x.dtype == self.device.xp.uint8
        else:
            x = to_host(x)
            in_bytes = x.dtype == np.uint8
        _refuse_no_rows(x)
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and that is looked for
            return self.device.asarray(x, None if in_bytes else self.dtype)

    def scaled(self, x: Array) -> Array:
        """Inputs as the network takes them: bytes as numbers from 0 to 1."""
        return as_input(x, self.net.store.values.dtype, self.device.xp)

    def pieces(
        self,
        x: Array,
        size: int = 1024,
        compute: Callable[[Array, int], Any] = lambda piece, first: piece,
        *,
        look: bool = False,
    ) -> Iterator[Any]:
        """compute(rows, number of the first) for `size` rows at a time, or fewer where the memory does not suffice.

        `look` for gaps in rows that are streamed and have not been looked at: no second reading of all data for that.
        """
        first, size = 0, whole("batch_size", size, at_least=1)
        look = look and isinstance(x, Streamed) and x.dtype != self.device.xp.uint8

        def computed(piece: Array) -> Any:
            if look:
                refuse_gaps(piece, first)
            return compute(piece, first)

        while first < x.shape[0]:
            result, given_up = None, False
            try:
                result = computed(self.scaled(rows(x, first, size)))
            except MemoryError:
                given_up = self.graphs is not None and self.graphs.make_room()
                if size == 1 and not given_up:
                    raise
            if result is None:
                self.device.release()
                size = size if given_up else -(-size // 2)
            else:
                yield result
                first += size

    def _fits(self, size: int, times: int = 1, announce: bool = False) -> bool:
        """Whether so many bytes of data may go to the device, so many times."""
        free, _ = self.device.memory() or (math.inf, math.inf)
        fits = times * size <= SHARE * free
        if not fits and announce and not self._told:
            self._told = True
            warnings.warn(
                f"the data take {size / 2**20:,.1f} MiB{', and once more to be split' if times > 1 else ''}, which is "
                f"more than {SHARE:.0%} of the {free / 2**20:,.1f} MiB that are free on {self.device}: they stay on "
                "the host, and batches are streamed from there",
                RuntimeWarning,
                stacklevel=2,
            )
        return fits


def _size(y: Any) -> int:
    """The bytes of targets, about: of an array, numbers in lists, or targets and their weights."""
    return sum(map(_size, y)) if isinstance(y, tuple | list) else getattr(y, "nbytes", 8)


def _refuse_no_rows(x: Array) -> None:
    if len(x.shape) == 0 or x.shape[0] == 0:
        raise DataError(f"the inputs have shape {tuple(x.shape)}: there are no rows")
