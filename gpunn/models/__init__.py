"""Builders of whole networks."""

from gpunn.models.mlp import mlp

__all__ = ["mlp"]
