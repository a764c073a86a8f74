"""Who is measured. Each module here has one function,

    build(workload, weights, images, labels, **options) -> Task

and imports its library at the top. ImportError, or Skip, says that this peer cannot be had here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["PEERS", "Peer", "Skip", "Task"]


class Skip(Exception):
    """A peer cannot be had on this machine."""


class Task(NamedTuple):
    """A workload, built and ready: what the worker times is `call`."""

    call: Callable[[], Any]  # one training step, which returns its loss; or one inference, which returns the answer
    read: Callable[[Any], Any]  # what call returned, as numbers on the host
    wait: Callable[[Any], Any] = lambda result: None  # until the device has finished what was called


@dataclass(frozen=True)
class Peer:
    """How a peer is started: its module, what is set in its environment (None: unset), what is passed to `build`."""

    title: str
    module: str
    imports: str  # the statement a user begins with
    packages: tuple[str, ...]  # what a user installs; the first must be there
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str | None] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("mlp", "cnn")

    @property
    def device(self) -> str:
        """Where it computes: "cpu" or "cuda"."""
        return self.options.get("device", "cpu")

    def takes(self, w: Any) -> bool:
        """Whether it can do this Workload: such networks, and in another precision than float32 only on a GPU."""
        return w.kind in self.kinds and (w.precision == "float32" or self.device == "cuda")


_CUDA = {"device": "cuda"}
# Each process holds the GPU's memory while another has its turn, so JAX must not take three quarters of it.
_JAX_CUDA = {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def _gpunn(title: str, *packages: str, **more: Any) -> Peer:
    return Peer(title, "benchmarks.peers.gpunn_trainer", "import gpunn", ("gpunn", *packages), **more)


def _torch(title: str, **more: Any) -> Peer:
    return Peer(title, "benchmarks.peers.pytorch", "import torch", ("torch",), **more)


def _jax(title: str, *packages: str, **more: Any) -> Peer:
    return Peer(title, "benchmarks.peers.jax_jit", "import jax, jax.numpy", ("jax", *packages), **more)


PEERS = {
    "gpunn-fast": _gpunn("gpunn + Numba", "numba", options={"numba": True}, environment={"GPUNN_FAST": None}),
    "gpunn": _gpunn("gpunn", environment={"GPUNN_FAST": "0"}),
    "torch": _torch("PyTorch eager"),
    "torch-compile": _torch("PyTorch compiled", options={"compiled": True}),
    "jax": _jax("JAX jit", environment={"JAX_PLATFORMS": "cpu"}),
    "sklearn": Peer(
        "scikit-learn",
        "benchmarks.peers.scikit_learn",
        "from sklearn.neural_network import MLPClassifier",
        ("scikit-learn",),
        kinds=("mlp",),
    ),
    "numpy": Peer("plain NumPy", "benchmarks.peers.plain_numpy", "import numpy", ("numpy",), kinds=("mlp",)),
    "gpunn-cuda": _gpunn("gpunn, CUDA", options=_CUDA | {"tune": True}),  # JAX times algorithms, too
    "torch-cuda": _torch("PyTorch eager, CUDA", options=_CUDA),
    "torch-compile-cuda": _torch("PyTorch compiled, CUDA", options=_CUDA | {"compiled": True}),
    "jax-cuda": _jax("JAX jit, CUDA", options=_CUDA, environment=_JAX_CUDA),
}
