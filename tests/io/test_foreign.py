import numpy as np
import pytest

import gpunn as gn
from gpunn.errors import OptionError
from gpunn.io.foreign import difference, input_shape, library, samples, verdict


@pytest.mark.parametrize(
    ("net", "about", "shape"),
    [
        (gn.mlp([6, 4]), {}, (6,)),
        (gn.Sequential(gn.Dropout(), gn.Residual(gn.BatchNorm(6), gn.ReLU(), gn.Linear(6, 6))), {}, (6,)),
        (gn.Sequential(gn.Standardize([0.0, 1.0], [1.0, 1.0]), gn.Linear(2, 2)), {}, (2,)),
        (gn.models.lenet((16, 16, 3)), {"image_shape": [1, 1, 1]}, (768,)),
        (gn.Sequential(gn.PReLU(3), gn.Conv2d(3, 2, 3)), {"image_shape": [8, 7, 3]}, (8, 7, 3)),
        (gn.Sequential(gn.Flatten(), gn.Linear(6, 2)), {"image_shape": [1, 2, 3]}, (1, 2, 3)),
        (gn.Sequential(gn.Conv2d(3, 2, 3)), {}, None),
        (gn.ReLU(), {}, None),
    ],
)
def test_the_shape_of_an_input_is_told_by_the_first_layers(net, about, shape):
    net.about = about
    if shape is None:
        with pytest.raises(OptionError, match="do not tell the shape"):
            input_shape(net)
    else:
        assert input_shape(net) == shape


def test_samples_are_of_the_size_that_the_network_expects():
    net = gn.mlp([64, 4])
    net.about = {"image_shape": [8, 8, 1], "white": 16.0}
    x = samples(net, (64,), 7)
    assert x.shape == (7, 64)
    assert x.min() >= 0
    assert 14 < x.max() <= 16
    net = gn.Sequential(gn.Standardize([1e6], [10.0]), gn.Linear(1, 1))
    assert abs(samples(net, (1,), 100).mean() - 1e6) < 10


def test_differences_and_what_is_said_of_them():
    a = np.array([0.5, 2000.0])
    assert difference(a, a + np.array([1e-3, 1.0])) == pytest.approx(1e-3)
    assert difference(a, a + np.array([0.0, 2001.0])) == pytest.approx(2001 / 4001)
    assert difference(a, a[:1]) == np.inf
    assert verdict("X 1.0", 1e-7) == "verified with X 1.0: largest difference 1.0e-07"
    for worst in (1e-3, np.inf, np.nan):
        assert verdict("X 1.0", worst).startswith("WARNING  the answers of X 1.0 differ by up to")


def test_a_library_that_is_not_there():
    with pytest.raises(
        OptionError, match=r'this needs nowhere, which cannot be imported .*: pip install "gpunn\[x\]"$'
    ):
        library("nowhere", "gpunn[x]")
