import importlib.util
from pathlib import Path

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
