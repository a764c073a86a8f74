"""The emulator finds what it is there to find: threads that do not wait for others, or wait for ever."""

import shutil

import numpy as np
import pytest

from tests.kernels.cuda.conftest import Emulator

SOURCE = """
extern "C" __global__ void reverse(float* x) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = s[63 - threadIdx.x];
}
extern "C" __global__ void hasty(float* x) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = s[63 - threadIdx.x];
}
extern "C" __global__ void stuck(float* x) {
    if (threadIdx.x < 40) __syncthreads();
    x[threadIdx.x] = threadIdx.x < 50 ? 1.0f : __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}
"""


@pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ to compile the kernels for a CPU")
def test_threads_that_do_not_wait_or_wait_for_ever_are_found(kernels_folder):
    emulator = Emulator(kernels_folder)
    module = emulator.RawModule(code=SOURCE, options=())
    x = emulator.asarray(np.arange(64, dtype="float32"))
    backwards = x[::-1].copy()
    module.get_function("reverse")((1,), (64,), (x,))
    assert np.array_equal(x, backwards)
    module.get_function("hasty")((1,), (64,), (x,))
    assert not np.array_equal(x, backwards[::-1])
    with pytest.raises(AssertionError, match="stuck: threads wait for each other for ever"):
        module.get_function("stuck")((1,), (64,), (x,))
    x[...] = backwards
    module.get_function("reverse")((3,), (64,), (x,))  # what was stuck is forgotten
    assert np.array_equal(x, backwards[::-1])
    emulator.check()
