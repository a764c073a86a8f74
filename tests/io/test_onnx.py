import json
import re

import numpy as np
import pytest

import gpunn as gn
from gpunn import layers
from gpunn.errors import FileError, OptionError, ShapeError
from gpunn.io.onnx import _LAYERS, check_onnx, to_onnx
from gpunn.testing import layer_cases

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


def randomised(net, dtype="float32", seed=1):
    """The network with every parameter and buffer off its initial value, so that each of them counts."""
    rng = np.random.default_rng(seed)
    net.init(dtype=dtype)
    net.load_state_dict({name: a + rng.uniform(0.1, 0.5, a.shape) for name, a in net.state_dict().items()})
    return net


def assert_agrees(net, shape, path, scale=1.0):
    to_onnx(net, path, input_shape=shape)
    session = runtime.InferenceSession(str(path))
    for n in (0, 1, 7):
        x = scale * np.random.default_rng(n).standard_normal((n, *shape))
        (y,) = session.run(None, {"input": x.astype(np.float32)})
        expected = net(x.astype(net.store.dtype))
        assert (y.shape, y.dtype) == (expected.shape, np.float32)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_no_layer_is_forgotten():
    bases = (layers.Layer, layers.Activation)
    kinds = [getattr(layers, name) for name in layers.__all__ if isinstance(getattr(layers, name), type)]
    assert set(_LAYERS) == {kind for kind in kinds if kind not in bases}
    assert {type(make()) for make, _ in layer_cases().values()} == set(_LAYERS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", layer_cases())
def test_every_layer_computes_the_same(tmp_path, name, dtype):
    make, shape = layer_cases()[name]
    assert_agrees(randomised(make(), dtype), shape[1:], tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)  # which infers every shape and compares them


IMAGES = [name for name, (_, shape) in layer_cases().items() if len(shape) == 4]
ANY = ["Maxout", "LayerNorm", "RMSNorm", "GroupNorm", "PReLU", "BatchNorm", "Softmax", "SELU", "Mish", "Dropout"]


@pytest.mark.parametrize("name", [*IMAGES, *ANY])
def test_every_layer_computes_the_same_between_convolutions(tmp_path, name):
    """Where the channels have been moved to another axis."""
    make, shape = layer_cases()[name]
    layer, n = make(), shape[-1]
    shape = (6, 7, n)
    after = layer.output_shape(shape) or shape
    last = [gn.Conv2d(after[-1], 2, 2, stride=(1, 2), padding=(0, 1))] if len(after) == 3 else []
    net = gn.Sequential(gn.Conv2d(n, n, 3, padding="same"), gn.Sequential(layer), *last)
    assert_agrees(randomised(net), shape, tmp_path / "net.onnx")


@pytest.mark.parametrize("name", [name for name in layer_cases() if isinstance(layer_cases()[name][0], type)])
def test_activations_of_large_numbers_are_right(tmp_path, name):
    make, shape = layer_cases()[name]
    assert_agrees(make().init(), shape[1:], tmp_path / "net.onnx", scale=50.0)


@pytest.mark.parametrize(
    ("stride", "padding", "kernel"), [(1, "same", 5), (2, 0, 3), ((1, 3), (2, 0), (2, 3)), (3, 2, 1)]
)
def test_convolutions_of_any_kind(tmp_path, stride, padding, kernel):
    net = gn.Conv2d(3, 4, kernel, stride=stride, padding=padding)
    assert_agrees(randomised(net), (7, 8, 3), tmp_path / "net.onnx")


NETS = {
    "mlp": (lambda: gn.mlp([6, 5, 4], hidden="selu", output="softmax"), (6,)),
    "yes or no": (lambda: gn.mlp([6, 5, 1], output="sigmoid"), (6,)),
    "lenet": (lambda: gn.models.lenet((16, 16, 3), 4), (768,)),
    "cnn": (lambda: gn.models.cnn((8, 8, 2), 3, width=4), (128,)),
    "residual of images": (
        lambda: gn.Sequential(
            gn.Residual(gn.Conv2d(2, 2, 3, padding="same"), gn.ReLU()),
            gn.Residual(gn.Residual(gn.Maxout(2), gn.Conv2d(1, 2, 1), gn.PReLU(2)), gn.LayerNorm(2)),
            gn.MaxPool2d(2),
            gn.Residual(gn.LayerNorm(2), gn.Conv2d(2, 4, 1), gn.Maxout(2)),
            gn.Flatten(),
            gn.Linear(18, 3),
            output="softmax",
        ),
        (6, 7, 2),
    ),
    "an image as answer": (lambda: gn.Sequential(gn.Conv2d(2, 3, 3), gn.ReLU(), output="softmax"), (5, 6, 2)),
    "means of channels": (lambda: gn.Sequential(gn.Conv2d(2, 4, 2), gn.GlobalAvgPool2d(), gn.Softmax()), (5, 6, 2)),
    "other constants": (
        lambda: gn.Sequential(
            *(gn.LeakyReLU(0.3), gn.BatchNorm(4, epsilon=0.1), gn.LayerNorm(4, epsilon=0.2), gn.ELU(0.5)),
            *(gn.RMSNorm(4, epsilon=0.3), gn.GroupNorm(2, 4, epsilon=0.4)),
        ),
        (5, 6, 4),
    ),
    "rows of one axis more": (lambda: gn.Sequential(gn.GroupNorm(2, 4), gn.PReLU(4), gn.BatchNorm(4)), (5, 4)),
}


@pytest.mark.parametrize("name", NETS)
def test_networks(tmp_path, name):
    make, shape = NETS[name]
    assert_agrees(randomised(make()), shape, tmp_path / "net.onnx")


def test_a_layer_that_is_used_twice(tmp_path):
    tied = gn.Linear(4, 4)
    assert_agrees(randomised(gn.Sequential(tied, gn.Tanh(), tied)), (4,), tmp_path / "net.onnx")


def test_images_stay_as_onnx_wants_them_from_one_convolution_to_the_next(tmp_path):
    net = gn.Sequential(
        gn.Conv2d(2, 3, 3), gn.BatchNorm(3), gn.ReLU(), gn.MaxPool2d(2), gn.Dropout(), gn.Conv2d(3, 2, 1), gn.Flatten()
    ).init()
    to_onnx(net, tmp_path / "net.onnx", input_shape=(8, 8, 2))
    ops = [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node]
    assert ops == [
        *("Transpose", "Conv", "BatchNormalization", "Relu", "MaxPool", "Conv", "Transpose", "Flatten", "Identity")
    ]


def test_the_file_says_what_it_takes_and_gives(tmp_path):
    net = gn.mlp([6, 3], output="softmax").init()
    net.about = {"classes": ["a", "b", "ü"], "image_shape": [2, 3, 1], "white": 1.0}
    to_onnx(net, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    assert (model.ir_version, [i.version for i in model.opset_import]) == (8, [17])
    assert {p.key: json.loads(p.value) for p in model.metadata_props} == net.about
    assert model.doc_string.splitlines() == [
        "input    float32 (N, 6): images (height, width, channels) = (2, 3, 1), pixels from 0 to 1, "
        "which are bytes / 255",
        "output   float32 (N, 3): the probability of each of 3 classes",
    ]
    within = gn.Sequential(gn.Linear(6, 3), gn.Softmax()).init()
    within.about = {"classes": ["a", "b", "ü"]}
    to_onnx(within, tmp_path / "within.onnx")
    assert onnx.load(tmp_path / "within.onnx").doc_string.endswith(": the probability of each of 3 classes")
    (given,), (got,) = (part for part in (model.graph.input, model.graph.output))
    assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["N", 6]
    assert [d.dim_param or d.dim_value for d in got.type.tensor_type.shape.dim] == ["N", 3]


def test_the_same_network_gives_the_same_bytes(tmp_path):
    net = gn.mlp([6, 3]).init()
    to_onnx(net, tmp_path / "a")
    to_onnx(net, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_check_sees_another_network(tmp_path):
    net = gn.Sequential(gn.Standardize([1e3, -5.0], [10.0, 1e-3]), gn.Linear(2, 2), gn.Tanh()).init()
    to_onnx(net, tmp_path / "net.onnx")
    assert check_onnx(net, tmp_path / "net.onnx") < 1e-5
    weights = net.state_dict()
    net.load_state_dict(weights | {"linear1.b": weights["linear1.b"] + 0.01})
    assert check_onnx(net, tmp_path / "net.onnx") > 1e-3


class Twice(gn.Layer):
    def forward(self, x, *, train=False, key=None):
        return 2 * x, None


class Block(gn.Sequential):
    """A Sequential that is made from something else than its layers."""

    def __init__(self):
        super().__init__(gn.Linear(3, 3), gn.Tanh())


class Doubled(gn.Sequential):
    def infer(self, x):
        return 2 * super().infer(x)


class Softer(gn.ReLU):
    f = staticmethod(gn.ops.softplus)


def test_layers_of_your_own(tmp_path):
    assert_agrees(gn.Sequential(Block(), Block()).init(), (3,), tmp_path / "net.onnx")
    (tmp_path / "net.onnx").unlink()
    for own in (Twice(), Doubled(gn.Tanh()), Softer()):
        net = gn.Sequential(gn.Linear(3, 3), gn.Residual(own)).init()
        with pytest.raises(OptionError, match=f"^{type(own).__name__} cannot be expressed in ONNX"):
            to_onnx(net, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said(tmp_path):
    net = gn.Sequential(gn.Conv2d(1, 2, 3), gn.GlobalAvgPool2d()).init()
    with pytest.raises(OptionError, match=re.escape("give input_shape=(height, width, channels), or --input-shape")):
        to_onnx(net, tmp_path / "net.onnx")
    with pytest.raises(ShapeError, match=r"Conv2d expects images of shape \(height, width, 1\), got \(5, 5, 3\)"):
        to_onnx(net, tmp_path / "net.onnx", input_shape=(5, 5, 3))
    for bad in (0, (5, -1, 1), "abc"):
        with pytest.raises(OptionError, match="input_shape must be a whole number, 1 or more, got"):
            to_onnx(net, tmp_path / "net.onnx", input_shape=bad)
    for about, message in (
        ({"white": gn}, "net.about must be made of JSON's types"),
        ({"classes": 5}, '"classes" must be a list of names, got 5'),
        ({"image_shape": [5, 5]}, '"image_shape" must be [height, width, channels], got [5, 5]'),
        ({"image_shape": [5, 5, 1], "white": "bright"}, "\"white\" must be a number, above 0, got 'bright'"),
    ):
        net.about = about
        with pytest.raises(OptionError, match=re.escape(message)):
            to_onnx(net, tmp_path / "net.onnx", input_shape=(5, 5, 1))
    net.about = {}
    with pytest.raises(OptionError, match="net must be an instance of Layer"):
        to_onnx("net", tmp_path / "net.onnx")
    with pytest.raises(FileError, match="none/net: cannot be written: No such file"):
        to_onnx(net, tmp_path / "none" / "net", input_shape=(5, 5, 1))
    with pytest.raises(gn.NotInitialised):
        to_onnx(gn.Linear(2, 2), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []
