import numpy as np
import pytest

import gpunn as gn
from gpunn.testing import assert_close

X = np.random.default_rng(8).normal([5.0, -300.0, 0.001], [1.0, 40.0, 1e-4], (50, 3))


def test_columns_get_mean_0_and_deviation_1(backend):
    layer = gn.Standardize.of(backend.asarray(X)).init(device=backend.device, dtype="float64")
    y = layer(backend.asarray(X))
    assert_close(y, (X - X.mean(0)) / X.std(0), like=y, rtol=1e-9, atol=1e-12)


def test_a_column_that_never_changes_is_only_shifted():
    layer = gn.Standardize.of([[1.0, 7.0], [3.0, 7.0]]).init()
    assert layer(np.array([[2.0, 8.0]], dtype="float32")).tolist() == [[0.0, 1.0]]
    rounded = gn.Standardize.of(np.full((7, 1), 0.1)).init(dtype="float64")  # whose mean is not quite 0.1
    assert rounded(np.array([[1.1]]))[0, 0] == pytest.approx(1.0)
    assert gn.Standardize.of([[1e-9], [3e-9]]).init(dtype="float64")(np.array([[3e-9]]))[0, 0] == pytest.approx(1.0)


def test_its_constants_are_saved_but_not_learned():
    net = gn.Sequential(gn.Standardize.of(X), gn.Linear(3, 1)).init()
    assert list(net.params()) == ["linear1.W", "linear1.b"]
    assert set(net.state_dict()) == {"linear1.W", "linear1.b", "standardize1.mean", "standardize1.std"}
    other = gn.Sequential(gn.Standardize(np.zeros(3), np.ones(3)), gn.Linear(3, 1)).init(seed=1)
    other.load_state_dict(net.state_dict())
    assert np.array_equal(other(X.astype("float32")), net(X.astype("float32")))


def test_bad_constants_and_inputs_are_named():
    with pytest.raises(gn.ShapeError, match=r"mean and std of one shape \(D,\), got \(2,\) and \(3,\)"):
        gn.Standardize([0.0, 0.0], [1.0, 1.0, 1.0])
    layer = gn.Standardize([0.0, 0.0], [1.0, 1.0]).init()
    with pytest.raises(gn.ShapeError, match=r"inputs of shape \(N, 2\), got \(4, 3\)"):
        layer.forward(np.ones((4, 3), dtype="float32"))
    with pytest.raises(gn.ShapeError, match="Standardize of 2 features cannot take"):
        gn.Sequential(gn.Linear(4, 3), layer)


def test_constants_that_are_none_are_named():
    for mean, std in ([0.0], [0.0]), ([0.0], [-1.0]), ([0.0], [np.nan]), ([np.inf], [1.0]), ([0.0], [np.inf]):
        with pytest.raises(gn.DataError, match="expects finite means, and finite standard deviations above 0"):
            gn.Standardize(mean, std)
    for data in np.zeros((0, 3)), np.zeros(3), np.zeros((2, 2, 2)):
        with pytest.raises(gn.ShapeError, match=r"data of shape \(N, D\) with at least one row, got \("):
            gn.Standardize.of(data)


def test_bytes_are_what_the_trainer_makes_of_them():
    images = np.random.default_rng(0).integers(0, 256, (50, 3)).astype("uint8")
    net = gn.Sequential(gn.Standardize.of(images))
    y = gn.Trainer(net, gn.MeanSquaredError(), device="cpu").predict(images)
    np.testing.assert_allclose([y.mean(0), y.std(0)], [[0.0] * 3, [1.0] * 3], atol=1e-6)


def test_before_init_it_has_no_numbers():
    with pytest.raises(gn.NotInitialised, match="this network has no weights yet"):
        gn.Standardize.of(X)(X)
