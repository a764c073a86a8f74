"""The training loop."""

import contextlib
import functools
import itertools
import math
import numbers
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.checks import instance, number, whole
from gpunn.data.augment import Augmentation
from gpunn.data.batches import Batches, as_input, rows
from gpunn.data.dataset import split_rows
from gpunn.data.streamed import Streamed
from gpunn.device import Array, Device, device_of, to_host
from gpunn.device import device as find_device
from gpunn.errors import DataError, Diverged, DtypeError, OptionError, OutOfMemory, ShapeError
from gpunn.layers import Layer, Standardize, activation
from gpunn.losses import Loss, SoftmaxCrossEntropy, pair
from gpunn.optim import Adam, Optimizer
from gpunn.train.diagnose import finite, refuse_gaps, where_not_finite
from gpunn.train.history import History, Row, badness

__all__ = ["Callback", "Trainer"]

SHARE = 0.5  # of the memory that is free, the most that a data set is given: the rest is for activations
FASTER = "tf32", "bfloat16"  # than float32, which the network itself is in
READ_EVERY = 50  # steps between looks at the loss on a GPU: each look waits until the GPU has caught up


def computes_in(dtype: str | None, device: Device) -> bool:
    """Whether a Trainer on this device can be one of this `dtype`."""
    return dtype not in FASTER or (device.backend == "cupy" and os.environ.get("GPUNN_FAST") != "0")


class Callback:
    """What is called during `Trainer.fit`; override what you need.

    `trainer.stop = True` ends the fit after the step or epoch in progress, with the weights as they are then.
    """

    def on_start(self, trainer: "Trainer", epochs: int, batches: int) -> None:
        """Before the first step of a fit of so many epochs, of so many batches each."""

    def on_step(self, trainer: "Trainer") -> None:
        """After every step."""

    def on_epoch(self, trainer: "Trainer", row: Row) -> None:
        """After every epoch, with its row of the history."""

    def on_end(self, trainer: "Trainer") -> None:
        """After the last step, whatever ended the fit."""


