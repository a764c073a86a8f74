"""Dropout and noise, and the random numbers they take: a function of each number's place and a key, and nothing else.

A counter-based generator has no state to keep. So every library and device drops the same units, a run can stop and go
on at any step, and nothing depends on what was drawn before.
"""

import math

from gpunn.device import Array, namespace
from gpunn.ops._op import op

__all__ = ["dropout", "dropout_backward", "gaussian_noise", "philox"]

Words = tuple[int, int]

WORD = 0xFFFFFFFF
M0, M1 = 0xD2511F53, 0xCD9E8D57  # the multipliers, and what is added to the key in each round
W0, W1 = 0x9E3779B9, 0xBB67AE85


@op
def philox(c0: Array, *, counter: tuple[int, int, int], key: Words) -> tuple[Array, Array, Array, Array]:
    """Four random numbers of 32 bits, as int64, for each number in c0, an array of whole numbers of 32 bits, as int64.

    Philox4x32-10 of the counter (c0, *counter) and the key, both of words of 32 bits (Salmon, Moraes, Dror and Shaw,
    "Parallel random numbers: as easy as 1, 2, 3", 2011): ten rounds, in each of which two words of the counter are
    multiplied by constants, and the high halves of the products are mixed with the other two words and the key. A
    product may take more than the 63 bits of int64; its bits are right nevertheless, since it wraps round.
    """
    xp = namespace(c0)
    c1, c2, c3 = (xp.zeros_like(c0) + word for word in counter)
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * M0, c2 * M1
        c0, c1 = (p1 >> 32 & WORD) ^ c1 ^ k0, p1 & WORD
        c2, c3 = (p0 >> 32 & WORD) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + W0) & WORD, (k1 + W1) & WORD
    return c0, c1, c2, c3


def random_words(shape: tuple[int, ...], like: Array, *, key: Words, step: int) -> Array:
    """Random numbers of 32 bits, as int64, in this shape, where `like` is; `key` and `step` choose them.

    Number i is word i mod 4 of the counter (i // 4, 0, step). `step` may be a 0-d array of int64.
    """
    xp, size = namespace(like), math.prod(shape)
    places = xp.arange(-(-size // 4), dtype=xp.int64, device=like.device)
    words = philox(places, counter=(0, step & WORD, step >> 32), key=key)
    return xp.reshape(xp.reshape(xp.stack(words, axis=1), (-1,))[:size], shape)


@op
def gaussian_noise(x: Array, *, std: float, key: Words, step: int) -> Array:
    """y = x + std n, n from N(0, 1): n = sqrt(-2 ln u) cos(2 pi v), u and v uniform in 0 to 1 (Box and Muller, 1958).

    Its backward pass is dx = dy: the noise does not depend on x.
    """
    xp, size = namespace(x), math.prod(x.shape)
    pairs = random_words((2, size), x, key=key, step=step)
    u, v = (xp.astype(pairs[i, :], xp.float64) for i in (0, 1))
    n = xp.sqrt(-2.0 * xp.log((u + 1.0) * 2.0**-32)) * xp.cos((2.0 * math.pi * 2.0**-32) * v)
    return x + xp.reshape(xp.astype(std * n, x.dtype), x.shape)


@op
def dropout(x: Array, *, rate: float, key: Words, step: int) -> tuple[Array, Array]:
    """y = x mask / (1 - rate), where the mask is 0 with probability `rate`, else 1. Returns (y, mask / (1 - rate)).

    Divided by the share that is kept, so that the mean of y is x and nothing need be scaled at inference ("inverted"
    dropout; Srivastava et al., 2014).
    """
    xp = namespace(x)
    kept = random_words(x.shape, x, key=key, step=step) >= round(rate * 2**32)
    mask = xp.astype(kept, x.dtype)
    mask *= 1.0 / (1.0 - rate)
    return x * mask, mask


@op
def dropout_backward(dy: Array, mask: Array) -> Array:
    """dx = dy mask, where `mask` is what `dropout` returned: divided by 1 - rate already."""
    return dy * mask
