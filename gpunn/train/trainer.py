"""The training loop."""

import contextlib
import functools
import itertools
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.checks import instance, number, positional, several, whole
from gpunn.data.augment import Augmentation
from gpunn.data.batches import Batches, rows
from gpunn.data.streamed import Streamed
from gpunn.device import Array, Device, device_of
from gpunn.device import device as find_device
from gpunn.errors import Diverged, DtypeError, OptionError, OutOfMemory
from gpunn.layers import Layer, activation
from gpunn.losses import Loss, SoftmaxCrossEntropy, pair
from gpunn.optim import Adam, Optimizer
from gpunn.train.diagnose import finite, where_not_finite
from gpunn.train.history import History, Row, badness
from gpunn.train.loader import Loader
from gpunn.train.mean import Mean
from gpunn.train.precision import Precision

__all__ = ["Callback", "Trainer"]

READ_EVERY = 50  # steps between looks at the loss on a GPU: each look waits until the GPU has caught up


class Callback:
    """What is called during `Trainer.fit`; override what you need.

    `trainer.stop = True` ends the fit after the step or epoch in progress, with the weights as they are then.
    """

    def on_start(self, trainer: "Trainer", epochs: int, batches: int) -> None:
        """Before the first step of a fit of `epochs` epochs, each of `batches` batches."""

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
    what passes through the network, forward and backward, has 16 bits, 8 of them for digits where float32 has 24, and
    so has the copy of the weights that is used there; the network's own weights, their gradients, the optimiser's
    state, means, variances and the loss are in float32. Either way the network itself is float32: only `fit`, `step`,
    `evaluate` and `predict` compute it so. `clip_norm` shortens any gradient that is longer. Arrays of any library are
    accepted and moved to the device once. Inputs in bytes (uint8) are taken as images: the network gets them as numbers
    from 0 to 1.

    `graph` is whether steps on a CUDA GPU are captured once and then repeated as a whole (a CUDA graph), which gives
    the same numbers and saves the time of launching each kernel: "auto" where that can be done, with a warning where it
    cannot; True demands it; False does without. If an attribute of a layer is changed meanwhile, such as the rate of a
    Dropout, this counts from the next epoch of a fit, or after at most 50 calls of `step`; all other changes from the
    next step. Augmentations stay outside: a graph begins with the images they have made. A CPU has no graphs. Not yet
    run on a GPU.

    `tune` has every matrix product and convolution on a CUDA GPU tried with several algorithms when it is first made,
    which takes some milliseconds each; the fastest is used from then on. Which one that is may differ from run to run,
    and with it the last digits; without `tune` the libraries' own choice is always the same.

    Data that would take more than half of the free memory of a GPU stay on the host, with a warning, and are streamed:
    while the GPU computes, the next batches are on their way to it. The order of the batches, and so the run, is the
    same. Inputs may lie in a file that is larger than the host's memory (numpy.memmap); on a CPU, too, such a file is
    read batch by batch. Data that the caller has put on the GPU are used there.

    Where the memory does not suffice for a batch, graphs are given up, unless graph=True demands them; if that is not
    enough, the gradient is summed over halves of the batch, or quarters and so on: the same but for rounding, other
    masks of dropout, and BatchNorm's means, which are then over the parts. There is a warning either way.

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
        tune: bool = False,
    ) -> None:
        self.clip_norm = None if clip_norm is None else number("clip_norm", clip_norm, above=0.0)
        self.net = net = instance("the network to train", net, Layer)
        self.loss = SoftmaxCrossEntropy() if loss is None else loss
        self.optimizer: Optimizer = instance("optimizer", Adam if optimizer is None else optimizer, Optimizer)
        self.device, self.seed = find_device(device), whole("seed", seed)
        if tune not in (True, False):
            raise OptionError(f"tune must be True or False, got {tune!r}")
        self._precision = Precision(dtype, net, self.device, tune)
        dtype = self._precision.of_weights
        if not net.initialised:
            net.init(seed, device=self.device, dtype=dtype or "float32")
        elif net.store.device != self.device or dtype not in (None, net.store.dtype):
            net.to(self.device, dtype)
        self.dtype, self._loader = net.store.dtype, Loader(net, self.device)
        self.state = self.optimizer.start(net.store)
        self.history = History()
        self.best: dict[str, Any] = {}  # "epoch", "monitor", "value" of the best epoch, "weights" if to be restored
        self._most: float = math.inf  # rows that a batch is cut into parts of, to need less memory
        self.stop = False  # set by a callback or a signal handler: fit ends after the step in progress
        # Where training stands: whole epochs, batches of the epoch that has begun, its losses and time; steps in all.
        self.epoch = self.batch = self.steps = 0
        self.losses, self.seconds = Mean(), 0.0
        self.order: dict[str, Any] = {}  # what decides which rows are in which batch
        self._graphs = self._loader.graphs = self._graphs_for(graph)

    @property
    def loss(self) -> Loss:
        """What is made small. It may be changed between fits."""
        return self._given_loss

    @loss.setter
    def loss(self, loss: Loss) -> None:
        self._given_loss: Loss = instance("loss", loss, Loss)
        self._loss = pair(self.net, self._given_loss)

    # --- training

    @positional(2, "fit takes the data as one argument, all else by name: fit((X, y), valid=(Xv, yv), epochs=10)")
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
        before each step) is remembered. `patience` ends training after that many epochs without a better one, counted
        over all fits that monitor the same; `restore_best` puts back the best epoch's weights at the end, unless a
        callback has stopped the fit. `shuffle` is as in gn.Batches. `verbose` prints a table with a line per epoch.
        `augment` changes the images of every batch (see gpunn.data.augment): X must be (N, height, width, channels)
        then, or data a Dataset of images.

        A fit that was stopped goes on when called again, from the very batch it had come to. Raises DataError,
        ShapeError or DtypeError for data that does not fit, Diverged when the loss or a weight is no longer a finite
        number: the network then has the weights from which the loss could not be computed.
        """
        epochs, batch_size = whole("epochs", epochs), whole("batch_size", batch_size, at_least=1)
        patience = None if patience is None else whole("patience", patience, at_least=1)
        if self._graphs is not None:
            self._graphs.forget_data(data)  # whose memory may be wanted
        (x, y), valid = self._loader.pairs(data, valid, self._loss, self.seed)
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
        callbacks = several("a callback", callbacks, Callback)
        if verbose:
            from gpunn.train.table import EpochTable  # which needs this file

            callbacks.append(EpochTable())
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
            x = self._loader.move(x)
            n_out = self._loader.n_out or self._loader.outputs(x)
            look = self.device.on_host or not self.device.holds(y)  # those on a GPU would be waited for
            y = self._loss.targets(y, n_out, self.device, self.dtype, look)
            if self._graphs is not None and (loss := self._graphs.step(x, y)) is not None:
                return loss
            return self._update(self._loader.scaled(x), y)

    def _update(self, x: Array, y: Array, look: bool = False) -> Array:
        """Take a step, and return its loss; `look` at that before even where it waits for a GPU."""
        loss, look = None, look or self.device.on_host
        buffers = [buffer.value for buffer in self.net.store.buffers.values()] if look else []
        before = self._copies(buffers)
        while loss is None:
            with contextlib.suppress(MemoryError):
                loss = self._gradient(x, y, self.steps)
            if loss is None and not self._make_room(x.shape[0]):
                raise self._out_of_memory()
        if look and not math.isfinite(loss):
            self._put_back(buffers, before)  # a running mean of what is not finite would never be finite again
            raise self._diverged(x, float(loss), self.steps)
        self._descend()
        self.steps += 1
        return loss

    def _gradient(self, x: Array, y: Array, step: Any, rounded: bool = False) -> Array:
        """The loss of a batch; its gradient is left in the network's store. `step` may be a number on the device.

        Of a whole batch, in the data type of the weights, it comes to

            z, cache = net.forward(x, train=True, key=(seed, step))
            l, loss_cache = loss.forward(z, y)
            net.backward(loss.backward(loss_cache), cache, need_dx=False)

        A batch in parts has the losses l_i on n_i of its N rows, and L = sum_i n_i/N l_i: so has the gradient.
        `rounded` is as in `Precision.computing`.
        """
        net, n, total = self.net, x.shape[0], None
        net.zero_grad()  # what a step that was broken off has left does not count
        size = int(min(n, self._most))
        in_one = size == n
        with self._precision.computing(rounded=rounded):
            for first in range(0, n, size):
                part = x if in_one else rows(x, first, size)
                key = (self.seed, step) if not first else (self.seed, step, f"row{first}")
                z, cache = net.forward(self._precision.entering(part), train=True, key=key)
                targets = y if in_one else rows(y, first, size)
                loss, dz = self._precision.gradient(self._loss, z, targets, part.shape[0] / n)
                net.backward(dz, cache, need_dx=False)
                total = loss if total is None else total + loss
        return total

    def _descend(self) -> None:
        """Clip the gradient, and take the optimiser's step by it."""
        if self.clip_norm is not None:
            ops.clip_by_norm(self.net.store.gradient(), limit=self.clip_norm)
        with self._precision.updating():
            self.optimizer.update(self.net.store, self.state, self.steps)

    def _make_room(self, batch: int) -> bool:
        """Do without graphs from now on; or cut batches into parts half as large as those that did not fit.

        Returns whether either could be done.
        """
        given_up = self._graphs is not None and self._graphs.make_room()
        self.device.release()
        if given_up or min(self._most, batch) == 1:
            return given_up
        if self._most == math.inf:
            warnings.warn(
                f"{self.device} has too little memory for a batch of {batch} rows: gradients are summed over parts of "
                f"{-(-batch // 2)} rows, or fewer if need be. A smaller batch_size avoids this",
                RuntimeWarning,
                stacklevel=2,
            )
        self._most = -(-int(min(self._most, batch)) // 2)
        return True

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
            raise self._diverged(batches.x, "NaN or infinite", self.steps - 1, "weights")
        if valid is not None:
            row |= {f"valid_{name}": value for name, value in self._measure(*valid).items()}
            if not math.isfinite(row["valid_loss"]):
                raise self._diverged(valid[0], row["valid_loss"], self.steps - 1, "validation loss")
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
        return self.steps, self.batch, self.losses.total, self.losses.weight, self._copies(self._kept())

    def _copies(self, arrays: list[Array]) -> list[Array]:
        return [self.device.xp.asarray(array, copy=True) for array in arrays]

    @staticmethod
    def _put_back(arrays: list[Array], copies: list[Array]) -> None:
        for array, copy in zip(arrays, copies, strict=True):
            array[...] = copy

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
            raise self._diverged(batches.x, losses[wrong], step)
        self.steps, self.batch, total, weight, arrays = good
        self.losses = Mean(total, weight)
        self._put_back(self._kept(), arrays)
        for x, y in itertools.islice(batches.epoch(self.epoch, start=self.batch), done - self.steps):
            self._advance(x, y, look=True)
        raise self._diverged(None, losses[wrong], step)  # only the first time: not by the steps

    def _diverged(self, x: Array | None, value: object, step: int, what: str = "loss") -> Diverged:
        with np.errstate(all="ignore"):
            pieces = () if x is None else self._loader.pieces(x)
            found = (where_not_finite(self.net, piece) for piece in pieces)
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
        return self._measure(*self._loader.pair(data, self._loss, look=False), batch_size=batch_size, look=True)

    def predict(self, X: Any, batch_size: int = 1024) -> Any:
        """The network's answers for X (N, ...), with its output function (or else the loss's) applied: (N, C).

        They come as an array of the library and device of X; as NumPy for a list. Raises DataError, ShapeError or
        DtypeError for inputs that do not fit.
        """
        output = self.net.output or activation(self.loss.output)
        x = self._loader.inputs(X, look=False)
        try:
            like = device_of(X)
        except DtypeError:
            like = find_device("cpu")
        home = like if isinstance(x, Streamed) else self.device  # answers to what is too large may be so, too
        pieces = self._loader.pieces(x, batch_size, lambda x, _: output(self._infer(x)), look=True)
        answers = [home.asarray(answer) for answer in pieces]
        return like.asarray(home.xp.concat(answers, axis=0))

    def _infer(self, x: Array) -> Array:
        with self._precision.computing():
            return self._precision.leaving(self.net.infer(self._precision.entering(x)))

    def _measure(self, x: Array, y: Array, batch_size: int = 1024, look: bool = False) -> dict[str, float]:
        losses, right = Mean(), 0.0

        def measure(piece: Array, first: int) -> tuple[Array, int, float]:
            z, t = self._infer(piece), rows(y, first, piece.shape[0])
            correct = float(self.loss.correct(z, t)) if self.loss.classifies else 0.0
            return self._loss.forward(z, t)[0], piece.shape[0], correct

        for loss, n, correct in self._loader.pieces(x, batch_size, measure, look=look):
            losses.add(loss, n)
            right += correct
        return {"loss": losses.read()} | ({"accuracy": right / x.shape[0]} if self.loss.classifies else {})

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
