"""`gpunn bench`: a quick look at how long training steps take here, and what share of the machine's rate they reach."""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.checks import number, whole
from gpunn.device import Array, Device
from gpunn.device import device as find_device
from gpunn.environment import blas, versions
from gpunn.errors import FileError, OptionError
from gpunn.io.atomic import write_atomic
from gpunn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Reshape, Sequential
from gpunn.losses import Loss, SigmoidCrossEntropy, SoftmaxCrossEntropy
from gpunn.machine import rates
from gpunn.models import mlp
from gpunn.optim import SGD, Adam, Optimizer
from gpunn.processors import usable_processors
from gpunn.train import Trainer

__all__ = ["bench"]

_BATCHES = (32, 128, 1024)
_NETWORKS = {  # those that are measured where none is named, with their batches
    "784-30-10": (10,),
    "784-128-10": _BATCHES,
    "784-512-512-10": _BATCHES,
    "784-2048-2048-10": _BATCHES,
    "cnn": (64,),
}
_LR = 1e-6  # so small that the loss stays what it is, however many steps fit into the time
_SAMPLE = 0.005  # seconds: shorter steps are timed several at once

_LEGEND = (
    "first step: with all that is made once, such as code that is compiled and not in a cache; a step: the median",
    "share: of the rate of products, for 6 x batch x weights FLOPs a step, 4 x for the first layer, which needs no dx",
    "       (a convolution uses its weights at every pixel)",
    "beside other libraries: python -m benchmarks, in the repository",
)


def bench(
    networks: Sequence[str] = (),
    batch_sizes: Sequence[int] = (),
    *,
    device: str | Device | None = "auto",
    seconds: float = 0.5,
    out: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure training steps (forward, loss, backward, update) in float32 on a batch of random numbers; say a table.

    A network is named by its sizes, as "784-128-10": ReLU, softmax cross-entropy and Adam, but for "784-30-10", that
    of Nielsen's first chapters, sigmoids and SGD; or it is "cnn": convolutions of 3x3 with 32 and 64 features on images
    of 28x28, max-pooling, 128 neurons, 10 classes. Each is measured for `seconds`, with each of `batch_sizes`.

    Returned and, with `out`, written as JSON: device, versions, rates and `rows`. In a row `first_s` is the first step
    in seconds, with all that is made once in it, and `step_s` the quartiles of the later ones, the median in the
    middle; `share` is the part they reach of the measured rate of matrix products, `flops` of a step over its time.

    Raises OptionError for a network or a number that cannot be, DeviceUnavailable, FileError where `out` cannot be.
    """
    seconds = number("seconds", seconds, above=0.0)
    chosen = [
        (name, whole("batch size", batch, at_least=1), *_network(name))
        for name in networks or _NETWORKS
        for batch in batch_sizes or _NETWORKS.get(name, _BATCHES)
    ]
    if out is not None and not Path(out).parent.is_dir():  # to be told before the measuring
        raise FileError(f"{out}: cannot be written: there is no such folder; name another place")
    where = find_device(device, announce=False)
    rate = rates(where)
    say(f"device   {where.name}: {where.reason}")
    say(f"rates    products {rate['product_flops'] / 1e9:,.0f} GFLOP/s, copies {rate['copy_bytes'] / 1e9:,.1f} GB/s")
    say(_line("network", "batch", "first step", "a step", "quartiles", "examples/s", "share"))
    rows = []
    for name, batch, net, loss, optimizer in chosen:
        flops = batch * _flops(net)
        trainer = Trainer(net, loss, optimizer, device=where)
        first, step = _measure(trainer, *_batch(net, batch, where), seconds)
        share = flops / step[1] / rate["product_flops"]
        rows.append({"network": name, "batch": batch, "first_s": first, "step_s": step, "flops": flops, "share": share})
        around = f"{_time(step[0])} to {_time(step[2])}"
        examples = f"{batch / step[1]:,.0f}"
        say(_line(name, f"{batch:,}", _time(first), _time(step[1]), around, examples, f"{share:.1%}"))
    for line in _LEGEND:
        say(line)
    found = {
        "device": where.name,
        "versions": versions(),
        "blas": blas(),
        "processors": usable_processors(),
        "rates": rate,
        "rows": rows,
    }
    if out is not None:
        write_atomic(out, json.dumps(found, indent=2) + "\n")
    return found


def _network(name: str) -> tuple[Sequential, Loss, Optimizer]:
    if name == "cnn":
        features = Conv2d(1, 32, 3), ReLU(), Conv2d(32, 64, 3), ReLU(), MaxPool2d(2), Flatten()
        net = Sequential(Reshape((28, 28, 1)), *features, Linear(9216, 128), ReLU(), Linear(128, 10))
        return net, SoftmaxCrossEntropy(), Adam(_LR)
    try:
        sizes = [int(size) for size in name.split("-")]
    except ValueError:
        sizes = []
    if len(sizes) < 2:
        raise OptionError(f"network {name!r} is not known; expected sizes such as 784-128-10, or cnn")
    if name == "784-30-10":
        return mlp(sizes, hidden="sigmoid", output="sigmoid"), SigmoidCrossEntropy(), SGD(_LR)
    return mlp(sizes, output="softmax"), SoftmaxCrossEntropy(), Adam(_LR)


def _flops(net: Sequential) -> int:
    """FLOPs of the products of a training step for one example, a product and a sum for each use of a weight.

    Forward, dW and dx each use a weight once; the lowest layer that has weights computes no dx.
    """
    uses = []
    shape = None
    for layer in net.layers:
        shape = layer.output_shape(shape)
        weights = sum(param.size for param in layer.params().values() if param.decay)
        if weights and shape is not None:
            uses.append(weights * math.prod(shape[:-1]))  # at each pixel (rows, columns) of (rows, columns, features)
    return 6 * sum(uses) - 2 * uses[0]


def _batch(net: Sequential, n: int, device: Device) -> tuple[Array, Array]:
    """Random inputs (n, ...) and classes (n,) for a network."""
    numbers, lowest, highest = np.random.default_rng(0), net.layers[0], net.layers[-1]
    n_in = math.prod(lowest.shape) if isinstance(lowest, Reshape) else lowest.config()["n_in"]
    x = numbers.random((n, n_in), dtype=np.float32)
    return device.asarray(x), device.asarray(numbers.integers(0, highest.config()["n_out"], n))


def _measure(trainer: Trainer, x: Array, y: Array, seconds: float) -> tuple[float, list[float]]:
    """Seconds of the first step, and the quartiles of the later ones: first, median, third."""

    def took(steps: int) -> float:
        begun = time.perf_counter()
        for _ in range(steps):
            trainer.step(x, y)
        trainer.device.synchronize()
        return (time.perf_counter() - begun) / steps

    first = took(1)
    steps = max(1, round(_SAMPLE / took(1)))
    until = time.perf_counter() + seconds
    samples: list[float] = []
    while not samples or time.perf_counter() < until:
        samples.append(took(steps))
    return first, [float(quartile) for quartile in np.percentile(samples, (25, 50, 75))]


def _time(seconds: float) -> str:
    """Three digits: "89.1 µs", "1.64 ms", "12.0 ms", "1.20 s"."""
    for unit, size in ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0):
        if seconds < 999.5 * size or unit == "s":
            break
    value = seconds / size
    return f"{value:.{max(0, 2 - int(math.log10(max(value, 1.0))))}f} {unit}"


def _line(*cells: str) -> str:
    return f"{cells[0]:<17}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(cells[1:], (7, 12, 11, 21, 13, 8), strict=True)
    )
