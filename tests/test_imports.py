"""The shape of the package: who may import whom, and what importing it costs."""

import ast
import importlib
import importlib.util
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import gpunn

PACKAGE = Path(gpunn.__file__).parent
# Each floor may use those before it, and itself.
FLOORS = [
    {"_start", "errors", "checks", "processors"},
    {"rng", "device"},
    {"kernels", "ops"},
    {"init", "params"},
    {"layers", "losses", "metrics", "schedules", "optim", "models"},
    {"io", "data"},
    {"testing", "environment", "machine", "bench", "train", "estimator", "plot", "web", "cli", "__main__", "__init__"},
]
FOREIGN = {"cupy", "cupyx", "torch", "jax", "array_api_strict", "array_api_compat", "numba", "llvmlite"}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def stem(path):
    """The first part of the module's name inside the package: "ops" for gpunn/ops/linear.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name):
    return next(i for i, names in enumerate(FLOORS) if name in names)


def imported(path):
    """All modules that a file imports anywhere in it, with full names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            if node.module == "gpunn":
                yield from (f"gpunn.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_to_the_floors_below(path):
    here = stem(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "gpunn" and len(parts) > 1 and parts[1] != "__version__":
            assert floor(parts[1]) <= floor(here), f"{path.name} is below {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_three_places_know_an_array_library(path):
    roots = {name.split(".")[0] for name in imported(path)}
    if stem(path) not in ("device", "kernels", "testing"):
        assert not roots & FOREIGN
    if stem(path) in ("ops", "layers"):
        assert "numpy" not in roots


def test_every_name_that_is_announced_is_there():
    for info in pkgutil.walk_packages(gpunn.__path__, "gpunn."):
        compiled = info.name.startswith("gpunn.kernels.cpu.fast")
        if info.name == "gpunn.__main__" or (compiled and not importlib.util.find_spec("numba")):
            continue
        module = importlib.import_module(info.name)
        names = getattr(module, "__all__", [])
        assert len(names) == len(set(names))
        for name in names:
            assert hasattr(module, name), f"{info.name}.__all__ has {name}"
    assert len(gpunn.__all__) == len(set(gpunn.__all__))


def test_the_public_names_are_documented():
    for name in gpunn.__all__:
        thing = getattr(gpunn, name)
        assert inspect.getdoc(thing), f"{name} has no docstring"
        if inspect.isclass(thing) and not issubclass(thing, Exception):
            for member, _ in inspect.getmembers(thing, inspect.isfunction):
                if not member.startswith("_"):
                    assert inspect.getdoc(getattr(thing, member)), f"{name}.{member} has no docstring"


def test_importing_gpunn_loads_nothing_heavy():
    heavy = [
        "cupy",
        "torch",
        "jax",
        "array_api_strict",
        "matplotlib",
        "PIL",
        "urllib.request",
        "concurrent.futures",
        "tqdm",
        "safetensors",
        "threadpoolctl",
        "sklearn",
        "scipy",
        "pandas",
        "onnx",
    ]
    code = f"import sys, gpunn; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_the_version_is_the_packages():
    from importlib.metadata import version

    assert version("gpunn") == gpunn.__version__


@pytest.mark.parametrize(
    ("before", "given", "waits"), [("", None, "19"), ("import numpy; ", None, None), ("", "8", "8")]
)
def test_the_matrix_library_is_told_to_wait_less_where_it_is_not_loaded_yet(before, given, waits):
    """What it was told is seen by the import of NumPy alone."""
    code = (
        "import os, sys\n"
        "class Spy:\n"
        "    seen = None\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'numpy': Spy.seen = os.environ.get('OPENBLAS_THREAD_TIMEOUT')\n"
        "sys.meta_path.insert(0, Spy())\n"
        f"{before}import gpunn\n"
        "print(Spy.seen, os.environ.get('OPENBLAS_THREAD_TIMEOUT'))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    if given:
        environment["OPENBLAS_THREAD_TIMEOUT"] = given
    out = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert out.stdout.split() == [str(waits), str(given)]
