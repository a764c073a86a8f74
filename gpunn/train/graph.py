"""Training steps by CUDA graphs: a whole step captured once, then repeated with one call.

A small network's step is dozens of short kernels, and to launch them one by one takes longer than to run them. Steps of
one shape are taken as usual until WARM_UP of them have been; then one is captured: taking the batch from the data,
forward, loss, backward, clipping, update. Two replays are compared with two usual steps from the same place, and the
graph is used only if they agree. Whatever changes from step to step is sent to the device for TABLE steps at a time.
Images that are augmented, and the batches of `Trainer.step`, are copied to where the graph begins with them.

Where a step cannot be captured, training goes on as usual, with a warning that says why. Not yet run on a GPU.
"""

import functools
import itertools
import math
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunn.data.batches import Batches
from gpunn.data.dataset import Dataset
from gpunn.device import Array
from gpunn.errors import CaptureError
from gpunn.kernels.cuda.constants import constants_of, placed
from gpunn.kernels.cuda.graph import Graph, Tables
from gpunn.layers import Layer
from gpunn.train.loader import Pair

if TYPE_CHECKING:
    from gpunn.train.trainer import Trainer

__all__ = ["Graphs"]

WARM_UP = 10  # steps of one shape that are taken as usual before one is captured
TABLE = 50  # steps whose numbers are sent to the device at a time
MOST = 8  # graphs of one trainer: batches of still other shapes are taken as usual

Key = tuple[Any, ...]


