"""How fast this machine is, and what slows it down: measured rates, advice."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from gpunn.checks import precision, whole
from gpunn.device import Device
from gpunn.device import device as find_device
from gpunn.environment import blas, numba
from gpunn.processors import usable_processors

__all__ = ["advice", "call_time", "rates"]

# ---------------------------------------------------------------------------------------------------------------------
# Measuring


def rates(device: str | Device = "cpu", dtype: str = "float32", *, size: int | None = None) -> dict[str, float]:
    """The best rates of a few tries on a device, in less than a second as a rule.

    `product_flops`, FLOP/s: a matrix product of size x size x size, which takes 2 size^3; a smaller one where that
    would take seconds. `size` is 2048 on a CPU and 4096 on a GPU unless it is given.
    `copy_bytes`, B/s: an array of 128 MiB (less for a small `size`) copied into another, bytes read plus bytes written;
    NumPy copies with one thread.

    Raises OptionError for another dtype than "float32" or "float64" or a size below 1, DeviceUnavailable.
    """
    device, dtype = find_device(device), precision(dtype)
    most = whole("size", (2048 if device.on_host else 4096) if size is None else size, at_least=1)
    numbers = np.random.default_rng(0)

    def product(n: int) -> float:
        a, b = (device.asarray(numbers.random((n, n)), dtype) for _ in range(2))
        c = device.zeros((n, n), dtype)
        return _best(device, lambda: device.xp.matmul(a, b, out=c))

    n = min(256, most)
    took = product(n)
    flops = 2 * n**3 / took
    while n < most and took * (min(4 * n, most) / n) ** 3 < 2.0:
        n = min(4 * n, most)
        took = product(n)
        flops = max(flops, 2 * n**3 / took)

    itemsize = np.dtype(dtype).itemsize
    x = device.zeros(max(1, min(1 << 27, 32 * most**2) // itemsize), dtype) + 1  # written to: zeros may have no memory
    y = device.zeros(x.shape, dtype)

    def copy() -> None:
        y[...] = x

    return {"product_flops": flops, "copy_bytes": 2 * x.shape[0] * itemsize / _best(device, copy)}


def call_time(device: str | Device = "cpu") -> float:
    """Seconds that one call of a small operation takes: a sum of two arrays of ten numbers, into a third."""
    device = find_device(device)
    x, y = device.zeros(10, "float32"), device.zeros(10, "float32")
    add = device.xp.add

    def calls() -> None:
        for _ in range(1000):
            add(x, x, out=y)

    return _best(device, calls) / 1000


def _best(device: Device, f: Callable[[], Any]) -> float:
    """The shortest time that f takes, of two tries or more; the first also wakes threads and compiles."""
    best, tries, until = math.inf, 0, time.perf_counter() + 0.1
    while tries < 2 or time.perf_counter() < until:
        device.synchronize()
        begun = time.perf_counter()
        f()
        device.synchronize()
        best, tries = min(best, time.perf_counter() - begun), tries + 1
    return best


# ---------------------------------------------------------------------------------------------------------------------
# Advice

_PINS = {  # what overrides the choice of a library that knows the processor
    "openblas": ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"),
    "mkl": ("MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS"),
    "blis": ("BLIS_ARCH_TYPE",),
}
_THREADS = {
    "openblas": ("OPENBLAS_NUM_THREADS", "OPENBLAS_DEFAULT_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"),
    "mkl": ("MKL_NUM_THREADS", "OMP_NUM_THREADS"),
    "blis": ("BLIS_NUM_THREADS", "OMP_NUM_THREADS"),
}


def advice(*, measure: bool = True) -> list[str]:
    """What makes computing on this machine's CPU slower than it could be, each with the command that mends it.

    Only what is known is said: from what the libraries tell of themselves, or, where a variable overrides their
    choice, from a process of its own without it, which with `measure` also multiplies matrices.
    """
    return [*_pinned(measure), *_threads(), *_unoptimised(), *_compiler()]


def _pinned(measure: bool) -> Iterator[str]:
    for name, kernel in {library["library"]: library["kernel"] for library in blas()}.items():
        pins = _given(_PINS.get(name, ()))
        free = _without(pins, measure) if pins else None
        if free is None:
            continue
        now = rates(size=1024)["product_flops"] if measure else math.inf
        if free["kernels"].get(name) != kernel:
            what = f"{name} computes with its kernel {kernel}; for this CPU it would choose {free['kernels'].get(name)}"
        elif measure and free["flops"] > 1.25 * now:
            what = f"{name} is slower than with what it finds out about this CPU by itself"
        else:
            continue
        if measure:
            what += f" (float32 products of 1024^3: {now / 1e9:.0f} GFLOP/s so, {free['flops'] / 1e9:.0f} without)"
        yield f"{_set(pins)}: {what}. To mend it: unset {' '.join(pins)}"
    if features := _given(["NPY_DISABLE_CPU_FEATURES"]):
        yield f"{_set(features)}: NumPy does without instructions that this CPU has. To mend it: unset {features[0]}"


def _threads() -> Iterator[str]:
    usable = usable_processors()
    pools = {library["library"]: library["threads"] for library in blas()}
    for name, threads in pools.items():
        given = _given(_THREADS.get(name, ()))
        if threads > usable:
            variable = given[0] if given else _THREADS.get(name, ("OMP_NUM_THREADS",))[-1]
            yield (
                f"{name} computes with {threads} threads, and this process can keep {usable} of {os.cpu_count()} "
                f"processors busy: the others wait for their turn. To mend it: export {variable}={usable}"
            )
        elif threads == 1 < usable and given:
            yield (
                f"{_set(given)}: {name} computes with 1 thread where {usable} processors may be used. "
                f"To mend it: unset {' '.join(given)}"
            )


def _unoptimised() -> Iterator[str]:
    built = np.show_config(mode="dicts")["Build Dependencies"].get("blas", {})
    plain = not built.get("found") or built.get("name") in ("blas", "cblas")
    if plain and not blas() and sys.platform != "darwin":  # where Apple's may stand in, which tells nothing of itself
        yield (
            "NumPy was built with a plain BLAS or none, and no optimised library is loaded in its place: products take "
            "many times as long. To mend it: pip install --force-reinstall --only-binary numpy numpy"
        )


def _compiler() -> Iterator[str]:
    compiler = numba()
    if not compiler:
        return
    if os.environ.get("GPUNN_FAST") == "0":
        yield "GPUNN_FAST=0: the twins that Numba compiles are switched off. To mend it: unset GPUNN_FAST"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        yield "NUMBA_DISABLE_JIT: what Numba should compile runs as plain Python. To mend it: unset NUMBA_DISABLE_JIT"
    elif compiler["cache"] is None:
        yield (
            "Numba finds no folder it may write to: each process compiles anew. "
            'To mend it: export NUMBA_CACHE_DIR="$HOME/.cache/numba", or another folder of yours'
        )


def _given(names: Sequence[str]) -> list[str]:
    return [name for name in names if os.environ.get(name)]


def _set(names: Sequence[str]) -> str:
    return " ".join(f"{name}={os.environ[name]}" for name in names)


def _without(pins: Sequence[str], measure: bool) -> dict[str, Any] | None:
    """The kernels that the libraries choose without these variables, and their rate of products with `measure`.

    In a process of its own: a library reads its variables once, when it is loaded. None where that fails.
    """
    code = (
        "import json; from gpunn.environment import blas; from gpunn.machine import rates; "
        f"flops = rates(size=1024)['product_flops'] if {measure} else None; "
        "print(json.dumps({'kernels': {b['library']: b['kernel'] for b in blas()}, 'flops': flops}))"
    )
    variables = {name: value for name, value in os.environ.items() if name not in pins}
    variables["PYTHONPATH"] = os.pathsep.join(sys.path)  # the same packages
    try:
        done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
