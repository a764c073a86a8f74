import numpy as np

import gpunn as gn
from gpunn.testing import assert_close


def test_flatten_lays_images_out_and_back(backend):
    host = np.arange(24.0).reshape(2, 3, 4)
    x = backend.asarray(host)
    y, cache = gn.Flatten().forward(x)
    assert_close(y, host.reshape(2, 12), like=x)
    assert_close(gn.Flatten().backward(y, cache), host, like=x)
    assert gn.Flatten().output_shape((28, 28, 1)) == (784,)
    assert gn.Flatten().output_shape(None) is None


def test_flatten_leaves_rows_alone(backend):
    x = backend.asarray(np.ones((2, 5)))
    assert gn.Flatten()(x).shape == (2, 5)
    assert gn.Flatten()(backend.asarray(np.ones((0, 3, 4)))).shape == (0, 12)
