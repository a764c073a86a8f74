"""The CUDA source compiles for the GPUs that matter, and finding the twins costs nothing where there is no CuPy."""

import ctypes
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import gpunn.kernels
from gpunn.kernels.cuda import TWINS, module


def nvrtc():
    """The library that compiles CUDA at run time: of a wheel or an installed toolkit; None where there is none."""
    with_wheel = [Path(folder) / "nvidia" for folder in sys.path]
    found = [path for folder in with_wheel for path in folder.glob("*/lib/libnvrtc.so.*")]
    for name in [*map(str, found), "libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def compile_with_nvrtc(library, options):
    """(whether it went well, what the compiler said)."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    text = module.source().encode()
    assert not library.nvrtcCreateProgram(ctypes.byref(program), text, b"kernels.cu", 0, None, None)
    given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = library.nvrtcCompileProgram(program, len(options), given)
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return not failed, log.value.decode()


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "arch"), [*((dtype, "sm_90") for dtype in module.TYPES), ("float32", "sm_80")])
def test_the_kernels_compile(dtype, arch, tmp_path):
    options = [f"-arch={arch}", *module.options(dtype)]
    library = nvrtc()
    if library is not None:
        ok, log = compile_with_nvrtc(library, options)
        assert ok, log
        assert not log, log  # warnings
    elif shutil.which("nvcc"):
        command = ["nvcc", *options, "-cubin", "-o", tmp_path / "kernels.cubin"]
        source = Path(module.__file__).with_name("kernels.cu")
        ran = subprocess.run([*command, source], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        assert not ran.stderr
    else:
        pytest.skip("neither NVRTC (pip install nvidia-cuda-nvrtc) nor nvcc is here")


def test_twins_are_found_for_the_arrays_of_cupy_alone(monkeypatch):
    class ndarray:
        pass

    monkeypatch.delenv("GPUNN_FAST", raising=False)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    assert gpunn.kernels.find("relu", ndarray) is None
    assert "cupy" not in sys.modules
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(ndarray=ndarray))
    assert gpunn.kernels.find("relu", ndarray) is TWINS["relu"]
    assert gpunn.kernels.find("relu", list) is None
    assert gpunn.kernels.find("relu", np.ndarray) is not TWINS["relu"]
    assert gpunn.kernels.find("no such op", ndarray) is None
    monkeypatch.setenv("GPUNN_FAST", "0")
    assert gpunn.kernels.find("relu", ndarray) is None
