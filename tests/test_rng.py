import numpy as np
import pytest

import gpunn as gn
from gpunn.rng import generator


def numbers(*what):
    return generator(*what).integers(0, 2**63, 4).tolist()


def test_the_same_purpose_gives_the_same_numbers_whatever_was_drawn_before():
    first = numbers(7, "order", 3)
    generator(7, "order", 2).random(1000)
    np.random.default_rng().random(10)
    assert numbers(7, "order", 3) == first


@pytest.mark.parametrize(
    "other", [(8, "order", 3), (7, "ordes", 3), (7, "order", 4), (7, "order"), (7, "orde", 114, 3)]
)
def test_another_seed_purpose_or_index_gives_others(other):
    assert numbers(*other) != numbers(7, "order", 3)


def test_the_numbers_are_fixed_for_ever():
    # a change here would change every published run
    assert numbers(0, "order", 0) == [
        5157329763202435288,
        8604184016269744416,
        4103871405995282521,
        4495326748708161554,
    ]


@pytest.mark.parametrize("seed", [-1, 1.5, None, "7"])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(gn.OptionError, match=f"seed must be a whole number, 0 or more, got {seed!r}"):
        generator(seed, "order")
    assert numbers(np.int64(7), "order") == numbers(7, "order")
