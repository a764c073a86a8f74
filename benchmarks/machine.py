"""The machine: what it is, and how fast it multiplies and copies. `python -m benchmarks.machine [cpu|cuda]`."""

import json
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from datetime import date
from importlib import metadata
from pathlib import Path

from benchmarks.process import environment

__all__ = ["describe", "free_memory", "pinned", "rates"]

N, COPIED = 2048, 256 << 20  # rows and columns of the product; bytes of the copy
PACKAGES = (
    *("gpunn", "numpy", "numba", "scipy", "scikit-learn", "torch", "jax", "jaxlib", "threadpoolctl"),
    *("cupy-cuda12x", "cupy-cuda13x"),
)


def describe():
    """Date, processor, cores, versions, and the environment variables that bear on speed."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "date": date.today().isoformat(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "versions": versions,
        "environment": pinned(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def processor():
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor()


def pinned():
    """The variables set here that pin a BLAS kernel or a number of threads, with their values."""
    known = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "XLA_FLAGS")
    return {name: os.environ[name] for name in sorted(os.environ) if name in known or name.endswith("_NUM_THREADS")}


def free_memory():
    """Bytes that a new process may take, or None where that cannot be told."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return None


def rates(device):
    """{"product_flops", "copy_bytes", ...} per second, measured in a process of its own; {} where it failed."""
    command = [sys.executable, "-m", "benchmarks.machine", device]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def best(f):
    """The shortest of ten times that f took, after one that does not count."""
    f()
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        f()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def on_cpu():
    import numpy as np

    from benchmarks.worker import threads

    a, b, c = (np.ones((N, N), dtype=np.float32) for _ in range(3))
    product = best(lambda: np.matmul(a, b, out=c))
    source, target = (np.ones(COPIED, dtype=np.uint8) for _ in range(2))
    copy = best(lambda: np.copyto(target, source))
    return {"product_flops": 2 * N**3 / product, "copy_bytes": 2 * COPIED / copy, "threads": threads()}


def on_cuda():
    """Those of a GPU in each precision, and of copies to it and from it, by ordinary memory of the host."""
    try:
        import cupy as xp

        from gpunn.kernels.cuda.module import bfloat16
        from gpunn.kernels.cuda.product import product, tf32

        wait, name = xp.cuda.Device().synchronize, xp.cuda.runtime.getDeviceProperties(0)["name"].decode()
        source, target = (xp.ones(COPIED // 4, dtype=xp.float32) for _ in range(2))
        copy, there = (lambda: xp.copyto(target, source)), source.get()
        to, back = (lambda: source.set(there)), (lambda: source.get(out=there))
        a = xp.ones((4 * N, 4 * N), dtype=xp.float32)
        narrow = a.astype(bfloat16())
        multiply = {"product": lambda: product(a, a), "bfloat16": lambda: product(narrow, narrow)}

        def multiply_in_tf32():
            with tf32():
                product(a, a)

        multiply["tf32"] = multiply_in_tf32
        multiply["product"]()
    except Exception:  # no CuPy, or none that works
        import torch

        wait, name = torch.cuda.synchronize, torch.cuda.get_device_name()
        source, target = (torch.ones(COPIED // 4, device="cuda") for _ in range(2))
        copy, there = (lambda: target.copy_(source)), source.cpu()
        to, back = (lambda: source.copy_(there)), (lambda: there.copy_(source))
        a = torch.ones((4 * N, 4 * N), device="cuda")
        narrow = a.bfloat16()
        multiply = {"product": lambda: a @ a, "bfloat16": lambda: narrow @ narrow}

    def seconds(f):
        return best(lambda: (f(), wait()))

    rates = {f"{key}_flops": 2 * (4 * N) ** 3 / seconds(f) for key, f in multiply.items()}
    copies = {"to_bytes": COPIED / seconds(to), "from_bytes": COPIED / seconds(back)}
    return rates | copies | {"copy_bytes": 2 * COPIED / seconds(copy), "name": name}


if __name__ == "__main__":
    print(json.dumps(on_cuda() if sys.argv[1:] == ["cuda"] else on_cpu()))
