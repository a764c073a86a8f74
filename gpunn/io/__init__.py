"""Files other than data sets: networks, how they are written safely, and the formats of other programs."""

from gpunn.io.network import load, save
from gpunn.io.npz import to_npz
from gpunn.io.onnx import check_onnx, to_onnx
from gpunn.io.sklearn import check_sklearn, from_sklearn, to_sklearn
from gpunn.io.torch import check_torch, from_torch_state_dict, to_torch, to_torch_state_dict, torch_code

__all__ = [
    "check_onnx",
    "check_sklearn",
    "check_torch",
    "from_sklearn",
    "from_torch_state_dict",
    "load",
    "save",
    "to_npz",
    "to_onnx",
    "to_sklearn",
    "to_torch",
    "to_torch_state_dict",
    "torch_code",
]
