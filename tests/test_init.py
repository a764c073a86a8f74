import numpy as np
import pytest

import gpunn as gn
from gpunn.init import initializer
from gpunn.rng import generator

SHAPES = [(300, 200), (3, 3, 40, 60)]  # of a linear layer, of a convolution


def draw(init, shape):
    return initializer(init)(generator(0, "test"), shape)


# name: (variance from fan_in and fan_out, whether the numbers are bounded)
VARIANCES = {
    "lecun_normal": (lambda n, m: 1 / n, False),
    "lecun_uniform": (lambda n, m: 1 / n, True),
    "xavier_normal": (lambda n, m: 2 / (n + m), False),
    "xavier_uniform": (lambda n, m: 2 / (n + m), True),
    "he_normal": (lambda n, m: 2 / n, False),
    "he_uniform": (lambda n, m: 2 / n, True),
}


@pytest.mark.parametrize("name", VARIANCES)
@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_have_the_published_variance(name, shape):
    variance, bounded = VARIANCES[name]
    pixels = int(np.prod(shape[:-2]))
    expected = variance(pixels * shape[-2], pixels * shape[-1])
    values = draw(name, shape)
    assert values.shape == shape
    assert values.dtype == np.float64
    assert values.var() == pytest.approx(expected, rel=0.03)
    assert abs(values.mean()) < 0.02 * expected**0.5
    largest = np.abs(values).max() / expected**0.5
    assert (largest <= 3**0.5) if bounded else (largest > 3)


def test_plain_initialisers():
    assert (draw("zeros", (3, 2)) == 0).all()
    assert (draw(gn.init.Constant(0.25), (3, 2)) == 0.25).all()
    normal = draw(gn.init.Normal(2.0, mean=5.0), (200, 200))
    assert (normal.mean(), normal.std()) == (pytest.approx(5, abs=0.05), pytest.approx(2, rel=0.02))
    uniform = draw(gn.init.Uniform(-1.0, 3.0), (200, 200))
    assert (uniform.min(), uniform.max()) == (pytest.approx(-1, abs=0.01), pytest.approx(3, abs=0.01))


def test_vectors_can_be_drawn_too():
    for name in VARIANCES:
        assert draw(name, (50,)).shape == (50,)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (25, 25), (3, 3, 4, 8)])
def test_orthogonal_columns_or_rows(shape):
    q = draw(gn.init.Orthogonal(gain=2.0), shape).reshape(-1, shape[-1])
    small = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_orthogonal_matrices_are_not_all_of_one_sign():
    # without the signs of R's diagonal, the diagonal of Q is always negative
    positive = sum(initializer("orthogonal")(generator(i, "q"), (4, 4))[0, 0] > 0 for i in range(20))
    assert 0 < positive < 20


def test_names_and_functions_are_both_taken():
    assert initializer("he") == gn.init.HeNormal()
    own = lambda rng, shape: np.full(shape, 0.5)  # noqa: E731
    assert (gn.Linear(3, 2, init=own).init().state_dict()["W"] == 0.5).all()


def test_the_usual_constants():
    assert repr(gn.init.Normal()) == "Normal(std=1.0, mean=0.0)"
    assert repr(gn.init.Uniform()) == "Uniform(low=-0.05, high=0.05)"
    assert repr(gn.init.Orthogonal()) == "Orthogonal(gain=1.0)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gn.init.Normal(-1.0), "Normal: std must be at least 0, got -1.0"),
        (lambda: gn.init.Normal(1.0, mean=np.nan), "Normal: mean must be a number, got nan"),
        (lambda: gn.init.Uniform(1.0, 0.0), "Uniform: high must be at least 1, got 0.0"),
        (lambda: gn.init.Uniform("a"), "Uniform: low must be a number, got 'a'"),
        (lambda: gn.init.Constant(np.inf), "Constant: value must be a number, got inf"),
        (lambda: gn.init.Orthogonal(None), "Orthogonal: gain must be a number, got None"),
        (lambda: gn.Linear(2, 2, init="hee"), "initialiser 'hee' is not known; expected one of zeros, normal"),
        (lambda: gn.Linear(2, 2, init=3), "initialiser 3 is not known"),
        (lambda: gn.Linear(2, 2, init=gn.init.Constant), r"must be an object of the class: write Constant\(...\)"),
    ],
)
def test_what_cannot_draw_numbers_is_named(make, message):
    with pytest.raises(gn.OptionError, match=message):
        make()


def test_a_class_stands_for_its_usual_object():
    by_class, by_name = gn.Linear(4, 3, init=gn.init.HeUniform).init(), gn.Linear(4, 3, init="he_uniform").init()
    assert np.array_equal(by_class.W.value, by_name.W.value)


def test_numbers_of_another_shape_are_not_spread_over_the_weight():
    net = gn.Sequential(gn.Linear(4, 3, init=lambda rng, shape: rng.standard_normal(shape[1])))
    with pytest.raises(gn.ShapeError, match=r"of linear1.W made numbers of shape \(3,\), expected \(4, 3\)"):
        net.init()
