import threading

import numpy as np
import pytest

import gpunn as gn
from gpunn.testing import assert_close

X = np.random.default_rng(9).standard_normal((6, 4))


def two_layers():
    return gn.Sequential(gn.Linear(4, 5), gn.Tanh(), gn.Linear(5, 3))


def test_layers_follow_one_another(backend):
    net = two_layers().init(device=backend.device, dtype="float64")
    W1, b1, W2, b2 = net.state_dict().values()
    x = backend.asarray(X)
    assert_close(net(x), np.tanh(X @ W1 + b1) @ W2 + b2, like=x)


def test_layers_are_named_by_class_and_count():
    net = gn.Sequential(gn.Linear(4, 4), gn.ReLU(), gn.Residual(gn.Linear(4, 4), gn.ReLU(), gn.Linear(4, 4)))
    assert list(net.params()) == [
        "linear1.W",
        "linear1.b",
        "residual1.linear1.W",
        "residual1.linear1.b",
        "residual1.linear2.W",
        "residual1.linear2.b",
    ]


def test_a_layer_without_parameters_does_not_change_the_weights_of_others():
    one, other = gn.Sequential(gn.Linear(4, 3)), gn.Sequential(gn.Flatten(), gn.Linear(4, 3), gn.ReLU())
    assert np.array_equal(one.init(seed=5).state_dict()["linear1.W"], other.init(seed=5).state_dict()["linear1.W"])


def test_the_output_function_is_for_answers_only(backend):
    net = gn.mlp([4, 5, 3], output="softmax").init(device=backend.device, dtype="float64")
    x = backend.asarray(X)
    logits, _ = net.forward(x)
    assert_close(net.infer(x), backend.device.to_host(logits), like=x)
    assert_close(net(x), gn.ops.softmax(backend.device.to_host(logits)), like=x)


def test_memory_falls_on_the_way_back_and_a_second_way_back_is_refused(backend):
    net = two_layers().init(device=backend.device, dtype="float64")
    y, cache = net.forward(backend.asarray(X))
    assert len(cache) == 3
    net.backward(y, cache)
    assert cache == []
    with pytest.raises(gn.SpentCache, match="used already: backward takes that of one forward pass once; call forward"):
        net.backward(y, cache)


@pytest.mark.parametrize("before", [[], [gn.Flatten()], [gn.Standardize(np.zeros(4), np.ones(4)), gn.Tanh()]])
def test_the_lowest_layer_is_told_that_nobody_wants_its_dx(before, monkeypatch):
    first = gn.Linear(4, 5)
    net = gn.Sequential(*before, first, gn.Tanh(), gn.Linear(5, 3)).init(dtype="float64")
    asked = []
    backward = first.backward
    monkeypatch.setattr(
        first, "backward", lambda *a, need_dx=True: asked.append(need_dx) or backward(*a, need_dx=need_dx)
    )
    y, cache = net.forward(X)
    assert net.backward(y, cache, need_dx=False) is None
    assert asked == [False]
    assert cache == []
    without = [param.grad.copy() for param in net.params().values()]
    net.zero_grad()
    y, cache = net.forward(X)
    assert net.backward(y, cache).shape == X.shape
    for a, param in zip(without, net.params().values(), strict=True):
        assert np.array_equal(a, param.grad)


def test_a_layer_used_twice_collects_both_gradients(backend):
    tied = gn.Linear(4, 4, bias_init="normal")
    net = gn.Sequential(tied, gn.Tanh(), tied, gn.Residual(gn.Tanh(), tied))
    assert list(net.params()) == ["linear1.W", "linear1.b"]
    assert max(gn.gradcheck(net, backend.asarray(X)).values()) < 1e-8


def test_a_residual_branch_adds_to_what_passes(backend):
    inner = gn.Linear(4, 4)
    net = gn.Residual(inner).init(device=backend.device, dtype="float64")
    x = backend.asarray(X)
    W, b = net.state_dict().values()
    assert_close(net(x), X + X @ W + b, like=x)
    _, cache = net.forward(x)
    assert_close(net.backward(x * 0 + 1, cache), 1 + np.ones((6, 4)) @ W.T, like=x)


def test_a_residual_branch_must_keep_the_shape():
    with pytest.raises(gn.ShapeError, match=r"f makes \(3,\) of an input of shape \(4,\)"):
        gn.Sequential(gn.Linear(2, 4), gn.Residual(gn.Linear(4, 3)))
    assert gn.Residual(gn.Tanh()).output_shape(None) is None
    assert gn.Residual(gn.Tanh()).output_shape((7,)) == (7,)
    branch = gn.Residual(gn.Linear(4, 3)).init(dtype="float64")
    for use in (branch.forward, branch):
        with pytest.raises(gn.ShapeError, match=r"f makes \(3,\) of an input of shape \(4,\)"):
            use(X)


def test_layers_that_do_not_fit_are_named_when_the_network_is_built():
    with pytest.raises(gn.ShapeError, match=r"Linear\(100, 10\) cannot take inputs of shape \(128,\).*after ReLU"):
        gn.Sequential(gn.Linear(784, 128), gn.ReLU(), gn.Linear(100, 10))


