"""Random arrays for the tests of the CUDA twins, and how near to their references these must be."""

import numpy as np
import pytest

rng = np.random.default_rng(0)
TOLERANCE = {"float32": 1e-5, "float64": 1e-12, "bfloat16": 2e-2}
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def normal(shape, dtype="float64", scale=1.0, shift=0.0):
    return (shift + scale * rng.standard_normal(shape)).astype(dtype)
