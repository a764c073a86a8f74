import importlib.util
from pathlib import Path

import numpy as np
import pytest

import gpunn as gn
from gpunn.testing import slope

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_published_curve_comes_back(data_dir):
    example = load("published_curve")
    published = example.published()
    assert len(published) == 400
    for ours, theirs in zip(example.run(epochs=12), published[:12], strict=True):
        assert ours[1] == theirs[1]
        assert ours[3] == theirs[3]
        assert abs(ours[0] - theirs[0]) < 1e-12
        assert abs(ours[2] - theirs[2]) < 1e-12


def test_without_the_published_curve_nothing_is_trained(tmp_path, monkeypatch):
    example = load("published_curve")
    monkeypatch.setattr(example, "run", None)
    monkeypatch.setattr("sys.argv", ["published_curve.py"])
    for folder in (str(tmp_path), None):
        monkeypatch.setenv("GPUNN_DATA_DIR", folder) if folder else monkeypatch.delenv("GPUNN_DATA_DIR")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit, match=r"overfitting.json: there is no such file"):
            example.main()


def test_every_example_is_short_and_is_tested():
    tests = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'load("{path.stem}")' in tests
        assert len(path.read_text().splitlines()) < 120


def test_one_neuron_learns_and_two_layers_xor():
    example = load("perceptron_and_xor")
    assert example.perceptron(example.TABLES["AND"]) == 0
    assert example.perceptron(example.TABLES["XOR"]) > 0
    for y in example.TABLES.values():
        assert ((example.two_layers(y) > 0.5) == y).all()


def test_a_network_by_hand_learns_and_its_gradients_are_right(capsys):
    example = load("by_hand")
    p, accuracy = example.train(epochs=3)
    assert accuracy > 0.9
    assert "epoch   3" in capsys.readouterr().out
    rng = np.random.default_rng(0)
    x, y = rng.random((5, 64)), np.eye(10)[rng.integers(0, 10, 5)]
    for name, gradient in example.gradients(p, x, y)[1].items():
        u = rng.standard_normal(gradient.shape)

        def loss(t, name=name, u=u):
            return float(example.gradients(p | {name: p[name] + t * u}, x, y)[0])

        assert slope(loss) == pytest.approx(float((gradient * u).sum()), rel=1e-6)


def test_the_story_of_the_book(data_dir, capsys):
    quadratic, cross, results = load("nielsen").main(epochs=1, images=2_000)
    assert quadratic[0] == cross[0] == pytest.approx(0.98, abs=0.005)
    assert quadratic[-1] > 0.9  # as the book says: slow
    assert cross[-1] < 0.1  # and fast
    assert len(results) == 4
    assert "quadratic cost" in capsys.readouterr().out


def test_the_convolutional_network_learns_and_shows_its_features(data_dir, capsys):
    example = load("cnn")
    train, test = gn.datasets.mnist(data_dir)
    trainer, measured = example.train((train[:640], test[:200]), epochs=2, batch_size=32, verbose=False)
    assert measured["accuracy"] > 0.5
    example.show(trainer.net.state_dict()["conv2d1.W"])
    assert len(capsys.readouterr().out.splitlines()) >= 5


def test_every_cure_for_overfitting_can_be_taken(data_dir, capsys):
    example = load("overfitting")
    cures = {name: options | {"images": 60} for name, options in example.CURES.items()}
    results = example.main(epochs=1, seeds=1, cures=cures)
    assert results.keys() == example.CURES.keys()


def test_the_film_of_a_boundary_is_made(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert load("decision_boundary").main(str(tmp_path / "moons.gif"), epochs=30) > 0.95
    assert (tmp_path / "moons.gif").read_bytes().startswith(b"GIF89a")
    assert capsys.readouterr().out.endswith("moons.gif\n")


def test_a_layer_of_ones_own_is_checked_and_learns(capsys):
    example = load("your_own_layer")
    assert example.main(epochs=60) > 0.8
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("Radial")
    assert out[0].endswith("right")
    assert out[1].endswith("wrong")
