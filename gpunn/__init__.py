"""gpunn: neural networks from first principles, on NumPy, CuPy and any array library of the array API standard.

    import gpunn as gn

    net = gn.mlp([784, 100, 10], output="softmax")
    trainer = gn.Trainer(net, loss=gn.SoftmaxCrossEntropy(), optimizer=gn.Adam(1e-3))
    trainer.fit((X, Y), epochs=10)

Every gradient is derived by hand and stands beside its function in `gpunn.ops`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gpunn import _start  # noqa: F401  # isort: skip  # before the rest, because it loads NumPy
from gpunn import data, init, layers, losses, metrics, models, ops, optim, schedules
from gpunn.data import Batches, Dataset, datasets
from gpunn.device import Device, DeviceReport, device, device_of, devices, namespace, to_host
from gpunn.errors import *  # noqa: F403
from gpunn.errors import __all__ as _errors
from gpunn.io import load, save
from gpunn.layers import *  # noqa: F403
from gpunn.layers import __all__ as _layers
from gpunn.losses import (
    FocalLoss,
    Hinge,
    Huber,
    KLDivergence,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    PoissonLoss,
    Quadratic,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gpunn.models import Ensemble, mlp
from gpunn.optim import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, Muon, NAdam, Optimizer, RMSprop
from gpunn.params import Buffer, Param
from gpunn.testing import gradcheck
from gpunn.train import (
    L1,
    AverageWeights,
    Callback,
    EpochTable,
    Histograms,
    History,
    MaxNorm,
    Plateau,
    Trainer,
    load_checkpoint,
    save_checkpoint,
)

if TYPE_CHECKING:
    from gpunn import plot
    from gpunn.estimator import MLPClassifier, MLPRegressor, NetClassifier, NetRegressor

__version__ = "0.1.0"

_LATER = {"plot": "gpunn.plot"} | dict.fromkeys(
    ("MLPClassifier", "MLPRegressor", "NetClassifier", "NetRegressor"), "gpunn.estimator"
)


def __getattr__(name: str) -> Any:
    """Pictures and estimators are imported when they are first asked for: not every program needs them."""
    if name not in _LATER:
        raise AttributeError(f"module 'gpunn' has no attribute {name!r}")
    module = importlib.import_module(_LATER[name])
    return module if name == "plot" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


__all__ = [
    *_errors,
    *_layers,
    "L1",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "AverageWeights",
    "Batches",
    "Buffer",
    "Callback",
    "Dataset",
    "Device",
    "DeviceReport",
    "Ensemble",
    "EpochTable",
    "FocalLoss",
    "Hinge",
    "Histograms",
    "History",
    "Huber",
    "KLDivergence",
    "Lion",
    "Loss",
    "MLPClassifier",
    "MLPRegressor",
    "MaxNorm",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Muon",
    "NAdam",
    "NetClassifier",
    "NetRegressor",
    "Optimizer",
    "Param",
    "Plateau",
    "PoissonLoss",
    "Quadratic",
    "RMSprop",
    "SigmoidCrossEntropy",
    "SoftmaxCrossEntropy",
    "Trainer",
    "data",
    "datasets",
    "device",
    "device_of",
    "devices",
    "gradcheck",
    "init",
    "layers",
    "load",
    "load_checkpoint",
    "losses",
    "metrics",
    "mlp",
    "models",
    "namespace",
    "ops",
    "optim",
    "plot",
    "save",
    "save_checkpoint",
    "schedules",
    "to_host",
]
