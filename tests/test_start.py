"""What is arranged when gpunn is imported; what the matrix library is told is in `test_imports`."""

import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is how glibc gives memory back")
def test_memory_that_comes_free_is_used_again():
    code = """
import resource, gpunn, numpy as np

def faults():
    for _ in range(10):
        arrays = [np.ones(1 << 19, "float32") for _ in range(4)]  # 2 MiB each
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

before = faults()
print(faults() - before)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out) < 100  # 11,000 without
