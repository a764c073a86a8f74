"""gpunn: neural networks from first principles, on NumPy, CuPy and any array library of the array API standard.

    import gpunn as gn

    net = gn.mlp([784, 100, 10], output="softmax")
    trainer = gn.Trainer(net, loss=gn.SoftmaxCrossEntropy(), optimizer=gn.Adam(1e-3))
    trainer.fit((X, Y), epochs=10)

Every gradient is derived by hand and stands beside its function in `gpunn.ops`.
"""

from gpunn import _start  # noqa: F401  # isort: skip  # first, because it loads NumPy
from gpunn import data, init, layers, losses, metrics, models, ops, optim, plot, schedules
from gpunn.data import Batches, Dataset, datasets
from gpunn.device import Device, DeviceReport, device, device_of, devices, namespace, to_host
from gpunn.errors import *  # noqa: F403
from gpunn.errors import __all__ as _errors
from gpunn.estimator import MLPClassifier, MLPRegressor, NetClassifier, NetRegressor
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

__version__ = "0.1.0"

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
