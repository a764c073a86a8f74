import subprocess
import sys

import pytest

pytest.importorskip("numba")

NAMES = """
import gc, gpunn.kernels.cpu.fast
from numba.core.dispatcher import Dispatcher
functions = [found.py_func for found in gc.get_objects() if isinstance(found, Dispatcher)]
print(*[f"{f.__module__}:{f.__qualname__}" for f in functions if f.__module__.startswith("gpunn.")], sep="\\n")
"""


def test_no_two_compiled_functions_have_one_name():
    """Or one could be called for the other, where they have been kept on disk by different processes."""
    command = [sys.executable, "-c", NAMES]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(names) > 50
    assert len(names) == len(set(names))
