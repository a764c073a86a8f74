"""A plugin of pytest: the CUDA twins, run on the CPU, in place of NumPy's. See test_in_use.py."""

import importlib.util
import os
from pathlib import Path

import numpy as np

import gpunn.kernels
from gpunn.kernels.cuda import TWINS, cudnn, module, product

spec = importlib.util.spec_from_file_location("cuda_conftest", Path(__file__).with_name("conftest.py"))
conftest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conftest)
place = conftest.Emulator(Path(os.environ["KERNELS_FOLDER"]))
library = product.Library(conftest.StandIn())
find, used = gpunn.kernels.find, set()


def emulated(name, kind):
    if kind is np.ndarray and name in TWINS:
        used.add(name)
        return TWINS[name]
    return find(name, kind)


gpunn.kernels.find = emulated
module.cupy = lambda: place
product._library = lambda: library
cudnn._library = lambda: None
product.address = lambda x: x.ctypes.data
product.device_id = lambda x: 0


def pytest_runtest_teardown():
    place.check()


def pytest_sessionfinish():
    print("\ntwins in use:", *sorted(used))
