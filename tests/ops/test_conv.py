import numpy as np
import pytest

from gpunn import ops
from gpunn.ops.conv import output_size
from gpunn.testing import assert_close

rng = np.random.default_rng(3)
# image, channels in and out, kernel, stride, padding
GRID = [
    (image, channels, kernel, stride, padding)
    for image in ((5, 7), (6, 6))
    for channels in ((1, 2), (3, 1))
    for kernel in ((1, 1), (3, 2), (5, 5))
    for stride in ((1, 1), (2, 3))
    for padding in ((0, 0), (1, 2))
]


def arrays(image, channels, kernel):
    (n_in, n_out), normal = channels, rng.standard_normal
    return normal((2, *image, n_in)), normal((*kernel, n_in, n_out)), normal(n_out)


def by_hand(x, W, b, stride, padding):
    """The sum as it is written, window by window."""
    x = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    U, V = W.shape[:2]
    P, Q = (x.shape[1] - U) // stride[0] + 1, (x.shape[2] - V) // stride[1] + 1
    y = np.empty((len(x), P, Q, W.shape[3]))
    for n, p, q, m in np.ndindex(y.shape):
        window = x[n, p * stride[0] : p * stride[0] + U, q * stride[1] : q * stride[1] + V]
        y[n, p, q, m] = (window * W[..., m]).sum() + b[m]
    return y


@pytest.mark.parametrize(("image", "channels", "kernel", "stride", "padding"), GRID)
def test_every_pixel_is_the_sum_over_its_window(backend, image, channels, kernel, stride, padding):
    x, W, b = arrays(image, channels, kernel)
    expected = by_hand(x, W, b, stride, padding)
    like = backend.asarray(x)
    for f in (ops.conv2d, ops.conv2d.reference):
        y = f(like, backend.asarray(W), backend.asarray(b), stride=stride, padding=padding)
        assert_close(y, expected, like=like, rtol=1e-12, atol=1e-12)
    assert_close(like, x, like=like)


@pytest.mark.parametrize(("image", "channels", "kernel", "stride", "padding"), GRID[::7])
def test_a_relu_of_it(backend, image, channels, kernel, stride, padding):
    x, W, b = arrays(image, channels, kernel)
    like = backend.asarray(x)
    y = ops.conv2d_relu(like, backend.asarray(W), backend.asarray(b), stride=stride, padding=padding)
    assert_close(y, np.maximum(by_hand(x, W, b, stride, padding), 0), like=like, rtol=1e-12, atol=1e-12)
    assert_close(like, x, like=like)


@pytest.mark.parametrize(("image", "channels", "kernel", "stride", "padding"), GRID)
def test_gradients_are_those_of_pytorch(backend, image, channels, kernel, stride, padding):
    torch = pytest.importorskip("torch")
    x, W, b = arrays(image, channels, kernel)
    channels_first = x.transpose(0, 3, 1, 2), W.transpose(3, 2, 0, 1), b
    theirs = [torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in channels_first]
    y = torch.nn.functional.conv2d(*theirs, stride=stride, padding=padding)
    dy = rng.standard_normal(y.shape)
    y.backward(torch.tensor(dy))
    expected = theirs[0].grad.permute(0, 2, 3, 1), theirs[1].grad.permute(2, 3, 1, 0), theirs[2].grad
    like, W = backend.asarray(x), backend.asarray(W)
    for f in (ops.conv2d_backward, ops.conv2d_backward.reference):
        ours = f(backend.asarray(dy.transpose(0, 2, 3, 1)), like, W, stride=stride, padding=padding)
        for got, wanted in zip(ours, expected, strict=True):
            assert_close(got, wanted.numpy(), like=like, rtol=1e-12, atol=1e-12)


def test_sizes_are_those_of_windows_that_fit_whole():
    assert output_size((28, 20), (5, 3), (1, 1)) == (24, 18)
    assert output_size((28, 20), (5, 3), (1, 2), (2, 1)) == (28, 10)
    assert output_size((7, 7), (2, 3), (2, 3)) == (3, 2)
    assert min(output_size((3, 5), (5, 5), (1, 1))) < 1
