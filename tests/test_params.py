import numpy as np
import pytest

import gpunn as gn
from gpunn.testing import assert_close


def network(backend, dtype="float64"):
    return gn.Sequential(gn.Linear(3, 5, bias_init="normal"), gn.Tanh(), gn.Linear(5, 2)).init(
        seed=1, device=backend.device, dtype=dtype
    )


def test_parameters_are_views_of_one_array(backend):
    net = network(backend)
    net.store.values[...] = 2.5
    for param in net.params().values():
        assert_close(param.value, np.full(param.shape, 2.5), like=net.store.values)
    W = net.params()["linear1.W"]
    W.value[...] = 7.0
    assert (backend.device.to_host(net.store.values) == 7.0).sum() == W.size


def test_inside_rounded_the_values_are_a_copy_of_another_type(backend):
    net = network(backend)
    W, exact = net.params()["linear1.W"], net.state_dict()["linear1.W"]
    for shift in (0.0, 1.0):  # of the values as they are then
        W.value[...] = backend.asarray(exact + shift)
        with net.store.rounded(backend.xp.float32):
            assert_close(W.value, (exact + shift).astype("float32"), like=backend.asarray([1.0], "float32"))
            assert net.store.values.dtype == W.grad.dtype == backend.xp.float64
        assert_close(W.value, exact + shift, like=net.store.values)
    with pytest.raises(KeyError), net.store.rounded(backend.xp.float32):
        raise KeyError
    net.store.values[...] = 2.5
    assert_close(W.value, np.full(W.shape, 2.5), like=net.store.values)


def test_each_starts_on_a_cache_line_and_those_that_decay_come_first(backend):
    net = network(backend)
    places = {name: net.store._place[name] for name in net.params()}
    assert all(place.start * 4 % 64 == 0 for place in places.values())
    assert net.store.values.shape[0] < net.store.size + 4 * 16
    weights = [name for name in places if name.endswith("W")]
    biases = [name for name in places if name.endswith("b")]
    assert max(places[name].stop for name in weights) <= net.store.decaying.stop
    assert min(places[name].start for name in biases) >= net.store.decaying.stop
    assert net.store.size == 3 * 5 + 5 + 5 * 2 + 2


def test_the_space_between_stays_zero_while_training(backend):
    net = network(backend)
    trainer = gn.Trainer(net, gn.MeanSquaredError(), gn.AdamW(0.1), device=backend.device, clip_norm=1.0)
    for _ in range(3):
        trainer.step(np.ones((4, 3)), np.ones((4, 2)))
    used = sum((backend.device.to_host(p.value) != 0).sum() for p in net.params().values())
    assert (backend.device.to_host(net.store.values) != 0).sum() == used


def test_the_first_gradient_replaces_and_later_ones_add(backend):
    net = network(backend)
    b = net.params()["linear2.b"]
    one = backend.asarray([1.0, 2.0])
    b.add_grad(one)
    b.add_grad(one)
    assert_close(b.grad, [2.0, 4.0], like=one)
    net.zero_grad()
    b.add_grad(one)
    assert_close(b.grad, [1.0, 2.0], like=one)


def test_a_gradient_nobody_wrote_is_zero(backend):
    net = network(backend)
    for param in net.params().values():
        param.add_grad(param.value)
    net.zero_grad()
    net.params()["linear2.b"].add_grad(backend.asarray([1.0, 2.0]))
    flat = backend.device.to_host(net.store.gradient())
    assert sorted(flat[flat != 0]) == [1.0, 2.0]
    assert_close(net.params()["linear1.W"].grad, np.zeros((3, 5)), like=net.store.values)


def test_the_same_seed_gives_the_same_weights_on_every_backend(backend):
    for dtype in ("float32", "float64"):
        reference = gn.Sequential(gn.Linear(3, 5, bias_init="normal"), gn.Tanh(), gn.Linear(5, 2)).init(1, dtype=dtype)
        for name, array in network(backend, dtype).state_dict().items():
            assert np.array_equal(array, reference.state_dict()[name])
            assert array.dtype == dtype


def test_another_seed_gives_others():
    assert np.array_equal(gn.Linear(3, 5).init().state_dict()["W"], gn.Linear(3, 5).init(0).state_dict()["W"])
    one, other = (gn.Linear(3, 5).init(seed).state_dict()["W"] for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_weights_go_out_and_in_by_name(backend):
    net, other = network(backend), network(backend).init(seed=2, device=backend.device, dtype="float64")
    state = net.state_dict()
    assert all(isinstance(array, np.ndarray) for array in state.values())
    other.load_state_dict(state)
    assert_close(other.store.values, backend.device.to_host(net.store.values), like=net.store.values)
    state["linear1.W"][...] = 0  # a copy
    assert (net.state_dict()["linear1.W"] != 0).any()


def test_a_part_of_a_network_has_weights_of_its_own(backend):
    net, other = network(backend), network(backend).init(seed=2, device=backend.device)
    other.layers[0].load_state_dict(net.layers[0].state_dict())
    assert np.array_equal(other.state_dict()["linear1.W"], net.state_dict()["linear1.W"].astype("float32"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("linear2.b"), "have no 'linear2.b'"),
        (lambda s: s.update(extra=np.zeros(2)), "'extra' is not among its linear1.W"),
        (
            lambda s: s.update({"linear1.W": np.zeros((5, 3))}),
            r"'linear1.W' has shape \(5, 3\), this network expects \(3, 5\)",
        ),
    ],
)
def test_weights_of_another_network_change_nothing(backend, change, message):
    net = network(backend)
    before = net.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(gn.ShapeError, match=rf"weights are of another network.*{message}"):
        net.load_state_dict(state)
    assert all(np.array_equal(array, before[name]) for name, array in net.state_dict().items())


