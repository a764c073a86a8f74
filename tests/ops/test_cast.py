"""The same numbers in another data type."""

import numpy as np

from gpunn import ops
from gpunn.testing import assert_close


def test_cast(backend):
    host = np.random.default_rng(0).standard_normal((3, 4))
    x = backend.asarray(host)
    single = backend.asarray(host.astype("float32"))
    assert_close(ops.cast(x, backend.xp.float32), host.astype("float32"), like=single)
    assert ops.cast(x, backend.xp.float64) is x
    out = backend.device.zeros((3, 4), "float32")
    assert ops.cast(x, backend.xp.float32, out=out) is out
    assert_close(out, host.astype("float32"), like=single)
