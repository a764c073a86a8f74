"""Random arrays for the tests of the CUDA twins, and how near to their references these must be."""

import numpy as np
import pytest

rng = np.random.default_rng(0)
TOLERANCE = {"float32": 1e-5, "float64": 1e-12, "bfloat16": 2e-2}
CONVOLUTIONS = [  # x, W, stride, padding
    ((2, 5, 6, 2), (3, 3, 2, 4), (1, 1), (0, 0)),
    ((3, 6, 5, 1), (2, 3, 1, 3), (2, 1), (1, 0)),
    ((2, 4, 4, 8), (1, 1, 8, 4), (1, 1), (0, 0)),
    ((2, 7, 7, 4), (3, 2, 4, 3), (2, 3), (1, 2)),
    ((2, 4, 4, 4), (1, 1, 4, 3), (2, 2), (0, 0)),
]
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def normal(shape, dtype="float64", scale=1.0, shift=0.0):
    return (shift + scale * rng.standard_normal(shape)).astype(dtype)
