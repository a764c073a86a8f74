"""The orthogonal matrix nearest to a given one, by matrix products alone, and the update that goes by it."""

from gpunn.device import Array, namespace
from gpunn.ops._op import op

__all__ = ["muon", "orthogonalize"]

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # a, b, c, chosen by Jordan et al. to lift small singular values fast


@op
def orthogonalize(G: Array, *, steps: int = 5, epsilon: float = 1e-7) -> Array:
    """About U V^T for G = U S V^T (D, M): the singular values brought to between 0.68 and 1.21, the directions kept.

    X = G / |G|, then `steps` times X <- a X + (b A + c A A) X with A = X X^T: each singular value s becomes
    a s + b s^3 + c s^5 (Newton and Schulz; with a, b, c of Jordan et al., "Muon", 2024). Values below 0.0015 |G| come
    less far in 5 steps. 0 stays 0.
    """
    xp, (a, b, c) = namespace(G), COEFFICIENTS
    X = G / (xp.sqrt(xp.sum(G * G)) + epsilon)  # |G|, over all numbers, is at least the largest singular value
    wide = G.shape[0] <= G.shape[1]
    X = X if wide else X.T  # the smaller A of the two
    for _ in range(steps):
        A = xp.matmul(X, X.T)
        P = c * xp.matmul(A, A)
        P += b * A
        X = a * X + xp.matmul(P, X)
    return X if wide else X.T


@op
def muon(w: Array, g: Array, v: Array, /, *, eta: float, mu: float) -> None:
    """v <- mu v + g, w <- w - eta O, where O is what `orthogonalize` makes of g + mu v (Jordan et al., 2024).

    w, its gradient g and v (..., M) are taken as matrices of M columns; w and v are changed in place, as by the updates
    of `gpunn.ops.update`.
    """
    xp = namespace(w)
    v *= mu
    v += g
    ahead = xp.reshape(g + mu * v, (-1, w.shape[-1]))
    w -= eta * xp.reshape(orthogonalize(ahead), w.shape)
