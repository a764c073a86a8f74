import numpy as np
import pytest

from gpunn.data import Dataset
from gpunn.data.dataset import split_rows
from gpunn.device import to_host
from gpunn.errors import DataError, DtypeError
from gpunn.testing import assert_close

X, Y = np.arange(30.0).reshape(10, 3), np.arange(10) % 4


def make(backend, image_shape=(3, 1, 1)):
    return Dataset(backend.asarray(X), backend.asarray(Y), image_shape, ("a", "b", "c", "d"))


def assert_rows(backend, part, rows):
    assert_close(part.x, X[rows], like=backend.asarray(X))
    assert_close(part.y, Y[rows], like=backend.asarray(Y))
    assert len(part) == len(X[rows])
    assert part.image_shape == (3, 1, 1)
    assert part.classes == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    "rows", [slice(4), slice(8, 20), slice(-2, None), slice(None, None, -3), slice(5, 2), [7, 0, 7], [-1], [True] * 10]
)
def test_rows_are_taken_from_inputs_and_targets_alike(backend, rows):
    assert_rows(backend, make(backend)[rows], rows)


def test_rows_may_be_named_by_an_array_of_the_same_library(backend):
    data = make(backend)
    assert_rows(backend, data[backend.asarray(np.array([3, 1]))], [3, 1])
    assert_rows(backend, data[data.y == 2], Y == 2)


def test_one_row_is_a_data_set_of_one(backend):
    assert_rows(backend, make(backend)[3], [3])


@pytest.mark.parametrize("rows", [[10], [-11], [0.5], [True] * 9, 10])
def test_rows_that_are_not_there_are_an_error(backend, rows):
    with pytest.raises(DataError, match="no such rows of a data set of 10: "):
        make(backend)[rows]


def test_a_data_set_unpacks_to_inputs_and_targets(backend):
    data = make(backend)
    x, y = data
    assert x is data.x
    assert y is data.y


def test_images_have_their_shape(backend):
    images = make(backend, (1, 3, 1)).images
    assert_close(images, X.reshape(10, 1, 3, 1), like=backend.asarray(X))
    with pytest.raises(DataError, match="are not images: image_shape is None"):
        make(backend, None).images  # noqa: B018


def test_a_split_has_each_row_in_one_part(backend):
    rest, part = make(backend).split(0.3, seed=5)
    assert (len(rest), len(part)) == (7, 3)
    both = np.concatenate([to_host(rest.x), to_host(part.x)])
    np.testing.assert_array_equal(both[np.argsort(both[:, 0])], X)
    np.testing.assert_array_equal(to_host(part.y), Y[to_host(part.x)[:, 0].astype(int) // 3])


def test_a_split_depends_on_the_seed_alone(backend):
    first = to_host(make(backend).split(0.3, seed=5)[1].x)
    np.testing.assert_array_equal(first, X[split_rows(10, 0.3, 5)[1]])
    assert not np.array_equal(first, to_host(make(backend).split(0.3, seed=6)[1].x))
    np.testing.assert_array_equal(split_rows(10, 0.3, 5)[1], [4, 0, 3])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 2.0, 0.01, 0.99, float("nan"), float("inf")])
def test_a_split_that_leaves_a_side_empty_is_an_error(fraction):
    with pytest.raises(
        DataError, match=f"a part of {fraction:g} of 10 rows cannot be set aside: name a fraction between"
    ):
        split_rows(10, fraction, 0)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (X, Y[:9], DataError, "10 inputs but 9 targets: each input needs one"),
        (X, np.array(3), DataError, "y is a single number, expected an array with a row for each example"),
        (np.array(3.0), Y, DataError, "x is a single number"),
        (X.tolist(), Y, DtypeError, "expected an array, got list; convert it"),
        (X, None, DtypeError, "expected an array, got NoneType"),
    ],
)
def test_what_is_no_data_set_is_an_error(x, y, error, message):
    with pytest.raises(error, match=message):
        Dataset(x, y)