def test_a_network_moves_with_its_weights(backend):
    net = network(backend)
    before = net.state_dict()
    net.to("cpu", "float32").to(backend.device)
    assert net.store.device == backend.device
    assert net.store.dtype == "float32"
    for name, array in net.state_dict().items():
        assert np.array_equal(array, before[name].astype("float32"))
    assert gn.device_of(net.params()["linear1.W"].value) == backend.device


def test_a_layer_belongs_to_one_network():
    net = gn.Sequential(gn.Linear(3, 2)).init()
    with pytest.raises(gn.GpunnError, match=r"linear1\.W has its weights already, as part of another network"):
        gn.Sequential(net.layers[0], gn.ReLU()).init()
    assert gn.Sequential(*net.layers, gn.ReLU())(np.ones((1, 3), dtype="float32")).shape == (1, 2)  # but may be used


def test_before_init_there_is_nothing_to_have():
    net = gn.Sequential(gn.Linear(3, 2))
    for use in (
        lambda: net.store,
        lambda: net.params()["linear1.W"].value,
        lambda: net.params()["linear1.W"].grad,
        net.state_dict,
    ):
        with pytest.raises(gn.NotInitialised, match=r"call net.init\(seed=0\), or give it to a gn.Trainer"):
            use()
    with pytest.raises(gn.OptionError, match="dtype 'float16' is not known; expected float32 or float64"):
        net.init(dtype="float16")


def test_a_new_weight_can_be_written_as_the_guide_says():
    class Scale(gn.Layer):
        def __init__(self, n):
            self.n = n
            self.g = gn.Param((n,), init=gn.init.Constant(1.0))

        def forward(self, x, *, train=False, key=None):
            return x * self.g.value, x

        def backward(self, dy, cache, *, need_dx=True):
            x = cache
            self.g.add_grad(gn.namespace(x).sum(dy * x, axis=0))
            return dy * self.g.value

    net = gn.Sequential(gn.Linear(4, 3), Scale(3), gn.Tanh(), Scale(3))
    errors = gn.gradcheck(net, np.random.default_rng(0).standard_normal((5, 4)))
    assert max(errors.values()) < 1e-8
    assert {"x", "scale1.g", "scale2.g"} <= set(errors)


def test_gradients_can_be_looked_at_after_the_step():
    t = gn.Trainer(gn.Linear(3, 2), gn.MeanSquaredError(), gn.SGD(1.0), device="cpu", dtype="float64")
    before = t.net.state_dict()
    t.step(np.ones((4, 3)), np.ones((4, 2)))
    for name, param in t.net.params().items():
        assert np.any(param.grad)
        np.testing.assert_allclose(param.value, before[name] - param.grad)


def test_sizes_may_be_numbers_of_numpy():
    layer = gn.Linear(np.int64(3), np.uint8(2))
    assert [type(n) for n in (layer.n_in, layer.n_out)] == [int, int]
    assert gn.mlp(np.array([4, 3, 2])).init().store.size == 23


def test_what_fails_leaves_the_weights_that_are_there():
    net = gn.mlp([4, 3, 2]).init(seed=1)
    before = net.state_dict()
    with pytest.raises(gn.OptionError, match="seed must be a whole number"):
        net.init(-1)
    with pytest.raises(gn.OptionError, match="dtype"):
        net.init(dtype="int8")
    net.layers[2].W.init = lambda rng, shape: np.zeros(3)
    with pytest.raises(gn.ShapeError, match="the initialiser of linear2"):
        net.init(2)
    assert all(np.array_equal(array, before[name]) for name, array in net.state_dict().items())
    fresh = gn.Sequential(gn.Linear(2, 2, init=lambda rng, shape: np.zeros(3)))
    with pytest.raises(gn.ShapeError, match="the initialiser of linear1"):
        fresh.init()
    assert not fresh.initialised


def test_a_layer_without_parameters_but_with_buffers_belongs_to_one_network_too():
    shared = gn.Standardize([0.0], [1.0])
    gn.Sequential(shared).init()
    with pytest.raises(gn.GpunnError, match=r"standardize1.mean has its weights already, as part of another network"):
        gn.Sequential(shared).init(dtype="float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_buffer_starts_anew_whatever_was_written_into_it(dtype):
    layer = gn.BatchNorm(2).init(dtype=dtype)
    layer.forward(layer.store.device.asarray([[7.0, 8.0], [9.0, 11.0]], dtype), train=True)
    assert layer.mean.value[0] > 0.5
    np.testing.assert_array_equal(layer.init(dtype=dtype).mean.value, [0.0, 0.0])
    np.testing.assert_array_equal(layer.variance.value, [1.0, 1.0])


def test_parameters_in_a_list_are_found():
    class Several(gn.Layer):
        def __init__(self):
            self.factors = [gn.Param(3, "normal"), gn.Param((3,), "normal")]

    layer = Several().init()
    assert list(layer.params()) == ["factors1", "factors2"]
    assert layer.factors[0].value.shape == (3,)
