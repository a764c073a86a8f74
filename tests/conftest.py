"""Fixtures of all tests: every backend that is here, and the folder with the data sets."""

import itertools
import os
import sys
from pathlib import Path

import pytest

if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
    sys.modules["numba"] = None  # type: ignore[assignment]  # as where it is not installed: it compiles nothing

from gpunn.testing import Backend, backends

_numbers = itertools.count()


@pytest.fixture(params=backends(), ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    """An array library on a device. Tests take every array from it: `backend.asarray(x)`."""
    return request.param


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder that GPUNN_DATA_DIR names; a test that needs it is skipped where there is none."""
    named = os.environ.get("GPUNN_DATA_DIR")
    if not named or not (Path(named) / "mnist").is_dir():
        pytest.skip("GPUNN_DATA_DIR does not name a folder with mnist/")
    return Path(named)


@pytest.fixture(scope="session")
def kernels_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all tests keep the CUDA kernels that g++ has compiled, which takes seconds for each data type."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test is run in a folder of its own; no curves are drawn, which takes longer than such small runs do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gpunn.train.run.draw_curves", lambda *_: False)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees the user's choice of device or cache; the folder of its cache is not made before it is needed."""
    monkeypatch.delenv("GPUNN_DEVICE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / f"cache{next(_numbers)}"))
