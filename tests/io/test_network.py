import json
import sys
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load, save

import gpunn as gn
from gpunn.errors import DeviceUnavailable, FileError, NotInitialised, OptionError
from gpunn.testing import assert_close, layer_cases


class Scale(gn.Layer):
    """y = x * g + shift, with one number and one array that is not learned."""

    def __init__(self, factor, shift=(0.0,), options=None):
        self.factor, self.shift, self.options = factor, shift, options
        self.g = gn.Param((), init=gn.init.Constant(factor))
        self.moved = gn.Buffer(shift)

    def forward(self, x, *, train=False, key=None):
        return x * self.g.value + self.moved.value, x

    def backward(self, dy, cache, *, need_dx=True):
        self.g.add_grad(gn.namespace(dy).sum(dy * cache))
        return dy * self.g.value


class Two(gn.Layer):
    """Two layers, kept in a dict as they came."""

    def __init__(self, inner):
        self.inner = inner
        self.first, self.second = inner["first"], inner["second"]

    def forward(self, x, *, train=False, key=None):
        return self.second.infer(self.first.infer(x)), None


class Block(gn.Sequential):
    """A Sequential that is made from something else than its layers."""

    def __init__(self, width):
        self.width = width
        super().__init__(gn.Linear(width, width), gn.Tanh())


def saved(folder, net, **options):
    gn.save(folder / "net", net)
    return gn.load(folder / "net", **options)


def assert_same(found, net):
    assert repr(found) == repr(net)
    before, after = net.state_dict(), found.state_dict()
    assert list(before) == list(after)
    for name, array in before.items():
        assert after[name].dtype == array.dtype
        np.testing.assert_array_equal(after[name], array)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", layer_cases())
def test_every_layer_comes_back_and_computes_the_same(tmp_path, name, dtype):
    make, shape = layer_cases()[name]
    net = make().init(seed=3, dtype=dtype)
    found = saved(tmp_path, net)
    assert_same(found, net)
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    np.testing.assert_array_equal(found(x), net(x))


def nested():
    inner = gn.Residual(gn.Linear(4, 4), gn.LeakyReLU(0.3), gn.Residual(gn.Linear(4, 4, bias=False)))
    return gn.Sequential(
        gn.Flatten(),
        gn.Standardize(np.arange(4), [1, 2, 3, 4]),
        gn.Sequential(inner, gn.ELU(0.5)),
        gn.Linear(4, 3),
        output="softmax",
    )


def test_a_network_comes_back_on_every_backend(tmp_path, backend):
    net = nested().init(seed=1, dtype="float64")
    x = np.random.default_rng(0).standard_normal((5, 2, 2))
    gn.save(tmp_path / "net", net)
    found = gn.load(tmp_path / "net", device=backend.device)
    assert found.store.device == backend.device
    assert_same(found, net)
    given = backend.asarray(x)
    assert_close(found(given), net(x), like=given, rtol=1e-12)
    gn.save(tmp_path / "again", found)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "net").read_bytes()


def test_what_is_said_about_a_network_is_kept(tmp_path):
    net = nested().init()
    net.about = {"classes": ["a", "ü"], "white": 16.0, "nested": {"box": None}}
    assert saved(tmp_path, net).about == net.about
    assert saved(tmp_path, gn.Linear(2, 2).init()).about == {}


def test_a_loaded_network_can_be_trained(tmp_path):
    found = saved(tmp_path, nested().init())
    x, y = np.random.default_rng(0).standard_normal((20, 4)), np.arange(20) % 3
    trainer = gn.Trainer(found, device="cpu")
    assert trainer.evaluate((x, y))["loss"] > trainer.fit((x, y), epochs=30)["loss"][-1]


