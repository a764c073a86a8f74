"""Randomness as a pure function of the seed.

One run has one seed. Every random choice is drawn from `generator(seed, what it is for, epoch, ...)`, so it does not
depend on what was drawn before it: a run can stop and go on at any step, and every device makes the same choices.
"""

import numpy as np

from gpunn.checks import whole

__all__ = ["generator"]


def generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """The NumPy generator of one purpose, such as `generator(seed, "order", epoch)`: same arguments, same numbers.

    Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), keyed by a hash of all arguments.
    Raises OptionError for a seed below 0.
    """
    name = purpose.encode()
    return np.random.Generator(
        np.random.Philox(np.random.SeedSequence(whole("seed", seed), spawn_key=(len(name), *name, *index)))
    )
