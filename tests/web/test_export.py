import json
import re

import numpy as np
import pytest

import gpunn as gn
from gpunn.cli import main
from gpunn.testing import layer_cases
from gpunn.web import export
from gpunn.web.export import describe, encode, page, to_html
from gpunn.web.reader import Reader
from gpunn.web.server import STATIC
from tests.web.drawings import blot, network

RNG = np.random.default_rng(0)


def public_layers():
    kinds = {name for name in gn.layers.__all__ if isinstance(getattr(gn.layers, name), type)}
    return kinds - {"Layer", "Activation"}


def test_every_layer_is_written_in_javascript():
    text = (STATIC / "network.js").read_text(encoding="utf-8")
    table = re.search(r"^const layers = \{\n(.*?)^\};", text, re.MULTILINE | re.DOTALL)[1]
    assert set(re.findall(r"^  (\w+)[(:]", table, re.MULTILINE)) == public_layers()


def test_the_page_is_one_file_that_loads_nothing():
    text = page(network())
    assert not re.search(r'(src|href)="(?!data:image/svg)', text)
    assert "@import" not in text
    assert "url(" not in text
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect" not in policy
    assert "unsafe" not in policy


def test_the_weights_are_those_of_the_network_and_no_name_ends_the_script():
    net = network(classes=["</script>", "<!--", *"23456789"])
    text = page(net)
    found = {name: re.search(rf'id="{name}">(.*?)</script>', text)[1] for name in ("network", "weights")}
    assert json.loads(found["network"])["classes"][:2] == ["</script>", "<!--"]
    weights = json.loads(found["weights"])
    assert weights == json.loads(json.dumps({name: encode(w) for name, w in net.state_dict().items()}))


def test_a_layer_of_ones_own_is_named():
    class Halve(gn.Layer):
        def forward(self, x, *, train=False, key=None):
            return x / 2, None

    net = network(gn.Sequential(gn.Linear(784, 10), Halve()))
    with pytest.raises(
        gn.OptionError, match=r"Halve cannot be expressed in a page without a server \(gpunn draw has one\)"
    ):
        page(net)


def test_a_network_that_is_too_large_for_a_browser_is_refused(monkeypatch):
    numbers = 784 * 12 + 12 + 12 * 10 + 10
    monkeypatch.setattr(export, "_MOST", numbers)
    page(network())
    monkeypatch.setattr(export, "_MOST", numbers - 1)
    with pytest.raises(gn.OptionError, match="of 9,549 numbers, and this one has 9,550; gpunn draw takes it"):
        page(network())


def test_a_network_of_ones_own_that_computes_as_a_sequential_is_one():
    class Mine(gn.Sequential):
        def __init__(self):
            super().__init__(gn.Linear(784, 10), gn.Sequential(gn.ReLU()), output="softmax")

    assert '"type": "Sequential"' in page(network(Mine()))


