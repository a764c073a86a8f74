"""What holds for every layer, and for every loss."""

import copy
import pickle

import numpy as np
import pytest

import gpunn as gn
from gpunn.testing import assert_close, gradcheck_cases, layer_cases, loss_cases

CASES = layer_cases()


@pytest.fixture(params=CASES)
def case(request):
    make, shape = CASES[request.param]
    return make, np.random.default_rng(7).standard_normal(shape)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", gradcheck_cases())
def test_every_gradient_is_right(backend, name, train):
    errors = gn.gradcheck(*gradcheck_cases()[name](backend), train=train)
    assert max(errors.values()) <= 1e-7
    assert len(errors) >= 1


def test_every_public_layer_and_loss_has_a_case():
    made = {type(make()) for make, _ in CASES.values()}
    public = {getattr(gn.layers, name) for name in gn.layers.__all__}
    missing = {kind for kind in public if isinstance(kind, type)} - made
    assert missing == {gn.Layer, gn.Activation}
    checked = {type(loss) for loss, _, _ in loss_cases().values()}
    assert {getattr(gn.losses, name) for name in gn.losses.__all__} - checked == {gn.Loss, gn.losses.Weighted}
    assert "Weighted" in gradcheck_cases()  # the gradient of one; tests/test_losses.py has it around every other loss


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_stay_in_the_library_device_and_data_type(backend, case, dtype, train):
    make, values = case
    net = make().init(device=backend.device, dtype=dtype)
    x = backend.asarray(values, dtype)
    y, cache = net.forward(x, train=train, key=(0, 0))
    like = net(x) if not train else y
    assert_close(y, backend.device.to_host(like), like=x)
    dy = backend.asarray(np.ones(y.shape), dtype)
    dx = net.backward(dy, cache)
    assert_close(dx, backend.device.to_host(dx), like=x)
    assert dx.shape == x.shape
    for param in net.params().values():
        assert_close(param.grad, backend.device.to_host(param.grad), like=x)
        assert tuple(param.grad.shape) == param.shape
    assert_close(x, values.astype(dtype), like=x)
    assert_close(dy, np.ones(y.shape), like=x)


def test_the_shape_that_is_foretold_is_the_shape_that_comes(case):
    make, values = case
    net = make().init()
    assert net.output_shape(values.shape[1:]) == net(values.astype("float32")).shape[1:]


@pytest.mark.parametrize("train", [False, True])
def test_float32_gradients_are_those_of_float64(backend, case, train):
    make, values = case
    found = []
    for dtype in ("float64", "float32"):
        net = make().init(device=backend.device, dtype=dtype)
        y, cache = net.forward(backend.asarray(values, dtype), train=train, key=(0, 0))
        dy = np.random.default_rng(8).standard_normal(y.shape)
        dx = net.backward(backend.asarray(dy, dtype), cache)
        found.append([dx, *(param.grad for param in net.params().values())])
    for wide, narrow in zip(*found, strict=True):
        exact = backend.device.to_host(wide)
        assert_close(narrow, exact, like=narrow, rtol=1e-5, atol=1e-5 * np.abs(exact).max())


def test_strided_inputs_give_the_same(backend, case):
    make, values = case
    net = make().init(device=backend.device, dtype="float64")
    wide = backend.asarray(np.repeat(values, 2, axis=0))
    x = wide[::2, ...]
    y, cache = net.forward(x)
    assert_close(y, backend.device.to_host(net(backend.asarray(values))), like=x)
    assert net.backward(y, cache).shape == x.shape


def test_copies_and_pickles_live_on_their_own(case):
    make, values = case
    net = make().init(seed=3)
    x = values.astype("float32")
    before = net(x)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(twin(x), before)
        if twin.params():
            twin.store.values[...] += 1.0  # the parameters of the copy are views of the copy's own array
            assert not np.array_equal(twin(x), before)
    assert np.array_equal(net(x), before)


def test_a_layer_that_is_given_no_weights_says_so():
    with pytest.raises(gn.NotInitialised, match=r"no weights yet: call net.init"):
        gn.Linear(2, 3).forward(np.ones((1, 2), dtype="float32"))


def test_layers_in_a_list_are_found():
    class Sum(gn.Layer):
        def __init__(self, *branches):
            self.branches = list(branches)

        def forward(self, x, *, train=False, key=None):
            ys, caches = zip(*(b.forward(x, train=train, key=key) for b in self.branches), strict=True)
            return sum(ys), caches

        def backward(self, dy, cache, *, need_dx=True):
            return sum(b.backward(dy, c) for b, c in zip(self.branches, cache, strict=True))

    layer = Sum(gn.Linear(4, 3), gn.Tanh(), gn.Linear(4, 3, bias=False))
    assert list(layer.params()) == ["branches1.W", "branches1.b", "branches3.W"]
    assert max(gn.gradcheck(Sum(gn.Linear(4, 4), gn.Tanh()), np.ones((2, 4))).values()) < 1e-9
    assert layer.output_shape((4,)) is None  # a layer that does not say is not guessed at
    with pytest.raises(gn.ShapeError, match=r"Linear\(5, 2\) cannot take inputs of shape \(3,\)"):
        gn.Sequential(gn.Linear(4, 3), gn.Linear(5, 2))
    gn.Sequential(gn.Linear(4, 3), Sum(gn.Linear(3, 5)), gn.Linear(5, 2))
