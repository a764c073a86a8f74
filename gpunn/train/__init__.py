"""Training: the loop, its history, its checkpoints."""

from gpunn.train.checkpoint import load_checkpoint, save_checkpoint
from gpunn.train.histograms import Histograms
from gpunn.train.history import History
from gpunn.train.plateau import Plateau
from gpunn.train.table import EpochTable
from gpunn.train.trainer import Callback, Trainer
from gpunn.train.weights import L1, AverageWeights, MaxNorm

__all__ = [
    "L1",
    "AverageWeights",
    "Callback",
    "EpochTable",
    "Histograms",
    "History",
    "MaxNorm",
    "Plateau",
    "Trainer",
    "load_checkpoint",
    "save_checkpoint",
]