class Trainer:
    """Trains a network: batches in, gradients by the network's own backward pass, steps by the optimiser.

        trainer = gn.Trainer(net, loss=gn.SoftmaxCrossEntropy(), optimizer=gn.Adam(1e-3), device="auto", seed=0)
        history = trainer.fit((X, Y), valid=(Xv, Yv), epochs=10, batch_size=64)
        trainer.evaluate((Xt, Yt))          # {"loss": ..., "accuracy": ...}
        trainer.predict(Xt)                 # the network's answers, probabilities for example

    A network without weights is initialised with the seed, on the device, in `dtype`; one that has its weights keeps
    them and is moved. `dtype` is "float32", "float64", or on a CUDA GPU one of two that are faster. "tf32": everything
    is in float32, but matrix products, and with them convolutions, round what they multiply to 11 bits. "bfloat16":
    what passes through the network, forward and backward, has 16 bits, of which 8 are digits where float32 has 24, and
    so has the copy of the weights that it meets there; the network's own weights, their gradients, the optimiser's
    state, means, variances and the loss are in float32. Either way the network is one of float32: only within `fit`,
    `step`, `evaluate` and `predict` is it computed so. `clip_norm` shortens any gradient that is longer. Arrays of any
    library are accepted and moved to the device once. Inputs in bytes (uint8) are taken as images: the network gets
    them as numbers from 0 to 1.

    `graph` is whether steps on a CUDA GPU are captured once and then repeated as a whole (a CUDA graph), which gives
    the same numbers and saves the time of launching each kernel: "auto" where that can be done, with a warning where it
    cannot; True demands it; False does without. What is changed in a layer meanwhile, such as a rate of dropout, counts
    from the next epoch of a fit, or after 50 calls of `step` at most; all else from the next step. Augmentations stay
    outside: a graph begins with what they have made. A CPU has no such thing. Not yet run on a GPU.

    Data that would take more than half of the free memory of a GPU stay on the host, with a warning, and are streamed:
    while the GPU computes, the next batches are on their way to it. The order of the batches, and so the run, is the
    same. Inputs may lie in a file that is larger than the host's memory (numpy.memmap); on a CPU, too, such a file is
    read batch by batch. Data that the caller has put on the GPU are used there.

    Where the memory does not suffice for a batch, its gradient is the sum of those of its halves, its quarters and so
    on, one after another, with a warning: the same but for rounding, other masks of dropout, and BatchNorm's means,
    which are then over the parts.

    Raises LossMismatch for a network whose output does not go with the loss, OptionError, and DeviceUnavailable; in a
    later step CaptureError, for graph=True where a step cannot be captured, and OutOfMemory where not even a single
    row fits.
    """

    def __init__(
        self,
        net: Layer,
        loss: Loss | None = None,
        optimizer: Optimizer | None = None,
        *,
        device: str | Device | None = "auto",
        dtype: str | None = None,
        seed: int = 0,
        clip_norm: float | None = None,
        graph: bool | str = "auto",
    ) -> None:
        self.clip_norm = None if clip_norm is None else number("clip_norm", clip_norm, above=0.0)
        self.net = net = instance("the network to train", net, Layer)
        self.loss = SoftmaxCrossEntropy() if loss is None else loss
        self.optimizer: Optimizer = instance("optimizer", Adam if optimizer is None else optimizer, Optimizer)
        self.device, self.seed = find_device(device), whole("seed", seed)
        self._precision: Callable[[], Any] = contextlib.nullcontext  # what the network is computed in
        self._enters: Any = None  # the data type of what enters the network, where it is not that of the weights
        if not computes_in(dtype, self.device):
            raise OptionError(
                f"dtype {dtype!r} needs gpunn's kernels for CUDA GPUs, and the device is {self.device}: "
                "choose dtype='float32', or device='cuda' without GPUNN_FAST=0"
            )
        if dtype in FASTER:
            self._compute_in(dtype)
            dtype = "float32"
        if not net.initialised:
            net.init(seed, device=self.device, dtype=dtype or "float32")
        elif net.store.device != self.device or dtype not in (None, net.store.dtype):
            net.to(self.device, dtype)
        self.dtype = net.store.dtype
        self.state = self.optimizer.start(net.store)
        self.history = History()
        self.best: dict[str, Any] = {}  # "epoch", "monitor", "value" of the best epoch, "weights" if to be restored
        self._most: float = math.inf  # rows that a batch is cut into parts of, to need less memory
        self._n_out = 0  # outputs of the network, once known
        self._told = False  # that data are streamed
        self.stop = False  # set by a callback or a signal handler: fit ends after the step in progress
        # Where training stands: whole epochs, batches of the epoch that has begun, its losses and time; steps in all.
        self.epoch = self.batch = self.steps = 0
        self.losses, self.seconds = Mean(), 0.0
        self.order: dict[str, Any] = {}  # what decides which rows are in which batch
        self._graphs = self._graphs_for(graph)

    @property
    def loss(self) -> Loss:
        """What is made small. It may be changed between fits."""
        return self._given_loss

    @loss.setter
    def loss(self, loss: Loss) -> None:
        self._given_loss: Loss = instance("loss", loss, Loss)
        self._loss = pair(self.net, self._given_loss)

    # --- training

    def fit(
        self,
        data: Any,
        *,
        valid: Any = None,
        epochs: int = 10,
        batch_size: int = 32,
        shuffle: bool | Callable[[int, int], Array] = True,
        drop_last: bool = False,
        augment: Augmentation | Iterable[Augmentation] | None = (),
        monitor: str | None = None,
        patience: int | None = None,
        restore_best: bool = False,
        verbose: bool = False,
        callbacks: Callback | Iterable[Callback] = (),
    ) -> History:
        """Train for `epochs` more epochs on data = (X, Y), and return the history of all epochs so far.

        `valid` is (X, Y) to measure on after every epoch, or a fraction of the data to set aside for it. The epoch
        that is best in `monitor` ("valid_loss" where there is validation data, else "loss", which is of the weights
        before each step) is remembered: `patience` ends training after so many epochs without a better one, counted
        over all fits that monitor the same, `restore_best` puts back the weights of the best one at the end, unless a
        callback has stopped the fit. `shuffle` is as in gn.Batches. `verbose` prints a table with a line per epoch.
        `augment` changes the images of every batch (see gpunn.data.augment): X must be (N, height, width, channels)
        then, or data a Dataset of images.

        A fit that was stopped goes on when called again, from the very batch it had come to. Raises DataError,
        ShapeError or DtypeError for data that does not fit, Diverged when the loss or a weight is no longer a finite
        number: the network then has the weights from which the loss could not be computed.
        """
        epochs, batch_size = whole("epochs", epochs), whole("batch_size", batch_size, at_least=1)
        patience = None if patience is None else whole("patience", patience, at_least=1)
        listed = [callbacks] if isinstance(callbacks, Callback | type) else callbacks or ()
        if self._graphs is not None:
            self._graphs.forget_data(data)  # whose memory may be wanted
        (x, y), valid = self._load_both(data, valid)
        monitor = self._monitored(monitor, valid)
        batches = Batches(
            x,
            y,
            batch_size,
            seed=self.seed,
            shuffle=shuffle,
            drop_last=drop_last,
            dtype=self.dtype,
            augment=augment,
            image_shape=getattr(data, "image_shape", None),
        )
        order = {"rows": x.shape[0], "batch_size": batch_size, "shuffle": bool(shuffle), "drop_last": bool(drop_last)}
        self._check_order(order)
        callbacks = [instance("a callback", callback, Callback) for callback in [*listed, *_table(verbose)]]
        self.stop = False
        try:
            for callback in callbacks:
                callback.on_start(self, epochs, len(batches))
            # a loss that is not finite is reported by name instead
            with np.errstate(over="ignore", invalid="ignore"):
                self._run(batches, valid, epochs, monitor, patience, restore_best, callbacks)
        finally:
            for callback in callbacks:
                callback.on_end(self)
        if restore_best and not self.stop and "weights" in self.best:
            self.net.load_state_dict(self.best["weights"])
        return self.history

    def _run(
        self,
        batches: Batches,
        valid: tuple[Array, Array] | None,
        epochs: int,
        monitor: str,
        patience: int | None,
        restore_best: bool,
        callbacks: list[Callback],
    ) -> None:
        good = None  # where training stood when all was last seen to be well
        for epoch in range(self.epoch, self.epoch + epochs):
            begun = time.perf_counter()
            for take_step in self._steps_of(batches, epoch):
                if not self.device.on_host and (good is None or self.batch % READ_EVERY == 0):
                    self._check_losses(batches, good)
                    good = self._snapshot()
                take_step()
                for callback in callbacks:
                    callback.on_step(self)
                if self.stop and self.batch < len(batches):
                    self._check_losses(batches, good)
                    self.seconds += time.perf_counter() - begun
                    return
            self._check_losses(batches, good)
            row = self._end_epoch(batches, valid, begun)
            self._remember_best(row, monitor, restore_best)
            for callback in callbacks:
                callback.on_epoch(self, row)
            if self.stop or (patience is not None and self.epoch - self.best["epoch"] >= patience):
                return

    def step(self, x: Any, y: Any) -> Array:
        """One update on one batch; returns its loss, before the update, as a 0-d array on the device.

        x (N, ...) and y are arrays of any library. Raises ShapeError, DtypeError or DataError where they do not fit,
        and on a CPU Diverged if the loss is not finite; on a GPU nothing waits for the loss.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            x = self._move(x)
            if self._graphs is not None and self._n_out:
                y = self._loss.targets(y, self._n_out, self.device, self.dtype, look=not self.device.holds(y))
                if (loss := self._graphs.step(x, y)) is not None:
                    return loss
            return self._update(self._scaled(x), y, new=True)

    def _update(self, x: Array, y: Any, *, new: bool = False, look: bool = False) -> Array:
        """`new` data is checked; `look` at the loss even where that waits for a GPU."""
        look = look or self.device.on_host
        loss = None
        while loss is None:
            try:
                loss = self._gradient(x, y, self.steps, new=new, look=look)
            except MemoryError:
                if min(self._most, x.shape[0]) == 1:
                    raise self._out_of_memory() from None
            if loss is None:  # no longer in `except`, which holds what the pass has made
                self._make_room(x.shape[0])
        self._descend()
        self.steps += 1
        return loss

    def _gradient(self, x: Array, y: Any, step: Any, *, new: bool = False, look: bool = False) -> Array:
        """The loss of a batch; its gradient is left in the network's store. `step` may be a number on the device.

        Of a whole batch, in the data type of the weights, it comes to

            z, cache = net.forward(x, train=True, key=(seed, step))
            l, loss_cache = loss.forward(z, y)
            net.backward(loss.backward(loss_cache), cache, need_dx=False)

        A batch in parts has the losses l_i on n_i of its N rows, and L = sum_i n_i/N l_i: so has the gradient.
        """
        net, n, total = self.net, x.shape[0], None
        net.zero_grad()  # what a step that was broken off left does not count
        size = int(min(n, self._most))
        in_one = size == n
        with self._precision():
            for first in range(0, n, size):
                part = x if in_one else rows(x, first, size)
                key = (self.seed, step) if not first else (self.seed, step, f"row{first}")
                z, cache = net.forward(self._entering(part), train=True, key=key)
                passing, z = z.dtype, self._leaving(z)
                if new:
                    on_host = self.device.on_host or not self.device.holds(y)  # labels on a GPU would be waited for
                    y, self._n_out = self._loss.targets(y, z.shape[-1], self.device, self.dtype, on_host), z.shape[-1]
                    new = False
                loss, loss_cache = self._loss.forward(z, y if in_one else rows(y, first, size))
                if look and not math.isfinite(loss):
                    raise self._diverged([part], float(loss), self.steps)
                dz = self._loss.backward(loss_cache)
                if not in_one:
                    share = part.shape[0] / n
                    loss, dz = loss * share, dz * share
                net.backward(dz if self._enters is None else ops.cast(dz, passing), cache, need_dx=False)
                total = loss if total is None else total + loss
        return total

    def _compute_in(self, dtype: str) -> None:
        """See `dtype` in the docstring of the class. Raises OptionError where a package is missing."""
        if dtype == "tf32":
            from gpunn.kernels.cuda.product import tf32

            self._precision = tf32
            return
        from gpunn.kernels.cuda.module import bfloat16

        self._narrow = bfloat16()
        self._precision = self._rounded
        # Features to be standardised may differ in later digits only: they are rounded once that is done.
        standardizes = any(isinstance(layer, Standardize) for _, layer in self.net.walk())
        self._enters = self.device.dtype("float32") if standardizes else self._narrow

    def _rounded(self) -> contextlib.AbstractContextManager[None]:
        return self.net.store.rounded(self._narrow)

    def _entering(self, x: Array) -> Array:
        return x if self._enters is None else ops.cast(x, self._enters)

    def _leaving(self, z: Array) -> Array:
        """The network's last numbers, in the type of the weights."""
        return z if self._enters is None else ops.cast(z, self.net.store.values.dtype)

    def _descend(self) -> None:
        """Clip the gradient, and take the optimiser's step by it."""
        if self.clip_norm is not None:
            ops.clip_by_norm(self.net.store.gradient(), limit=self.clip_norm)
        self.optimizer.update(self.net.store, self.state, self.steps)

    def _make_room(self, batch: int) -> None:
        """Cut batches into smaller parts from now on, half of those that did not fit."""
        self.device.release()
        if self._most == math.inf:
            warnings.warn(
                f"{self.device} has too little memory for a batch of {batch} rows: gradients are summed over parts of "
                f"{-(-batch // 2)} rows, or fewer if need be. A smaller batch_size does without",
                RuntimeWarning,
                stacklevel=2,
            )
        self._most = -(-int(min(self._most, batch)) // 2)

    def _out_of_memory(self) -> OutOfMemory:
        count = sum(math.prod(array.shape) for array in [*self._kept(), self.net.store.grads])
        held = count * np.dtype(self.dtype).itemsize / 2**20
        free, total = (n / 2**20 for n in self.device.memory() or (math.nan, math.nan))
        return OutOfMemory(
            f"{self.device} has too little memory for a step on a single row: {self.net.store.size:,} parameters, with "
            f"their gradients and what {type(self.optimizer).__name__} keeps, take {held:,.1f} MiB, and {free:,.0f} of "
            f"{total:,.0f} MiB are free. A smaller network, or smaller inputs, would fit"
        )

    def _graphs_for(self, graph: bool | str) -> Any:
        if graph not in (True, False, "auto"):
            raise OptionError(f"graph must be True, False or 'auto', got {graph!r}")
        if self.device.backend != "cupy":
            if graph is True:
                raise OptionError(
                    f"graph=True needs a CUDA GPU, and the device is {self.device}: leave graph at 'auto'"
                )
            return None
        if not graph or os.environ.get("GPUNN_FAST") == "0":
            return None
        from gpunn.train.graph import Graphs

        return Graphs(self, insist=graph is True)

    def _steps_of(self, batches: Batches, epoch: int) -> Iterator[Callable[[], None]]:
        """For each batch that is left of the epoch a function that takes the step."""
        if self._graphs is not None:
            yield from self._graphs.fit(batches, epoch)
        for x, y in batches.epoch(epoch, start=self.batch):
            yield functools.partial(self._advance, x, y)

    def _advance(self, x: Array, y: Array, look: bool = False) -> None:
        self.losses.add(self._update(x, y, look=look), x.shape[0])
        self.batch += 1

    def _end_epoch(self, batches: Batches, valid: tuple[Array, Array] | None, begun: float) -> Row:
        lr = self.optimizer.learning_rate(self.steps - 1)
        row: Row = {"epoch": self.epoch + 1, "step": self.steps, "lr": lr, "loss": self.losses.read()}
        if not finite(self.net.store.values):  # the last step may have done that
            raise self._diverged(self._pieces(batches.x), "NaN or infinite", self.steps - 1, "weights")
        if valid is not None:
            row |= {f"valid_{name}": value for name, value in self._measure(*valid).items()}
            if not math.isfinite(row["valid_loss"]):
                raise self._diverged(self._pieces(valid[0]), row["valid_loss"], self.steps - 1, "validation loss")
        row["seconds"] = self.seconds + time.perf_counter() - begun
        self.history.rows.append(row)
        self.epoch, self.batch, self.losses, self.seconds = self.epoch + 1, 0, Mean(), 0.0
        return row

    def _remember_best(self, row: Row, monitor: str, restore_best: bool) -> None:
        if self.best.get("monitor") != monitor or (restore_best and "weights" not in self.best):
            self.best = {}  # of another figure, or of weights that were not kept: begin anew
        if not self.best or badness(monitor, row[monitor]) < badness(monitor, self.best["value"]):
            self.best = {"epoch": self.epoch, "monitor": monitor, "value": row[monitor]}
            if restore_best:
                self.best["weights"] = self.net.state_dict()

    def _kept(self) -> list[Array]:
        """All arrays that training changes."""
        store = self.net.store
        return [store.values, *self.state.values(), *(buffer.value for buffer in store.buffers.values())]

    def _snapshot(self) -> tuple[Any, ...]:
        arrays = [self.device.xp.asarray(array, copy=True) for array in self._kept()]
        return self.steps, self.batch, self.losses.total, self.losses.weight, arrays

    def _check_losses(self, batches: Batches, good: tuple[Any, ...] | None) -> None:
        """Raise Diverged if a loss since the last look is not finite.

        The weights are no longer finite either by then: so go back to where all was well, and look at each step.
        """
        losses, done = self.losses.look(), self.steps
        wrong = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)
        if wrong is None:
            return
        step = done - len(losses) + wrong
        if good is None:
            raise self._diverged(self._pieces(batches.x), losses[wrong], step)
        self.steps, self.batch, total, weight, arrays = good
        self.losses = Mean(total, weight)
        for array, before in zip(self._kept(), arrays, strict=True):
            array[...] = before
        for x, y in itertools.islice(batches.epoch(self.epoch, start=self.batch), done - self.steps):
            self._advance(x, y, look=True)
        raise self._diverged([], losses[wrong], step)  # only the first time: not by the steps

    def _diverged(self, pieces: Iterable[Array], value: object, step: int, what: str = "loss") -> Diverged:
        with np.errstate(all="ignore"):
            found = (where_not_finite(self.net, x) for x in pieces)
            where = next(filter(None, found), "the loss itself")
        mend = f"Try a smaller learning rate (it is {self.optimizer.learning_rate(step):g}) or clip_norm=1.0"
        return Diverged(
            f"the {what} became {value} in step {step + 1} (epoch {self.epoch + 1}); the first numbers that are not "
            f"finite are in {where}. {'Remove such rows, or fill them in' if where == 'the inputs' else mend}"
        )

    # --- using the network

    def evaluate(self, data: Any, batch_size: int = 1024) -> dict[str, float]:
        """{"loss": ..., "accuracy": ...} on data = (X, Y), over all rows; accuracy where targets are classes.

        `batch_size` rows are computed at a time. Raises DataError, ShapeError or DtypeError for data that does not fit.
        """
        return self._measure(*self._load(data, look=False), batch_size, look=True)

    def predict(self, X: Any, batch_size: int = 1024) -> Any:
        """The network's answers for X (N, ...), with its output function (or else the loss's) applied: (N, C).

        They come as an array of the library and device of X; as NumPy for a list. Raises DataError, ShapeError or
        DtypeError for inputs that do not fit.
        """
        output = self.net.output or activation(self.loss.output)
        x = self._inputs(X, look=False)
        try:
            like = device_of(X)
        except DtypeError:
            like = find_device("cpu")
        home = like if isinstance(x, Streamed) else self.device  # answers to what is too large may be so, too
        pieces = self._by_pieces(x, batch_size, lambda x, _: output(self._infer(x)), look=True)
        answers = [home.asarray(answer) for answer in pieces]
        return like.asarray(home.xp.concat(answers, axis=0))

    def _infer(self, x: Array) -> Array:
        with self._precision():
            return self._leaving(self.net.infer(self._entering(x)))

    def _measure(self, x: Array, y: Array, batch_size: int = 1024, look: bool = False) -> dict[str, float]:
        losses, right = Mean(), 0.0

        def measure(piece: Array, first: int) -> tuple[Array, int, float]:
            z, t = self._infer(piece), rows(y, first, piece.shape[0])
            correct = float(self.loss.correct(z, t)) if self.loss.classifies else 0.0
            return self._loss.forward(z, t)[0], piece.shape[0], correct

        for loss, n, correct in self._by_pieces(x, batch_size, measure, look):
            losses.add(loss, n)
            right += correct
        return {"loss": losses.read()} | ({"accuracy": right / x.shape[0]} if self.loss.classifies else {})

    def _by_pieces(
        self, x: Array, size: int, compute: Callable[[Array, int], Any], look: bool = False
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
            result = None
            try:
                result = computed(self._scaled(rows(x, first, size)))
            except MemoryError:
                if size == 1:
                    raise
            if result is None:
                self.device.release()
                size = -(-size // 2)
            else:
                yield result
                first += size

    def _pieces(self, x: Array) -> Iterator[Array]:
        return self._by_pieces(x, 1024, lambda piece, _: piece)

    # --- bringing data in

    def _move(self, x: Any) -> Array:
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

    def _scaled(self, x: Array) -> Array:
        return as_input(x, self.net.store.values.dtype, self.device.xp)

    def _inputs(self, x: Any, y: Any = (), times: int = 1, look: bool = True) -> Array:
        """Inputs on the device, or Streamed, checked: at least one row, all numbers finite (Streamed: if `look`).

        y are the targets that go with them, and `times` how often there will be all of that.
        """
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
                    for _ in self._by_pieces(x, x.chunk(1), lambda *_: True, look=True):
                        pass
                return x
        x = self._move(x)
        if x.dtype != self.device.xp.uint8:
            refuse_gaps(x)
        return x

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

    def _load(self, data: Any, times: int = 1, look: bool = True) -> tuple[Array, Array]:
        """Inputs and targets on the device, or Streamed, checked."""
        try:
            x, y = data
        except (TypeError, ValueError):
            raise DataError(f"expected data as a pair (X, Y) or a gpunn Dataset, got {type(data).__name__}") from None
        x = self._inputs(x, y, times, look)
        try:
            n_out = self.net.infer(self._scaled(rows(x, 0, 1))).shape[-1]
        except ShapeError as error:
            raise ShapeError(f"{error} (the first row of inputs of shape {tuple(x.shape)})") from None
        streamed = isinstance(x, Streamed)
        # Targets that fit are computed on the device even so: a mean of weights, say, has the very same bits then.
        where = find_device("cpu") if streamed and not self._fits(_size(y)) else self.device
        y = self._loss.targets(y, n_out, where, self.dtype)
        if streamed:
            y = to_host(y)
            y = Streamed(y, self.device, y.dtype.name)
        if x.shape[0] != y.shape[0]:
            raise DataError(f"{x.shape[0]} inputs but {y.shape[0]} targets: each input needs one")
        return x, y

    def _load_both(self, data: Any, valid: Any) -> tuple[tuple[Array, Array], tuple[Array, Array] | None]:
        split = isinstance(valid, numbers.Real)
        x, y = self._load(data, times=2 if split else 1)  # a split is a copy
        if not split:
            return (x, y), None if valid is None else self._load(valid)
        rest, part = split_rows(x.shape[0], float(valid), self.seed)
        if isinstance(x, Streamed):
            return (x.select(rest), y.select(rest)), (x.select(part), y.select(part))
        rest, part, take = self.device.asarray(rest), self.device.asarray(part), self.device.xp.take
        return (take(x, rest, axis=0), take(y, rest, axis=0)), (take(x, part, axis=0), take(y, part, axis=0))

    def _monitored(self, monitor: str | None, valid: Any) -> str:
        known = ["loss"] if valid is None else ["valid_loss", "loss"]
        if valid is not None and self.loss.classifies:
            known.append("valid_accuracy")
        if monitor not in (None, *known):
            raise OptionError(f"monitor {monitor!r} is not measured in this fit; expected {' or '.join(known)}")
        return monitor or known[0]

    def _check_order(self, order: dict[str, Any]) -> None:
        if self.batch and order != self.order:
            raise OptionError(
                f"the epoch that was begun had {self.order}, now it is {order}: go on with the same data and batches, "
                "or build a new Trainer"
            )
        self.order = order


class Mean:
    """A weighted mean of losses. Those that lie on a GPU are not looked at until they are asked for."""

    def __init__(self, total: float = 0.0, weight: float = 0.0) -> None:
        self.total, self.weight = total, weight
        self._unread: list[tuple[Array, int, int | None]] = []

    def add(self, value: Array, weight: int, at: int | None = None) -> None:
        """Count `value`, a 0-d array, or the number at place `at` of an array, `weight` times."""
        self._unread.append((value, weight, at))

    def look(self) -> list[float]:
        """The values added since the last look."""
        values: list[float] = []
        read = held = None  # the array that was brought to the host last
        for value, weight, at in self._unread:
            if at is not None and held is not value:
                read, held = to_host(value), value
            values.append(float(value if at is None else read[at]))  # type: ignore[index]
            self.total += values[-1] * weight
            self.weight += weight
        self._unread.clear()
        return values

    def read(self) -> float:
        """The mean of all that was added."""
        self.look()
        return self.total / self.weight


def _size(y: Any) -> int:
    """The bytes of targets, about: of an array, numbers in lists, or targets and their weights."""
    return sum(map(_size, y)) if isinstance(y, tuple | list) else getattr(y, "nbytes", 8)


def _refuse_no_rows(x: Array) -> None:
    if len(x.shape) == 0 or x.shape[0] == 0:
        raise DataError(f"the inputs have shape {tuple(x.shape)}: there are no rows")


def _table(verbose: bool) -> list[Callback]:
    if not verbose:
        return []
    from gpunn.train.table import EpochTable

    return [EpochTable()]