def test_what_is_no_layer_is_named():
    with pytest.raises(gn.OptionError, match=r"takes layers, got <class .*ReLU'>; write ReLU\(\)"):
        gn.Sequential(gn.Linear(4, 3), gn.ReLU)
    with pytest.raises(gn.OptionError, match="takes layers, got 'relu'"):
        gn.Sequential(gn.Linear(4, 3), "relu")
    with pytest.raises(gn.OptionError, match=r"got \[Linear\(.*\]; write them .*, or Sequential\(\*layers\)$"):
        gn.Sequential([gn.Linear(4, 3)])


def test_only_the_outermost_network_has_an_output():
    with pytest.raises(gn.OptionError, match="output=Softmax cannot be a layer of another"):
        gn.Sequential(gn.mlp([4, 3], output="softmax"), gn.Linear(3, 2))


def test_two_threads_may_use_one_network():
    net = two_layers().init(dtype="float64")
    inputs = [np.random.default_rng(i).standard_normal((20, 4)) for i in range(2)]
    wrong = []

    def work(x):
        expected = net(x)
        for _ in range(200):
            y, cache = net.forward(x)
            if not (np.array_equal(y, expected) and cache[0] is x):
                wrong.append(1)

    threads = [threading.Thread(target=work, args=(x,)) for x in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_summary_has_a_line_a_layer(capsys):
    gn.mlp([784, 100, 10], hidden="tanh", output="softmax").summary()
    text = capsys.readouterr().out.splitlines()
    assert text[0].split() == ["layer", "output", "parameters"]
    assert text[2].split() == ["linear1", "(Linear)", "(N,", "100)", "78,500"]
    assert text[3].split() == ["tanh1", "(Tanh)", "(N,", "100)", "0"]
    assert text[-3].split() == ["output", "(Softmax)", "(N,", "10)", "0"]
    assert text[-1] == "79,510 parameters"
    gn.Sequential(gn.Flatten(), gn.ReLU()).summary()
    assert "?" in capsys.readouterr().out
    gn.Sequential(gn.Flatten(), gn.ReLU()).summary((28, 28, 1))
    assert "(N, 784)" in capsys.readouterr().out


def test_a_network_shows_how_to_write_it():
    net = gn.Sequential(gn.Linear(4, 3, bias=False), gn.ELU(0.5), output="sigmoid")
    assert repr(net) == "Sequential(Linear(n_in=4, n_out=3, bias=False), ELU(alpha=0.5), output=Sigmoid())"


def test_an_empty_network_passes_everything():
    net = gn.Sequential().init()
    y, cache = net.forward(X)
    assert y is X
    assert net.backward(X, cache) is X


def test_a_layer_used_twice_counts_once_in_the_summary():
    shared = gn.Linear(4, 4)
    lines = gn.Sequential(shared, gn.Tanh(), shared)._summary().splitlines()
    assert [line.split()[-1] for line in lines if "(Linear)" in line] == ["20", "0"]
    assert lines[-1] == "20 parameters"


class Mine(gn.Linear):
    pass


class Leaky(gn.ReLU):
    def forward(self, x, *, train=False, key=None):
        return gn.ops.leaky_relu(x, alpha=0.5), x


IMAGES = np.random.default_rng(4).standard_normal((3, 5, 4, 2))


@pytest.mark.parametrize(
    ("layers", "x", "pairs"),
    [
        (
            lambda: (gn.Linear(4, 5), gn.ReLU(), gn.Linear(5, 5, bias=False), gn.ReLU(), gn.ReLU(), gn.Linear(5, 3)),
            X,
            2,
        ),
        (
            lambda: (gn.Conv2d(2, 3, 2, stride=2, padding=1), gn.ReLU(), gn.Flatten(), gn.Linear(27, 4), gn.ReLU()),
            IMAGES,
            2,
        ),
        (lambda: (gn.Residual(gn.Linear(4, 4), gn.ReLU()), gn.ReLU()), X, 1),
        (lambda: (Mine(4, 5), gn.ReLU(), gn.Linear(5, 5), Leaky(), gn.Linear(5, 3), gn.Tanh()), X, 0),
    ],
)
def test_a_relu_right_after_weights_is_computed_with_them(backend, layers, x, pairs, monkeypatch):
    """The numbers are those of the layers one by one, forward and backward."""
    asked = []
    for name in ("linear_relu", "linear_relu_kept", "conv2d_relu"):
        module = gn.layers.conv if name == "conv2d_relu" else gn.layers.linear
        f = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, f=f, **named: (asked.append(f), f(*args, **named))[1])
    net = gn.Sequential(*layers()).init(device=backend.device, dtype="float64")
    x = backend.asarray(x)
    y, caches = net.forward(x, train=True)
    assert len(asked) == pairs
    z, alone = x, []
    for layer in net.layers:
        z, cache = layer.forward(z, train=True)
        alone.append(cache)
    assert_close(y, backend.device.to_host(z), like=x)
    assert_close(net.infer(x), backend.device.to_host(z), like=x)
    dx, dy = net.backward(y, caches), y
    fused = {name: backend.device.to_host(param.grad).copy() for name, param in net.params().items()}
    net.zero_grad()
    for layer in reversed(net.layers):
        dy = layer.backward(dy, alone.pop())
    assert_close(dx, backend.device.to_host(dy), like=x)
    for name, param in net.params().items():
        assert_close(param.grad, fused[name], like=x)


