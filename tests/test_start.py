"""What is arranged before NumPy is first used; each in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest


def run(code, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_THREAD", "MALLOC"))} | variables
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("given", [{}, {"OPENBLAS_THREAD_TIMEOUT": "10"}])
def test_other_programs_find_the_environment_as_it_was(given):
    told = run("import os, gpunn; print(os.environ.get('OPENBLAS_THREAD_TIMEOUT'))", **given)
    assert told.strip() == str(given.get("OPENBLAS_THREAD_TIMEOUT"))


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
    assert int(run(code)) < 100  # 20,000 without
