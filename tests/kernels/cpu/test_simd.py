import numpy as np
import pytest

pytest.importorskip("numba")

from numba import njit

from gpunn.kernels.cpu.fast.simd import LANES, copy, multiply, sandwich, transpose

rng = np.random.default_rng(8)


@njit
def call(a, a_at, b, b_at, c, c_at, rows, columns, size, add):
    multiply(a, a_at, b, b_at, c, c_at, rows, columns, size, add)


@pytest.mark.parametrize("columns", [*(n * LANES for n in (1, 2, 3, 4, 7, 10)), 1, LANES - 1, 6 * LANES + 3])
@pytest.mark.parametrize("rows", [1, 5, 6, 8, 23])
@pytest.mark.parametrize("size", [(1, 9), (3, 4), (2, 0)])
def test_a_product_is_the_sum_over_two_indices(columns, rows, size):
    n_o, n_k = size
    # Rows of a overlap, as windows of an image do; its numbers, those of b and those of c begin later than the array.
    a, a_at = rng.standard_normal(400).astype("float32"), (3, 5, 7, 2)
    b = rng.standard_normal(2 + max(1, n_o * n_k) * (columns + 1)).astype("float32")
    b_at = 2, n_k * (columns + 1), columns + 1
    start = rng.standard_normal(4 + rows * (columns + 6)).astype("float32")
    i, o, k, m = (np.arange(n) for n in (rows, n_o, n_k, columns))
    left = a[a_at[0] + i[:, None, None] * a_at[1] + o[:, None] * a_at[2] + k * a_at[3]]
    right = b[b_at[0] + o[:, None, None] * b_at[1] + k[:, None] * b_at[2] + m]
    product = np.einsum("iok,okm->im", left, right)
    for add in (False, True):
        c, wanted = start.copy(), start.copy()
        places = 4 + i[:, None] * (columns + 6) + m
        wanted[places] = product + add * start[places]
        call(a, a_at, b, b_at, c, (4, columns + 6), rows, columns, size, add)
        np.testing.assert_allclose(c, wanted, rtol=1e-5, atol=1e-5)


@njit
def call_copy(a, a0, b, b0, columns):
    copy(a, a0, b, b0, columns)


@njit
def call_transpose(a, a_at, b, b_at, rows, columns):
    transpose(a, a_at, b, b_at, rows, columns)


@pytest.mark.parametrize("columns", [0, 1, LANES, 3 * LANES + 5])
def test_a_copy_is_of_so_many_numbers(columns):
    a, b = rng.standard_normal(100).astype("float32"), np.zeros(100, "float32")
    call_copy(a, 3, b, 7, columns)
    assert np.array_equal(b[7 : 7 + columns], a[3 : 3 + columns])
    assert not b[:7].any()
    assert not b[7 + columns :].any()


@pytest.mark.parametrize("rows", [0, 1, LANES - 1, LANES, 2 * LANES + 3])
@pytest.mark.parametrize("columns", [0, 2, LANES, 2 * LANES + 1])
def test_a_transpose_has_rows_for_columns(rows, columns):
    a = rng.standard_normal((rows, columns + 3)).astype("float32")
    b = np.zeros((columns, rows + 2), "float32")
    call_transpose(a.reshape(-1), (2, columns + 3), b.reshape(-1), (1, rows + 2), rows, columns)
    assert np.array_equal(b[:, 1 : 1 + rows], a[:, 2 : 2 + columns].T)
    assert not b[:, 0].any()
    assert not b[:, 1 + rows :].any()


@pytest.mark.parametrize("shape", [(6, 6), (4, 6), (6, 4), (1, 2)])
@pytest.mark.parametrize("add", [False, True])
def test_a_matrix_on_both_sides(shape, add):
    T = rng.standard_normal(shape)
    T[0, 1] = 0.0
    transform = sandwich(T, add)
    n_out, n_in = shape
    X = rng.standard_normal((n_in, n_in, LANES)).astype("float32")
    # Those of x in rows that are longer, those of y in the order of columns; both begin later than the array.
    x, y = np.zeros(1 + n_in * (n_in + 1) * LANES, "float32"), np.ones(2 + n_out * n_out * LANES, "float32")
    x[1:].reshape(n_in, n_in + 1, LANES)[:, :n_in] = X

    @njit
    def run(x, x_at, y, y_at):
        transform(x, x_at, y, y_at)

    run(x, (1, (n_in + 1) * LANES, LANES), y, (2, LANES, n_out * LANES))
    got = y[2:].reshape(n_out, n_out, LANES).swapaxes(0, 1)
    wanted = np.einsum("iu,uvl,jv->ijl", T, X, T) + add
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    assert (y[:2] == 1.0).all()