class Graphs:
    """Takes the steps of a trainer by graphs. With `insist` what cannot be captured is an error, not a warning."""

    def __init__(self, trainer: "Trainer", insist: bool) -> None:
        self.trainer, self.insist, self.off = trainer, insist, False
        self._steps: dict[Key, Step] = {}
        self._seen: Counter[Key] = Counter()
        self._fixed: tuple[list[Any], list[Any]] = ([], [])

    def fit(self, batches: Batches, epoch: int) -> Iterator[Callable[[], None]]:
        """For each batch that is left of the epoch a function that takes the step; ends early where graphs give up."""
        if self.off:
            return
        if batches.augment:
            yield from self._augmented(batches, epoch)
            return
        t, size, n = self.trainer, batches.batch_size, batches.x.shape[0]
        x, y = (batches.x.ring, batches.y.ring) if batches.streamed else (batches.x, batches.y)
        order, places = self._order(batches, epoch, x, y)
        self._forget_outdated(data=(id(x), id(y)))

        while not self.off and t.batch < len(batches):
            first = t.batch * size
            left, start = n - first, first
            if batches.streamed:
                start = batches.x.reach(first, size, order)
                batches.y.reach(first, size, order)
            coming = places[start : start + left]
            rows = coming[:size]
            key = id(x), id(y), rows.shape[0]
            batch = functools.partial(batches.batch, t.batch, order, epoch)
            step = self._step(key, batch, (x, y), rows)
            if step is not None:
                yield functools.partial(self._replay, key, batch, coming, len(batches) - t.batch)
            elif not self.off:
                yield functools.partial(t._advance, *batch())

    def _augmented(self, batches: Batches, epoch: int) -> Iterator[Callable[[], None]]:
        """`fit` for batches that are made one by one, of random numbers from the host: the graph begins after that."""
        t, order = self.trainer, batches.order(epoch)
        self._forget_outdated()

        def advance(x: Array, y: Array) -> None:
            if (taken := self._given(x, y)) is None:
                t._advance(x, y)
            else:
                t.losses.add(taken[0], x.shape[0], at=taken[1])
                t.batch += 1

        while not self.off and t.batch < len(batches):
            yield functools.partial(advance, *batches.batch(t.batch, order, epoch))

    def _replay(self, key: Key, batch: Callable[[], Pair], order: Array, batches: int) -> None:
        """Take a step by its graph; `order` and `batches` are those that are left of the epoch."""
        t, step = self.trainer, self._steps[key]
        count = min(batches, TABLE, order.shape[0] // step.rows)
        if not (step.is_sent(t) or step.send(t, order, count)):
            del self._steps[key]
            t._advance(*batch())
            return
        t.losses.add(step.losses, step.rows, at=step.replay(t))
        t.batch += 1

    def step(self, x: Array, y: Array) -> Array | None:
        """The loss of a step on a batch that lies on the device; None where it is to be taken as usual."""
        taken = self._given(x, y)
        return None if taken is None else taken[0][taken[1]]

    def _given(self, x: Array, y: Array) -> tuple[Array, int] | None:
        """`step`; the loss as its place in an array."""
        if self.off:
            return None
        t, key = self.trainer, ("given", x.shape, x.dtype, y.shape, y.dtype)
        step = self._steps.get(key)
        if step is None or not step.is_sent(t):
            self._forget_outdated()
            step = self._step(key, lambda: (t._loader.scaled(x), y), (x, y), None)
            if step is None:
                return None
            if not step.send(t, None, TABLE):
                del self._steps[key]
                return None
        return step.losses, step.replay(t, (x, y))

    def _order(self, batches: Batches, epoch: int, x: Array, y: Array) -> tuple[Array, Array]:
        """The order of the epoch, and the places in x and y of its rows."""
        n, device = batches.x.shape[0], self.trainer.device
        if not (x.flags.c_contiguous and y.flags.c_contiguous):
            self._give_up(CaptureError("the data does not lie in one piece, row after row: X.copy() would"))
        order = batches.order(epoch)
        if batches.streamed:  # once around the ring, and on for the steps whose numbers are sent together
            size = x.shape[0]
            return order, device.asarray(np.arange(size + TABLE * batches.batch_size) % size, "int64")
        order = device.asarray(np.arange(n) if order is None else order, "int64")
        if callable(batches.shuffle) and not (int(order.min()) >= 0 and int(order.max()) < n):
            self._give_up(CaptureError(f"the order is not of {n} numbers from 0 to {n - 1}"))
        return order, order

    def _forget_outdated(self, data: Key | None = None) -> None:
        """Drop graphs with something in them that is no longer so, and those of other data than the fit's."""
        t = self.trainer
        objects = [t._loss, t.optimizer, t.net.store.grads, *t._kept()]
        values = [repr(t.net), repr(t.loss), t.clip_norm, t._most]
        before, others = self._fixed
        if values != others or len(objects) != len(before) or any(map(_is_not, objects, before)):
            self._steps.clear()
            self._fixed = objects, values
        if data is not None:
            self._steps = {key: step for key, step in self._steps.items() if key[0] == "given" or key[:2] == data}
        for step in self._steps.values():
            step.left = 0

    def forget_data(self, data: Any) -> None:
        """Drop the graphs of fits on other arrays than these, and with them the arrays."""
        ids = {id(array) for array in data} if isinstance(data, tuple | list | Dataset) else set()
        self._steps = {key: step for key, step in self._steps.items() if key[0] == "given" or key[0] in ids}

    def make_room(self) -> bool:
        """Give up the graphs, whose memory is wanted without them; whether there were any that may be given up."""
        if self.insist or not self._steps:
            return False
        self._give_up(CaptureError("the memory that graphs hold is wanted for what is computed without them"))
        return True

    def _step(self, key: Key, batch: Callable[[], Pair], data: Pair, rows: Array | None) -> "Step | None":
        """The captured step for this shape; None where a step is to be taken as usual. See `captured`."""
        if key not in self._steps and not self.off:
            self._seen[key] += 1
            if self._seen[key] > WARM_UP and len(self._steps) < MOST:
                try:
                    step = captured(self.trainer, batch, data, rows)
                    if step is not None and not self.off:
                        self._steps[key] = step
                except Exception as error:
                    self._give_up(error)
        return self._steps.get(key)

    def _give_up(self, error: Exception) -> None:
        if self.off:
            return
        self.off = True
        self._steps.clear()
        why = str(error) if isinstance(error, CaptureError) else f"{type(error).__name__}: {error}"
        why = _where(self.trainer.net, error) + why.partition("\n")[0]
        if self.insist:
            raise CaptureError(
                f"the step cannot be captured in a CUDA graph: {why}. graph='auto' goes on without one"
            ) from error
        warnings.warn(f"training goes on without a CUDA graph, slower: {why}", RuntimeWarning, stacklevel=2)


class Step:
    """One training step, captured: on `rows` rows of the data, or where those are 0 on the batch it is given."""

    def __init__(self, t: "Trainer", data: Pair, rows: Array | None) -> None:
        x, y = data
        self.rows = 0 if rows is None else rows.shape[0]
        self.data = None if rows is None else data  # whose address the graph has
        self.of = t._loss, t.optimizer, t.clip_norm
        self.names, constants = constants_of(t.optimizer, t.net.store, t.steps)
        store, precision = t.net.store, t._precision
        self.tables = tables = Tables(
            steps=TABLE,
            batch=self.rows or x.shape[0],
            width=constants.size,
            dtype=store.values.dtype,
            x=x,
            y=y,
            enters=precision.enters or store.values.dtype,
            rounds=precision.rounds(),
        )
        self.left = 0

        def enqueue() -> None:
            if self.rows:
                tables.begin(x, y, ordered=True)
            with placed(tables.constants, self.names):
                loss = t._gradient(tables.x, tables.y, tables.step, rounded=True)
                t._descend()
            tables.end(loss)

        self.send(t, rows, 1)
        if not self.rows:
            tables.begin(x, y, ordered=False)
        self.graph = Graph(enqueue)

    def is_sent(self, t: "Trainer") -> bool:
        """Whether the device has the numbers of the trainer's next step, and they are still what they were."""
        return (
            self.left > 0
            and self.next == t.steps
            and self._is_of(t)
            and self.rates[-self.left] == t.optimizer.learning_rate(t.steps)
            and self.options == vars(t.optimizer)
        )

    def send(self, t: "Trainer", rows: Array | None, count: int) -> bool:
        """Send the numbers of the next steps, `count` at most; the first of `rows` are those of their batches.

        Returns False, and sends nothing, where the step is no longer the one that was captured.
        """
        if not self._is_of(t):
            return False
        coming = range(t.steps, t.steps + count)
        noted = (constants_of(t.optimizer, t.net.store, done) for done in coming)
        alike = [constants for _, constants in itertools.takewhile(lambda one: one[0] == self.names, noted)]
        if alike:
            rows = None if rows is None else rows[: len(alike) * self.rows]
            self.losses = self.tables.send(t.steps, np.stack(alike), rows)
            self.rates = [t.optimizer.learning_rate(done) for done in coming[: len(alike)]]
            self.options, self.next, self.left = dict(vars(t.optimizer)), t.steps, len(alike)
        return bool(alike)

    def _is_of(self, t: "Trainer") -> bool:
        loss, optimizer, clip_norm = self.of
        return loss is t._loss and optimizer is t.optimizer and clip_norm == t.clip_norm

    def replay(self, t: "Trainer", batch: Pair | None = None) -> int:
        """Take the trainer's next step, on `batch` if it is to be given; returns the place of its loss in `losses`."""
        if batch is not None:
            self.tables.begin(*batch, ordered=False)
        self.graph.replay()
        t.steps += 1
        self.next += 1
        self.left -= 1
        return len(self.rates) - self.left - 1


def captured(t: "Trainer", batch: Callable[[], Pair], data: Pair, rows: Array | None) -> Step | None:
    """The trainer's next step, captured and compared with itself; None where its loss is not finite.

    Its batch, which `batch` makes for a usual step, are rows of the data, or where those are None all of it. The
    trainer is left as it was. Raises CaptureError, or whatever was raised on the way.
    """
    xp, steps, kept = t.device.xp, t.steps, t._kept()
    before = t._copies(kept)

    def go_back() -> None:
        t.steps = steps
        t._put_back(kept, before)

    try:
        x, y = batch()
        wanted = [t._copies([t._update(x, y), *kept]) for _ in range(2)]  # the second with another step's numbers
        if not math.isfinite(wanted[1][0]):
            return None
        go_back()
        t.device.release()  # what usual steps have left over: the graph has a pool of its own, and takes as much
        step = Step(t, data, rows)
        go_back()
        was = [0.0 * wanted[0][0], *before]
        for want in wanted:
            if not step.send(t, rows, 1):
                raise CaptureError("the optimiser does not make the same updates in every step")
            step.replay(t, data if rows is None else None)
            if any(_differ(xp, *three) for three in zip([step.losses[0], *kept], want, was, strict=True)):
                raise CaptureError("it did not give the numbers that the step itself gives, when it was tried")
            was = want
    finally:
        go_back()
    step.left = 0
    return step


def _differ(xp: Any, got: Array, want: Array, was: Array) -> bool:
    """Whether a replay changed an array otherwise than the step did, by more than rounding can explain."""
    off, moved, size = (float(xp.max(xp.abs(a))) for a in (got - want, want - was, want))
    return not off <= 1e-3 * moved + 8 * float(xp.finfo(want.dtype).eps) * size


def _where(net: Layer, error: BaseException) -> str:
    """Which layer raised it, if one did: "dropout1 (Dropout): "."""
    names, found = {id(layer): name for name, layer in net.walk()}, ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        layer = frame.f_locals.get("self")
        if name := names.get(id(layer)):
            found = f"{name} ({type(layer).__name__}): "
    return found


def _is_not(a: object, b: object) -> bool:
    return a is not b