def test_the_gradient_through_a_relu_that_is_computed_with_the_weights():
    for net, x in (
        (gn.Sequential(gn.Linear(4, 5), gn.ReLU(), gn.Linear(5, 3)), X),
        (gn.Sequential(gn.Conv2d(2, 3, 2), gn.ReLU(), gn.Conv2d(3, 2, 2), gn.ReLU()), IMAGES),
    ):
        assert max(gn.gradcheck(net, x).values()) < 1e-6


def test_other_layers_may_be_put_in_their_place(backend):
    x = backend.asarray(X)
    for layers in (
        (gn.Linear(4, 5), gn.ReLU(), gn.Linear(5, 7)),  # another head
        (gn.Linear(4, 5), gn.Tanh(), gn.Linear(5, 3)),
        (gn.ReLU(),),
        [gn.Linear(4, 2), gn.ReLU(), gn.Dropout(0.5), gn.Linear(2, 2), gn.ReLU()],
    ):
        net = gn.Sequential(gn.Linear(4, 5), gn.ReLU(), gn.Linear(5, 3)).init(device=backend.device, dtype="float64")
        net.infer(x)  # by the layers that it has now
        net.layers = layers
        anew = gn.Sequential(*layers)
        assert repr(net) == repr(anew)
        assert net.init(1, device=backend.device, dtype="float64").params().keys() == anew.params().keys()
        y, caches = net.forward(x)
        dx = net.backward(y, caches)
        grads = {name: backend.device.to_host(param.grad).copy() for name, param in net.params().items()}
        net.zero_grad()
        z, caches = anew.forward(x)  # the same weights
        assert_close(y, backend.device.to_host(z), like=x)
        assert_close(dx, backend.device.to_host(anew.backward(z, caches)), like=x)
        for name, param in net.params().items():
            assert_close(param.grad, grads[name], like=x)
        assert net.backward(*net.forward(x), need_dx=False) is None
    with pytest.raises(gn.OptionError, match="takes layers, got 3"):
        net.layers = (gn.ReLU(), 3)
    assert len(net.layers) == 5


def test_a_backward_pass_that_is_looked_at_gets_what_it_names():
    net, seen = gn.mlp([4, 5, 2]).init(), []
    for layer in net.layers[::2]:

        def spy(dy, cache, need_dx=True, *, backward=layer.backward, **named):
            seen.append((need_dx, [*named]))
            return backward(dy, cache, need_dx=need_dx, **named)

        layer.backward = spy
    y, cache = net.forward(X.astype("float32"), train=True)
    net.backward(y, cache)
    assert seen == [(True, ["kept"]), (True, [])]


@pytest.mark.parametrize("hidden", [[5], [5, 6, 7]])
def test_a_relu_between_two_linears_is_the_upper_ones_on_the_way_back(backend, hidden, monkeypatch):
    def fails(*_, **__):
        raise AssertionError

    kept = []
    through = gn.layers.linear.relu_linear_backward
    monkeypatch.setattr(gn.layers.linear, "relu_linear_backward", lambda *a, **n: kept.append(a[3]) or through(*a, **n))
    net = gn.mlp([4, *hidden, 3]).init(device=backend.device, dtype="float64")
    for layer in net.layers:
        if isinstance(layer, gn.ReLU):
            monkeypatch.setattr(layer, "backward", fails)
    for need_dx in (True, False):
        y, cache = net.forward(backend.asarray(X), train=True)
        assert (net.backward(y, cache, need_dx=need_dx) is None) != need_dx
        assert [k.shape[1] for k in kept] == hidden[::-1]
        kept.clear()
    above = gn.Sequential(gn.Linear(4, 5), gn.ReLU(), gn.Tanh(), gn.Linear(5, 3), gn.ReLU(), gn.Linear(3, 3))
    above.init(device=backend.device, dtype="float64")
    assert max(gn.gradcheck(above, backend.asarray(X)).values()) < 1e-6
    assert len(kept) == 1


def test_a_network_from_a_pickle_made_before_relus_were_computed_with_the_weights():
    net = gn.Sequential(gn.Linear(4, 5), gn.ReLU(), gn.Linear(5, 3)).init(dtype="float64")
    old = gn.Sequential.__new__(gn.Sequential)  # as pickle makes it: without __init__
    vars(old).update({name: value for name, value in vars(net).items() if name != "_computed"})
    assert np.array_equal(old(X), net(X))
    assert np.array_equal(old.forward(X)[0], net(X))
