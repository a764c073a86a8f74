import numpy as np
import pytest

from gpunn import ops
from gpunn.testing import assert_close

X = np.random.default_rng(12).standard_normal((50, 21))
WHERE = {"key": (7, 2**31 + 5), "step": 3}

# (counter, key, words): the known answers that its authors published with Random123
ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), ANSWERS)
def test_philox_gives_the_known_answers(backend, counter, key, words):
    first = backend.asarray([counter[0]] * 3, "int64")
    for array, word in zip(ops.philox(first, counter=counter[1:], key=key), words, strict=True):
        assert_close(array, [word] * 3, like=first)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_numbers_are_dropped_or_scaled_up(backend, rate):
    x = backend.asarray(X)
    y, mask = ops.dropout(x, rate=rate, **WHERE)
    values = backend.device.to_host(mask)
    assert set(values.ravel().tolist()) == {0.0, 1.0 / (1.0 - rate)}
    assert (values == 0).mean() == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / X.size))
    assert_close(y, X * values, like=x)
    assert_close(ops.dropout_backward(x, mask), X * values, like=x)


def test_every_backend_drops_the_same(backend):
    expected = ops.dropout(X, rate=0.3, **WHERE)[1]
    for dtype in ("float32", "float64"):
        mask = ops.dropout(backend.asarray(X, dtype), rate=0.3, **WHERE)[1]
        assert np.array_equal(backend.device.to_host(mask) == 0, expected == 0)
    # by the place in the array alone: a longer batch begins with the same choices
    longer = ops.dropout(backend.asarray(np.ones((70, 21))), rate=0.3, **WHERE)[1]
    assert np.array_equal(backend.device.to_host(longer)[:50], expected)


def test_the_numbers_are_those_of_the_generator():
    words = np.stack(ops.philox(np.arange(263), counter=(0, 3, 0), key=WHERE["key"]), axis=1).ravel()[: X.size]
    assert np.array_equal(ops.dropout(X, rate=0.5, **WHERE)[1] != 0, words.reshape(X.shape) >= 2**31)


@pytest.mark.parametrize("other", [{"key": (8, 2**31 + 5)}, {"key": (7, 5)}, {"step": 4}, {"step": 3 + 2**32}])
def test_another_key_or_step_drops_others(other):
    one, two = (ops.dropout(X, rate=0.5, **(WHERE | more))[1] != 0 for more in ({}, other))
    assert (one == two).mean() == pytest.approx(0.5, abs=0.08)


def test_noise_is_normal_and_the_same_everywhere(backend):
    x = backend.asarray(np.zeros((100, 90)))
    y = backend.device.to_host(ops.gaussian_noise(x, std=2.0, **WHERE))
    assert y.std() == pytest.approx(2.0, rel=0.03)
    assert y.mean() == pytest.approx(0.0, abs=0.08)
    assert (abs(y) > 4.0).mean() == pytest.approx(0.0455, rel=0.2)
    expected = ops.gaussian_noise(X, std=0.5, **WHERE)
    moved = backend.asarray(X)
    assert_close(ops.gaussian_noise(moved, std=0.5, **WHERE), expected, like=moved, rtol=1e-12, atol=1e-12)
    assert np.isfinite(y).all()
