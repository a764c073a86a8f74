"""What numbers may depend on besides the program: versions, and the library that multiplies matrices."""

import dataclasses
import os
import platform
import sys
from contextlib import suppress
from importlib import metadata
from typing import Any

from gpunn.device import device, devices

__all__ = ["blas", "cudnn", "information", "numba", "versions"]


def versions(in_use: bool = True) -> dict[str, str]:
    """The versions of Python and the packages that numbers may depend on: of those in use, or of all that are here."""
    found = {"python": platform.python_version()}
    packages = ("gpunn", "numpy", "array-api-compat", "safetensors", "numba", "cupy-cuda12x", "cupy-cuda13x", "torch")
    modules = {package: package.partition("-cuda")[0].replace("-", "_") for package in (*packages, "array-api-strict")}
    modules |= {"nvidia-cudnn-cu13": "cudnn", "nvidia-cudnn-frontend": "cudnn"}
    for package, module in modules.items():
        if not in_use or module in sys.modules:
            with suppress(metadata.PackageNotFoundError):
                found[package] = metadata.version(package)
    return found


def blas() -> list[dict[str, Any]]:
    """The libraries that multiply matrices here: name, version, kernel (the processor it is written for), threads.

    The last bits of a result depend on the kernel and the number of threads.
    """
    from threadpoolctl import threadpool_info

    return [
        {
            "library": pool["internal_api"],
            "version": pool["version"],
            "kernel": pool.get("architecture"),
            "threads": pool["num_threads"],
        }
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]


def numba() -> dict[str, Any] | None:
    """Numba, which compiles twins: its version and cache folder; None where it is not here.

    `cache` is None where no folder can be written to.
    """
    from gpunn.kernels.cpu.compiler import numba_state

    return numba_state()


def cudnn() -> dict[str, str] | None:
    """cuDNN, which computes convolutions on a GPU: versions; None where it is not in use, or there is no GPU."""
    from gpunn.kernels.cuda.cudnn import cudnn_state

    on_gpu = any(report.available for report in devices() if report.name.startswith("cuda"))
    return cudnn_state() if on_gpu else None


def information() -> dict[str, Any]:
    """What `gpunn info` tells and need not measure: devices with reasons, versions, matrix libraries, processors."""
    return {
        "devices": [dataclasses.asdict(report) for report in devices()],
        "auto": str(device("auto", announce=False)),
        "versions": versions(in_use=False),
        "blas": blas(),
        "numba": numba(),
        "cudnn": cudnn(),
        "processors": os.cpu_count(),
    }
