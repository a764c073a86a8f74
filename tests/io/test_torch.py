import importlib.util
import re

import numpy as np
import pytest

import gpunn as gn
from gpunn import layers
from gpunn.errors import FileError, NotInitialised, OptionError, ShapeError
from gpunn.io.torch import _LAYERS, check_torch, from_torch_state_dict, to_torch, to_torch_state_dict, torch_code
from gpunn.testing import layer_cases

torch = pytest.importorskip("torch")
nn = torch.nn


def randomised(net, dtype="float64", seed=1):
    """The network with every parameter and buffer off its initial value, so that each of them counts."""
    rng = np.random.default_rng(seed)
    net.init(dtype=dtype)
    net.load_state_dict({name: a + rng.uniform(0.1, 0.5, a.shape) for name, a in net.state_dict().items()})
    return net


def twin(net, shape):
    """The network that `torch_code` writes, with the weights of `net`."""
    names = {}
    exec(torch_code(net, input_shape=shape), names)
    model = names["network"]().double()
    model.load_state_dict(to_torch_state_dict(net, input_shape=shape))
    return model.eval()


def answers(model, x):
    """What a PyTorch model makes of x (N, ..., channels), as gpunn would lay it out."""
    with torch.no_grad():
        y = model(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).numpy()
    return np.moveaxis(y, 1, -1)


def assert_agrees(net, shape):
    x = np.random.default_rng(0).standard_normal((5, *shape))
    np.testing.assert_allclose(answers(twin(net, shape), x), net(x), rtol=1e-9, atol=1e-9)


def test_no_layer_is_forgotten():
    kinds = [getattr(layers, name) for name in layers.__all__ if isinstance(getattr(layers, name), type)]
    assert set(_LAYERS) == {kind for kind in kinds if kind not in (layers.Layer, layers.Activation)}


CASES = {name: case for name, case in layer_cases().items() if name != "Flatten"}  # of what is no image


@pytest.mark.parametrize("name", CASES)
def test_every_layer_computes_the_same(name):
    make, shape = CASES[name]
    assert_agrees(randomised(make()), shape[1:])


@pytest.mark.parametrize("name", ["Softmax", "LayerNorm", "RMSNorm", "BatchNorm", "Dropout", "GELU"])
def test_layers_of_rows_and_of_images(name):
    assert_agrees(randomised(layer_cases()[name][0]()), (3, 5, 4))


def between(*inner):
    """A network whose features after Flatten are in another order in PyTorch, with layers that meet them."""
    return gn.Sequential(
        gn.Residual(gn.Conv2d(3, 3, 3, padding="same"), gn.ReLU()),
        gn.Conv2d(3, 2, 2, stride=2),
        gn.Flatten(),
        *inner,
        gn.Linear(8, 8),
        gn.Residual(gn.Linear(8, 8), gn.Tanh()),
        gn.Linear(8, 3),
        output="softmax",
    )


@pytest.mark.parametrize(
    "inner",
    [
        lambda: [gn.ReLU()],
        lambda: [gn.BatchNorm(8), gn.PReLU(8), gn.LayerNorm(8), gn.RMSNorm(8)],
        lambda: [gn.Sequential(gn.Standardize(range(8), range(1, 9)), gn.Dropout())],
    ],
)
def test_features_after_flatten_are_in_pytorchs_order(inner):
    assert_agrees(randomised(between(*inner())), (4, 5, 3))


def test_what_cannot_be_put_in_another_order_is_refused():
    for layer in (gn.GroupNorm(2, 8), gn.Residual(gn.Linear(8, 8)), gn.Reshape((2, 2, 2))):
        with pytest.raises(OptionError, match=f"^{type(layer).__name__} of an input of shape .* a Linear next"):
            torch_code(gn.Sequential(gn.Conv2d(1, 2, 2), gn.Flatten(), layer), input_shape=(3, 3, 1))
    with pytest.raises(OptionError, match=re.escape("LayerNorm of an input of shape (2, 4) cannot be expressed")):
        torch_code(gn.LayerNorm(4), input_shape=(2, 4))


def test_constants_that_are_not_the_usual_ones():
    net = gn.Sequential(
        *(gn.LeakyReLU(0.3), gn.BatchNorm(4, epsilon=0.1), gn.LayerNorm(4, epsilon=0.2), gn.ELU(0.5)),
        *(gn.RMSNorm(4, epsilon=0.3), gn.GroupNorm(2, 4, epsilon=0.4)),
    )
    assert_agrees(randomised(net), (5, 6, 4))
    assert_agrees(randomised(net), (4,))


