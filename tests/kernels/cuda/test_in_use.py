"""The tests of layers, losses and optimisers with the CUDA twins, run on the CPU, in place of NumPy's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpunn.kernels.cuda import TWINS

TESTS = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ to compile the kernels for a CPU")
def test_the_layers_are_right_with_these_twins(kernels_folder):
    """In a process of its own, because an op looks its twin up once."""
    some = ["layers/test_every_layer.py", "layers/test_conv.py", "test_losses.py", "test_optim.py", "ops/test_pool.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "emulated", "-p", "no:cacheprovider", "-k", "numpy-"]
    paths = os.pathsep.join([str(Path(__file__).parent), str(TESTS.parent)])
    ran = subprocess.run(
        [*command, *(str(TESTS / name) for name in some)],
        env=os.environ | {"PYTHONPATH": paths, "KERNELS_FOLDER": str(kernels_folder)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
    used = ran.stdout.partition("twins in use: ")[2].splitlines()[0].split()
    for name in ("linear_backward", "conv2d_backward", "dropout", "normalize_backward", "adam", "max_pool2d_backward"):
        assert name in used
        assert name in TWINS