def test_layers_of_your_own_come_back_where_they_are_named(tmp_path):
    net = gn.Sequential(
        Scale(np.float64(1.5), shift=np.arange(3.0)),
        Two({"first": gn.Linear(3, 2), "second": gn.Sequential(gn.Tanh(), Block(2))}),
        Scale(2.0, shift=[0.5], options={"depth": 2, "names": ["a"]}),
    ).init(dtype="float64")
    gn.save(tmp_path / "net", net)
    found = gn.load(tmp_path / "net", custom=[Scale, Two, Block])
    assert list(found.state_dict()) == list(net.state_dict())
    assert found.layers[2].options == {"depth": 2, "names": ["a"]}
    assert isinstance(found.layers[1].second.layers[1], Block)
    x = np.random.default_rng(0).standard_normal((4, 3))
    np.testing.assert_array_equal(found(x), net(x))


def test_a_layer_of_your_own_that_is_not_named_is_named_in_the_error(tmp_path):
    gn.save(tmp_path / "net", Scale(1.0).init())
    with pytest.raises(
        FileError, match=r"the layer 'Scale' is not one of gpunn's; name its class in gn\.load\(path, cus"
    ):
        gn.load(tmp_path / "net")


def test_a_layer_that_is_used_twice_is_still_one_layer(tmp_path):
    tied, block = gn.Linear(3, 3), gn.Residual(gn.Linear(3, 3), gn.ReLU())
    net = gn.Sequential(gn.Linear(3, 3), tied, block, gn.Sequential(tied, block), tied).init()
    found = saved(tmp_path, net)
    assert_same(found, net)
    assert found.layers[1] is found.layers[3].layers[0] is found.layers[4]
    assert found.layers[2] is found.layers[3].layers[1]
    assert found.layers[0] is not found.layers[1]


def test_nothing_is_written_for_what_cannot_be(tmp_path):
    net = gn.Linear(2, 2).init()
    with pytest.raises(NotInitialised, match=r"call net\.init"):
        gn.save(tmp_path / "net", gn.Linear(2, 2))
    with pytest.raises(OptionError, match=r"save\(path, net\); got str as the network"):
        gn.save(net, "net")
    net.about = {"classes": np.arange(3)}
    with pytest.raises(OptionError, match="must be made of JSON's types"):
        gn.save(tmp_path / "net", net)
    net.about = {}
    with pytest.raises(FileError, match="none/net: cannot be written: No such file or directory"):
        gn.save(tmp_path / "none" / "net", net)
    assert list(tmp_path.iterdir()) == []


def test_the_device_is_answered_for_and_not_the_file(tmp_path, monkeypatch):
    gn.save(tmp_path / "net", gn.Linear(2, 2).init())
    with pytest.raises(OptionError, match="device 'gpu' is not known"):
        gn.load(tmp_path / "net", device="gpu")
    report = gn.DeviceReport("cuda:0", False, "there is none", "buy one")
    monkeypatch.setattr(sys.modules["gpunn.device"], "probe_cuda", lambda index: report)
    with pytest.raises(DeviceUnavailable, match=r"there is none\. To mend it: buy one"):
        gn.load(tmp_path / "net", device="cuda")


# --- damaged files


def altered(path, change):
    """The file of a small network, with its description changed."""
    gn.save(path, gn.Sequential(gn.Linear(3, 2), gn.LeakyReLU(0.1), output="softmax").init())
    data = path.read_bytes()
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    description = json.loads(head["__metadata__"]["gpunn"])
    del description["about_crc32"]
    changed = change(description) or description
    text = changed if isinstance(changed, str) else json.dumps(changed)
    path.write_bytes(save(load(data), metadata={"gpunn": text}))
    return path


def without(name):
    return lambda d: {key: value for key, value in d.items() if key != name}


def layer(index, **change):
    return lambda d: d["layers"]["layers"][index].update(change)


def network(described):
    return lambda d: d | {"layers": described}


