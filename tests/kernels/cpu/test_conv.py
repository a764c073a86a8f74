import inspect

import numpy as np
import pytest

from gpunn import ops
from gpunn.kernels.cpu import conv

rng = np.random.default_rng(4)
# image, channels in and out, kernel, stride, padding
SHAPES = [
    ((1, 1), 1, 1, (1, 1), (1, 1), (0, 0)),
    ((7, 5), 1, 3, (3, 3), (1, 1), (0, 0)),
    ((7, 5), 3, 2, (3, 3), (1, 1), (1, 1)),
    ((8, 9), 2, 4, (2, 5), (2, 3), (1, 2)),
    ((6, 6), 4, 3, (6, 6), (1, 1), (0, 0)),
    ((5, 8), 1, 2, (2, 3), (3, 2), (2, 0)),
]


def variants(a):
    """The same numbers in other layouts of memory, and where they must not be written to."""
    yield np.asfortranarray(a)
    yield np.repeat(a, 2, axis=0)[::2]
    flipped = np.ascontiguousarray(a[::-1])[::-1]
    flipped.flags.writeable = False
    yield flipped


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("piece", [1, 200, conv.PIECE])
@pytest.mark.parametrize(("image", "n_in", "n_out", "kernel", "stride", "padding"), SHAPES)
def test_the_twin_gives_what_the_reference_gives(
    image, n_in, n_out, kernel, stride, padding, piece, dtype, monkeypatch
):
    monkeypatch.setattr(conv, "PIECE", piece)
    x, W = (
        rng.standard_normal((5, *image, n_in)).astype(dtype),
        rng.standard_normal((*kernel, n_in, n_out)).astype(dtype),
    )
    b, where = rng.standard_normal(n_out).astype(dtype), {"stride": stride, "padding": padding}
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    y = ops.conv2d.reference(x, W, b, **where)
    dy = rng.standard_normal(y.shape).astype(dtype)
    expected = ops.conv2d_backward.reference(dy, x, W, **where)
    for x_, W_, dy_ in [(x, W, dy), *zip(variants(x), variants(W), variants(dy), strict=True)]:
        results = [ops.conv2d(x_, W_, b, **where), *ops.conv2d_backward(dy_, x_, W_, **where)]
        for result, wanted in zip(results, (y, *expected), strict=True):
            assert result.dtype == np.dtype(dtype)
            np.testing.assert_allclose(result, wanted, **tolerance)
    assert ops.conv2d_backward(dy, x, W, **where, need_dx=False)[0] is None
    np.testing.assert_allclose(ops.conv2d(x, W, **where), y - b, **tolerance)


def test_it_is_the_twin_that_is_called(monkeypatch):
    x, W = np.ones((1, 3, 3, 1)), np.ones((2, 2, 1, 1))
    monkeypatch.setattr(conv, "_columns", lambda *_: np.full((4, 4), 7.0))
    assert ops.conv2d(x, W).tolist() == [[[[28.0], [28.0]], [[28.0], [28.0]]]]
    assert ops.conv2d.reference(x, W)[0, 0, 0, 0] == 4.0


@pytest.mark.parametrize("name", conv.TWINS)
def test_a_twin_has_the_parameters_of_its_op(name):
    def parameters(f):
        return [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]

    assert parameters(conv.TWINS[name]) == parameters(getattr(ops, name).reference)


def test_a_batch_of_no_images_passes():
    x, W = np.ones((0, 5, 5, 2)), np.ones((3, 3, 2, 4))
    y = ops.conv2d(x, W)
    assert y.shape == (0, 3, 3, 4)
    dx, dW, db = ops.conv2d_backward(y, x, W)
    assert dx.shape == x.shape
    assert not dW.any()
    assert not db.any()