@pytest.mark.parametrize("make", [lambda: gn.models.lenet((16, 16, 3), 4), lambda: gn.models.cnn((8, 8, 2), 3)])
def test_networks_that_take_rows(make):
    net = randomised(make())
    x = np.random.default_rng(0).standard_normal((3, np.prod(net.layers[0].shape)))
    np.testing.assert_allclose(answers(twin(net, None), x), net(x), atol=1e-9)


class Hand(nn.Module):
    """A network as one writes it in PyTorch."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, (3, 2), stride=(1, 2), bias=False)
        self.fc1 = nn.Linear(6 * 4 * 3, 10)
        self.act = nn.PReLU(10)
        self.fc2 = nn.Linear(10, 3)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 2)
        x = torch.flatten(torch.tanh(self.conv2(x)), 1)
        return torch.softmax(self.fc2(self.act(self.fc1(x))), 1)


def hand():
    torch.manual_seed(0)
    model = Hand().double()
    model(torch.randn(8, 1, 12, 12).double())  # so that the running mean and variance are of something
    return model.eval()


def of_hand():
    return gn.Sequential(
        gn.Reshape((12, 12, 1)),
        *(gn.Conv2d(1, 4, 3, padding=1), gn.BatchNorm(4), gn.ReLU(), gn.MaxPool2d(2)),
        *(gn.Conv2d(4, 6, (3, 2), stride=(1, 2), bias=False), gn.Tanh(), gn.Flatten()),
        *(gn.Linear(72, 10), gn.PReLU(10), gn.Linear(10, 3)),
        output="softmax",
    )


def test_weights_of_a_model_with_names_of_its_own_are_taken_in_their_order():
    net = from_torch_state_dict(of_hand().init(dtype="float64"), hand().state_dict())
    x = np.random.default_rng(0).standard_normal((5, 12, 12, 1))
    np.testing.assert_allclose(net(x.reshape(5, -1)), answers(hand(), x), atol=1e-12)


def test_weights_come_back_by_name_in_any_order_and_as_arrays():
    net = randomised(between(gn.BatchNorm(8)), "float32")
    state = {key: np.asarray(value) for key, value in reversed(to_torch_state_dict(net, input_shape=(4, 5, 3)).items())}
    found = from_torch_state_dict(between(gn.BatchNorm(8)), state, input_shape=(4, 5, 3))
    assert found.store.dtype == "float32"
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(found.state_dict()[name], array)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_taken_as_they_are(dtype):
    theirs = nn.Linear(4, 3).to(dtype)
    net = from_torch_state_dict(gn.mlp([4, 3]), theirs.state_dict())
    np.testing.assert_array_equal(net.state_dict()["linear1.W"], theirs.weight.detach().float().numpy().T)


def test_keys_that_are_no_text_are_those_of_other_weights():
    state = {0: np.ones((3, 4)), 1: np.ones(3)}
    with pytest.raises(ShapeError, match=r"'0' of shape \(3, 4\) stands where this network has 'linear1.W'"):
        from_torch_state_dict(gn.mlp([4, 3]), state)


def test_weights_go_into_a_model_with_names_of_its_own():
    net, model = randomised(of_hand()), hand()
    new = to_torch_state_dict(net).values()
    keys = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(keys, new, strict=True)), strict=False)
    x = np.random.default_rng(0).standard_normal((5, 12, 12, 1))
    np.testing.assert_allclose(net(x.reshape(5, -1)), answers(model, x), atol=1e-12)


def test_a_layer_that_is_used_twice():
    tied = gn.Linear(4, 4)
    assert_agrees(randomised(gn.Sequential(tied, gn.Tanh(), tied)), (4,))


CHANGES = {
    "another size": (
        lambda s: s | {"fc1.weight": torch.zeros(10, 71)},
        "'fc1.weight' of shape (10, 71) stands where this network has 'linear1.W', which in PyTorch is a 'weight' "
        "of shape (10, 72)",
    ),
    "one missing": (
        lambda s: {key: value for key, value in s.items() if key != "fc2.bias"},
        "there are 11 arrays for 12 of this network's, none for 'linear2.b' among them",
    ),
    "one too many": (
        lambda s: s | {"head.weight": torch.zeros(3, 3)},
        "there are 13 arrays for 12 of this network's, 'head.weight' among them",
    ),
    "other layers": (
        lambda s: dict(list(s.items())[7:]),
        "'conv2.weight' of shape (6, 4, 3, 2) stands where this network has 'conv2d1.W'",
    ),
    "another kind": (
        lambda s: {("bn1.mean" if key == "bn1.weight" else key): value for key, value in s.items()},
        "'bn1.mean' of shape (4,) stands where this network has 'batchnorm1.gamma', which in PyTorch is a 'weight'",
    ),
    "not transposed": (
        lambda s: s | {"fc2.weight": s["fc2.weight"].T},
        "'fc2.weight' of shape (10, 3) stands where this network has 'linear2.W'",
    ),
    "nothing": (lambda s: {}, "there are 0 arrays for 12 of this network's, none for 'conv2d1.W' among them"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_weights_of_another_network_are_refused_by_key(kind):
    change, message = CHANGES[kind]
    net = of_hand().init()
    before = net.state_dict()
    with pytest.raises(ShapeError, match=f"^these weights are of another network: {re.escape(message)}"):
        from_torch_state_dict(net, change(hand().state_dict()))
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(before[name], array)


def test_what_are_no_weights_is_said():
    for state, message in (
        (hand(), "state must be an instance of Mapping"),
        ({"epoch": 3, "model": hand().state_dict()}, "state['epoch'] is no array but int: where"),
        ({"model": hand().state_dict()}, "state['model'] is no array but OrderedDict: where"),
    ):
        with pytest.raises(OptionError, match=re.escape(message)):
            from_torch_state_dict(of_hand(), state)


@pytest.mark.parametrize("name", ["net-1.safetensors", "net-1.pt", "net-1.pth"])
def test_files_that_pytorch_reads(tmp_path, name):
    net = randomised(gn.models.lenet((16, 16, 3), 4), "float32")
    program = to_torch(net, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "net_1.py"]
    assert check_torch(net, tmp_path / name) < 1e-5
    spec = importlib.util.spec_from_file_location("net_1", program)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if name.endswith("safetensors"):
        from safetensors.torch import load_file

        state = load_file(tmp_path / name)
    else:
        state = torch.load(tmp_path / name, weights_only=True)
    model = module.network()
    model.load_state_dict(state)
    x = np.random.default_rng(0).standard_normal((3, 768)).astype(np.float32)
    np.testing.assert_allclose(answers(model.eval(), x), net(x), atol=1e-5)
    to_torch(net, tmp_path / name)


def test_the_check_sees_other_weights(tmp_path):
    net = randomised(between(), "float32")
    to_torch(net, tmp_path / "net.pt", input_shape=(4, 5, 3))
    assert check_torch(net, tmp_path / "net.pt", input_shape=(4, 5, 3)) < 1e-5
    net.load_state_dict({name: 1.01 * a for name, a in net.state_dict().items()})
    assert check_torch(net, tmp_path / "net.pt", input_shape=(4, 5, 3)) > 1e-4


def test_a_network_that_ends_with_flatten_is_compared_in_pytorchs_order(tmp_path):
    net = randomised(gn.Sequential(gn.Conv2d(1, 2, 2), gn.Flatten()), "float32")
    to_torch(net, tmp_path / "net.pt", input_shape=(4, 5, 1))
    assert check_torch(net, tmp_path / "net.pt", input_shape=(4, 5, 1)) < 1e-5


class Twice(gn.Layer):
    def forward(self, x, *, train=False, key=None):
        return 2 * x, None


def test_what_cannot_be_written_is_said_and_nothing_is(tmp_path):
    net = gn.mlp([2, 2]).init()
    with pytest.raises(OptionError, match="Twice cannot be expressed in PyTorch"):
        to_torch(gn.Sequential(gn.Linear(2, 2), Twice()).init(), tmp_path / "net.pt")
    with pytest.raises(OptionError, match=r"a file that ends in \.safetensors, \.pt or \.pth"):
        to_torch(net, tmp_path / "net.bin")
    with pytest.raises(FileError, match=r"none/net\.pt: cannot be written: No such file"):
        to_torch(net, tmp_path / "none" / "net.pt")
    with pytest.raises(NotInitialised):
        to_torch(gn.mlp([2, 2]), tmp_path / "net.pt")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "net.py").write_text("print('mine')")
    with pytest.raises(FileError, match=r"net\.py: there is a program of this name, which is not replaced"):
        to_torch(net, tmp_path / "net.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"]
