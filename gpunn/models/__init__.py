"""Builders of whole networks."""

from gpunn.models.cnn import cnn, lenet
from gpunn.models.mlp import mlp

__all__ = ["cnn", "lenet", "mlp"]