CHANGES = {
    "no layers": (without("layers"), "'layers'"),
    "no dtype": (without("dtype"), "'dtype'"),
    "no about": (without("about"), "'about'"),
    "about a list": (lambda d: d | {"about": [1]}, ""),
    "half precision": (lambda d: d | {"dtype": "float16"}, "dtype 'float16' is not known; expected float32 or float64"),
    "a dtype of lists": (lambda d: d | {"dtype": []}, ""),
    "a number": (network(7), "expected a layer, found 7"),
    "a list": (network([]), r"expected a layer, found \[\]"),
    "a dict": (network({"n_in": 3}), r"expected a layer, found \{'n_in': 3\}"),
    "nothing": (network(None), "expected a layer, found None"),
    "unknown": (layer(0, type="Secret"), "the layer 'Secret' is not one of gpunn's; name its class in gn.load"),
    "not a name": (layer(0, type=[1]), "unhashable"),
    "not a class of layers": (layer(0, type="annotations"), "the layer 'annotations' is not one of gpunn's"),
    "a function": (layer(0, type="activation"), "the layer 'activation' is not one of gpunn's"),
    "too many arguments": (layer(0, depth=3), "unexpected keyword argument 'depth'"),
    "an argument out of range": (layer(1, alpha=3.0), "alpha must be at least 0 and at most 1, got 3.0"),
    "an argument of another type": (layer(1, alpha="x"), "alpha must be a number, at least 0 and at most 1, got 'x'"),
    "negative": (layer(0, n_in=-3), r"a size in the shape \(-3, 2\) must be a whole number, 1 or more, got -3"),
    "of another size": (layer(0, n_in=4), r"'linear1.W' of shape \(4, 2\), the file has \(3, 2\)"),
    "far too large": (layer(0, n_in=10**9, n_out=10**9), r"of shape \(1000000000, 1000000000\), the file has \(3, 2\)"),
    "means without number": (network({"type": "BatchNorm", "n": 10**9}), r"'gamma' of shape \(1000000000,\), the file"),
    "not finite": (layer(0, n_in=float("inf")), "must be a whole number, 1 or more, got inf"),
    "fewer weights": (layer(0, bias=False), r"expect 'linear1.b' of shape None, the file has \(2,\)"),
    "another layer": (network({"type": "Linear", "n_in": 3, "n_out": 2}), r"expect 'W' of shape \(3, 2\), the file ha"),
    "nothing the same": (network({"same": 0}), "list index out of range"),
    "the same text": (network({"same": "0"}), "list indices must be"),
    "nested without end": (lambda d: json.dumps(d).replace('"Linear"', "[" * 900 + "]" * 900), "recursion|unhash"),
    "layers a number": (network({"type": "Sequential", "layers": 5}), "must be an iterable"),
    "layers of text": (network({"type": "Sequential", "layers": ["x"]}), "Sequential takes layers, got 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_a_description_that_makes_no_network_is_a_file_error(tmp_path, kind):
    change, message = CHANGES[kind]
    path = altered(tmp_path / "net", change)
    tracemalloc.start()
    with pytest.raises(FileError, match=f"^{path}: does not describe a network: .*{message}") as error:
        gn.load(path)
    assert "\n" not in str(error.value)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_mutated_file_is_loaded_or_refused_by_a_file_error(tmp_path):
    path, rng, refused = altered(tmp_path / "net", lambda d: d), np.random.default_rng(0), []
    data = path.read_bytes()
    letters = b'0123456789-.eE"[]{},: aLT\\n\xff'
    for _ in range(1000):
        changed = bytearray(data)
        for place in rng.integers(8, len(data), rng.integers(1, 4)):
            changed[place] = rng.choice([rng.integers(256), *[rng.choice(list(letters))] * 4])
        path.unlink(missing_ok=True)
        path.write_bytes(changed)
        try:
            assert gn.load(path).store.size < 1000
        except FileError as error:
            refused.append(str(error))
    assert len(refused) > 400
    assert not [message for message in refused if "\n" in message]
