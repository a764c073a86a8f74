import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpunn.kernels.cpu import compiler


def test_without_numba_there_is_nothing_to_tell(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert compiler.numba_state() is None


def state(**variables):
    """What a new process tells with these environment variables: Numba reads them once."""
    pytest.importorskip("numba")
    code = "from gpunn.kernels.cpu.compiler import numba_state; print(numba_state())"
    names = ("NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT")
    environment = {name: value for name, value in os.environ.items() if name not in names} | variables
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return eval(done.stdout)


def test_numba_tells_its_version_and_its_cache(tmp_path):
    numba = pytest.importorskip("numba")
    found = state(NUMBA_CACHE_DIR=str(tmp_path))
    assert found["version"] == numba.__version__
    assert tmp_path in Path(found["cache"]).parents


def test_what_numba_cannot_have_is_none():
    assert state(NUMBA_DISABLE_JIT="1")["cache"] is None


def test_a_cache_that_cannot_be_written_to_is_none(monkeypatch):
    numba = pytest.importorskip("numba")

    def refuse(**_):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(numba, "njit", refuse)
    assert compiler.numba_state()["cache"] is None
