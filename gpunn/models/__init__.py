"""Builders of whole networks."""

from gpunn.models.cnn import cnn, lenet
from gpunn.models.ensemble import Ensemble
from gpunn.models.mlp import mlp

__all__ = ["Ensemble", "cnn", "lenet", "mlp"]