def test_the_command_writes_the_file(tmp_path, capsys):
    gn.save(tmp_path / "net.safetensors", network())
    assert main(["export", str(tmp_path / "net.safetensors"), "--to", "html"]) == 0
    assert main(["export", str(tmp_path / "net.safetensors"), "--to", "html", "--out", str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "net.html").read_text(encoding="utf-8") == (tmp_path / "a.html").read_text(encoding="utf-8")
    assert main(["export", str(tmp_path / "net.safetensors"), "--to", "html", "--out", str(tmp_path / "no/a")]) == 4
    assert "cannot be written" in capsys.readouterr().err


# --- in a browser


@pytest.fixture(scope="module")
def javascript(driver, tmp_path_factory):
    """Run a script in an exported page."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    to_html(network(), path)
    driver.get(path.as_uri())
    return driver.execute_script


FORWARD = """
const [layer, weights, shape, rows] = arguments;
for (const name in weights) weights[name] = decode(weights[name]);
attach(layer, weights);
return rows.map((row) => {
  const y = forward(array(shape, Float64Array.from(row)), layer);
  return {shape: y.shape, data: [...y.data]};
});
"""


def in_javascript(javascript, layer, x):
    """What the browser makes of a batch x."""
    names = {id(entry): name for name, entry in (layer.params() | layer.buffers()).items()}
    weights = {name: encode(tensor) for name, tensor in layer.state_dict().items()}
    rows = x.reshape(len(x), -1).tolist()
    found = javascript(FORWARD, describe(layer, names), json.loads(json.dumps(weights)), list(x.shape[1:]), rows)
    return np.array([row["data"] for row in found]).reshape(len(x), *found[0]["shape"])


@pytest.mark.parametrize("size", [1.0, 60.0])  # the second beyond where e^x is held
@pytest.mark.parametrize("name", layer_cases())
def test_every_layer_gives_the_numbers_of_gpunn(javascript, name, size):
    make, shape = layer_cases()[name]
    layer = make().init(seed=1)
    state = layer.state_dict()  # with weights that are neither 0 nor 1, as the first ones may be
    layer.load_state_dict({key: RNG.uniform(0.5, 1.5, value.shape) for key, value in state.items()})
    x = (size * RNG.standard_normal(shape)).astype("float32")
    expected = layer.infer(x)
    np.testing.assert_allclose(in_javascript(javascript, layer, x), expected, rtol=1e-5, atol=1e-5)


def test_a_layer_that_is_used_twice_has_one_set_of_weights(javascript):
    shared = gn.Linear(5, 5)
    net = gn.Sequential(shared, gn.Tanh(), gn.Residual(shared)).init()
    x = RNG.standard_normal((3, 5)).astype("float32")
    np.testing.assert_allclose(in_javascript(javascript, net, x), net.infer(x), rtol=1e-5, atol=1e-5)


DRAWINGS = {
    "an L": blot(),
    "a dot in the corner": np.pad(np.full((3, 3), 255, np.uint8), ((0, 277), (277, 0))),
    "grey all over": RNG.integers(0, 256, (280, 280)).astype(np.uint8),
    "a long line": np.pad(np.full((4, 280), 200, np.uint8), ((100, 176), (0, 0))),
    "a high one": np.pad(np.full((280, 5), 200, np.uint8), ((0, 0), (12, 263))),
}


@pytest.mark.parametrize("about", [{}, {"box": None}, {"image_shape": [8, 8, 1], "box": 8}], ids=str)
@pytest.mark.parametrize("kind", DRAWINGS)
def test_a_drawing_becomes_the_same_picture(javascript, kind, about):
    net = gn.mlp([64, 10]) if "image_shape" in about else None
    reader = Reader(network(net, **about))
    drawing = DRAWINGS[kind]
    found = javascript(
        "return [...prepare(Uint8Array.from(arguments[0]), arguments[1]).data]",
        drawing.reshape(-1).tolist(),
        json.loads(json.dumps(reader.description())),
    )
    np.testing.assert_allclose(np.reshape(found, reader.image), reader.prepare(drawing), atol=1e-12)


@pytest.mark.parametrize("which", ["mlp", "cnn", "lenet"])
def test_a_whole_page_answers_as_gpunn(driver, tmp_path, which):
    net = {"mlp": None, "cnn": gn.models.cnn(width=4), "lenet": gn.models.lenet()}[which]
    net = network(net, white=2.0)
    to_html(net, tmp_path / "page.html")
    driver.get((tmp_path / "page.html").as_uri())
    found = driver.execute_async_script(
        "const [drawing, done] = arguments;"
        "describe().then((n) => read(Uint8Array.from(drawing), n)).then((all) => done(all.map((a) => [...a])))",
        blot().reshape(-1).tolist(),
    )
    expected = Reader(net).read(blot())
    assert len(found) == len(expected)
    for here, there in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.reshape(here, there.shape), there, rtol=1e-5, atol=1e-5)
