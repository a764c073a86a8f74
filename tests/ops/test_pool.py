import numpy as np
import pytest

from gpunn import ops
from gpunn.testing import assert_close

rng = np.random.default_rng(5)
GRID = [
    (image, window, stride)
    for image in ((4, 6), (5, 7))
    for window in ((1, 1), (2, 2), (3, 2), (4, 6))
    for stride in ((2, 2), (1, 1), (3, 2))
]


def windows(x, window, stride):
    """Every window of x with its place in the output."""
    P, Q = ((size - w) // s + 1 for size, w, s in zip(x.shape[1:3], window, stride, strict=True))
    for p, q in np.ndindex(P, Q):
        rows, columns = slice(p * stride[0], p * stride[0] + window[0]), slice(q * stride[1], q * stride[1] + window[1])
        yield p, q, (slice(None), rows, columns)


@pytest.mark.parametrize(("image", "window", "stride"), GRID)
def test_each_window_becomes_its_maximum_or_mean(backend, image, window, stride):
    x = rng.standard_normal((2, *image, 3))
    for f, of_window in ((ops.max_pool2d, np.max), (ops.avg_pool2d, np.mean)):
        y = f(backend.asarray(x), window=window, stride=stride)
        expected = np.empty(y.shape)
        for p, q, where in windows(x, window, stride):
            expected[:, p, q] = of_window(x[where], axis=(1, 2))
        assert_close(y, expected, like=backend.asarray(x), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("image", "window", "stride"), GRID)
def test_a_pixel_collects_from_the_windows_it_lies_in(backend, image, window, stride):
    x = rng.integers(0, 3, (2, *image, 3)).astype(float)  # with many that are equal: then the first is the maximum
    y = ops.max_pool2d(backend.asarray(x), window=window, stride=stride)
    dy = rng.standard_normal(y.shape)
    of_max, of_mean = np.zeros(x.shape), np.zeros(x.shape)
    for p, q, where in windows(x, window, stride):
        of_mean[where] += dy[:, p, q][:, None, None] / (window[0] * window[1])
        flat = x[where].reshape(2, -1, 3).argmax(axis=1)
        for n, c in np.ndindex(2, 3):
            u, v = divmod(flat[n, c], window[1])
            of_max[n, p * stride[0] + u, q * stride[1] + v, c] += dy[n, p, q, c]
    like, dy = backend.asarray(x), backend.asarray(dy)
    assert_close(ops.max_pool2d_backward(dy, like, y, window=window, stride=stride), of_max, like=like, atol=1e-14)
    assert_close(ops.avg_pool2d_backward(dy, like, window=window, stride=stride), of_mean, like=like, atol=1e-14)
    assert_close(like, x, like=like)


def test_the_global_mean_is_over_pixels(backend):
    x, dy = rng.standard_normal((2, 5, 3, 4)), rng.standard_normal((2, 4))
    like = backend.asarray(x)
    assert_close(ops.global_avg_pool2d(like), x.mean(axis=(1, 2)), like=like, rtol=1e-12, atol=1e-15)
    expected = np.broadcast_to(dy[:, None, None] / 15, x.shape)
    assert_close(ops.global_avg_pool2d_backward(backend.asarray(dy), like), expected, like=like)
