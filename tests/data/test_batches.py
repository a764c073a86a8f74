import numpy as np
import pytest

import gpunn as gn
from gpunn.data import Batches
from gpunn.device import to_host
from gpunn.errors import DataError, DeviceMismatch, DtypeError, OptionError
from gpunn.testing import assert_close

N = 23
X, Y = np.arange(2.0 * N).reshape(N, 2), np.arange(N)


def make(backend, *args, **options):
    return Batches(backend.asarray(X), backend.asarray(Y), *args, **options)


def rows_of(batches, *epoch, **more):
    return [to_host(y).tolist() for _, y in batches.epoch(*epoch, **more)]


@pytest.mark.parametrize("size", [1, 5, N, 100])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_comes_once_an_epoch_with_its_target(backend, size, shuffle):
    batches = make(backend, size, shuffle=shuffle)
    seen = []
    for x, y in batches.epoch(0):
        assert_close(x, X[to_host(y)], like=backend.asarray(X))
        assert_close(y, Y[to_host(y)], like=backend.asarray(Y))
        seen.append(to_host(y))
    assert len(batches) == len(seen) == -(-N // size)
    assert all(len(rows) == size for rows in seen[:-1])
    assert sorted(np.concatenate(seen)) == list(range(N))
    assert (np.concatenate(seen).tolist() == list(range(N))) == (not shuffle)


def test_the_order_is_a_function_of_seed_and_epoch_and_the_same_everywhere(backend):
    batches = make(backend, 5, seed=3)
    first = rows_of(batches, 4)
    assert rows_of(batches, 0) != first
    assert rows_of(make(backend, 5, seed=4), 4) != first
    assert rows_of(batches, 4) == first == rows_of(make(backend, 5, seed=3), 4)
    assert first[0] == [4, 3, 18, 11, 8]


def test_an_epoch_can_be_entered_at_any_batch(backend):
    batches = make(backend, 5, seed=1)
    for start in range(len(batches) + 2):
        assert rows_of(batches, 2, start=start) == rows_of(batches, 2)[start:]


def test_drop_last_leaves_out_the_smaller_batch_alone(backend):
    assert rows_of(make(backend, 5, drop_last=True), 1) == rows_of(make(backend, 5), 1)[:4]
    assert len(make(backend, 5, drop_last=True)) == 4
    assert len(make(backend, N, drop_last=True)) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_bytes_are_scaled_to_0_to_1_a_batch_at_a_time(backend, dtype, shuffle):
    pixels = np.arange(256, dtype=np.uint8).reshape(64, 4)
    x = backend.asarray(pixels)
    batches = Batches(x, backend.asarray(np.arange(64)), 16, dtype=dtype, shuffle=shuffle)
    expected = (pixels.astype(dtype) / np.array(255, dtype)).astype(dtype)
    for xb, yb in batches.epoch():
        assert_close(xb, expected[to_host(yb)], like=backend.asarray(expected), rtol=0)
    np.testing.assert_array_equal(to_host(x), pixels)


@pytest.mark.parametrize("own", ["float32", "float64", "int32"])
def test_other_numbers_are_left_as_they_are(backend, own):
    x = backend.asarray(X, own)
    for xb, yb in Batches(x, backend.asarray(Y), 4, dtype="float32").epoch():
        assert_close(xb, X[to_host(yb)], like=x, rtol=0)


def test_images_keep_their_axes(backend):
    images = np.arange(6 * 2 * 3 * 1, dtype=np.uint8).reshape(6, 2, 3, 1)
    x, y = next(Batches(backend.asarray(images), backend.asarray(np.arange(6)), 4).epoch())
    assert x.shape == (4, 2, 3, 1)
    np.testing.assert_allclose(to_host(x) * 255, images[to_host(y)], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch_size": 0}, OptionError, "batch_size must be a whole number, 1 or more, got 0"),
        ({"batch_size": -3}, OptionError, "batch_size must be a whole number, 1 or more, got -3"),
        ({"batch_size": 2.5}, OptionError, "batch_size must be a whole number, 1 or more, got 2.5"),
        ({"dtype": "float16"}, OptionError, "dtype 'float16' is not known; expected float32 or float64"),
        ({"y": Y[:5]}, DataError, "23 inputs but 5 targets: each input needs one"),
        ({"x": X[:0], "y": Y[:0]}, DataError, "the data has no rows: nothing to train on"),
        ({"batch_size": 24, "drop_last": True}, DataError, "23 rows cannot fill a batch of 24: nothing to train on"),
        ({"y": np.array(1)}, DataError, "the data is a single number, expected arrays with a row for each"),
    ],
)
def test_what_makes_no_batches_is_an_error(backend, change, error, message):
    options = {"x": X, "y": Y, "batch_size": 5} | change
    x, y = backend.asarray(options.pop("x")), backend.asarray(options.pop("y"))
    with pytest.raises(error, match=message):
        Batches(x, y, **options)


def test_inputs_and_targets_in_two_places_are_an_error():
    strict = gn.device("strict:device1")
    with pytest.raises(
        DeviceMismatch, match="inputs are on cpu and the targets on strict:device1: move one to the other"
    ):
        Batches(X, strict.asarray(Y), 5)
    with pytest.raises(DtypeError, match="expected an array, got list; convert it"):
        Batches(X.tolist(), Y, 5)


def test_a_function_may_decide_the_order(backend):
    x = backend.asarray(np.arange(5.0)[:, None])
    batches = gn.Batches(x, x, 2, shuffle=lambda epoch, n: np.roll(np.arange(n), epoch))
    for epoch in (0, 2):
        seen = [float(number) for part, _ in batches.epoch(epoch) for number in part[:, 0]]
        assert seen == np.roll(np.arange(5.0), epoch).tolist()


@pytest.mark.parametrize("count", [4, 6])
def test_an_order_names_each_row_once(backend, count):
    x = backend.asarray(np.arange(5.0)[:, None])
    with pytest.raises(DataError, match=rf"the order has shape \({count},\), expected \(5,\): the number of each row"):
        gn.Batches(x, x, 2, shuffle=lambda epoch, n: np.arange(count)).order(0)
