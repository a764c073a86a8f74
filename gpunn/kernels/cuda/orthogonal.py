"""Muon's update for CuPy arrays: the matrix products by cuBLASLt, so that it can be captured in a CUDA graph.

Checked: kernels compiled for sm_80 and sm_90, arithmetic run on a CPU. Not yet run on a GPU.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import ops
from gpunn.kernels.cuda.constants import place
from gpunn.kernels.cuda.module import blocks, empty, launch, plain, reference
from gpunn.kernels.cuda.product import product
from gpunn.ops.orthogonal import COEFFICIENTS

__all__ = ["TWINS", "muon", "orthogonalize"]

Array = Any


def orthogonalize(G: Array, *, steps: int = 5, epsilon: float = 1e-7) -> Array:
    """`gpunn.ops.orthogonalize` for CuPy arrays; a high matrix is multiplied from the right."""
    if not plain(G):
        return reference(ops.orthogonalize)(G, steps=steps, epsilon=epsilon)
    (a, b, c), wide, count = COEFFICIENTS, G.shape[0] <= G.shape[1], min(blocks(G.size), 512)
    parts, X = empty(count, np.float64), empty(G.shape, G.dtype)
    launch("squares", G.dtype, count, parts, G, G.size)
    launch("unit", G.dtype, blocks(G.size), X, G, parts, count, G.size, float(epsilon))
    for _ in range(steps):
        A = product(X, X.T) if wide else product(X.T, X)
        P = product(A, A, out=A.copy(), alpha=c, beta=b)
        X = product(*((P, X) if wide else (X, P)), out=X.copy(), beta=a)
    return X


def muon(w: Array, g: Array, v: Array, /, *, eta: float, mu: float) -> None:
    """`gpunn.ops.muon` for CuPy arrays."""
    if not plain(w, g, v):
        return reference(ops.muon)(w, g, v, eta=eta, mu=mu)
    at, constants = place("muon"), (float(eta), float(mu), *[0.0] * 6)
    ahead = empty((w.size // w.shape[-1], w.shape[-1]), w.dtype)
    launch("muon_ahead", w.dtype, blocks(w.size), ahead, v, g, w.size, at, *constants)
    launch("sgd", w.dtype, blocks(w.size), w, orthogonalize(ahead), w.size, at, *constants)
    return None


TWINS: dict[str, Callable[..., Any]] = {"muon": muon, "orthogonalize": orthogonalize}
