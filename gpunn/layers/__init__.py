"""Layers: parameters and a pair of ops each, and the containers that make networks of them."""

from gpunn.layers.activation import (
    ELU,
    GELU,
    Activation,
    Identity,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    activation,
)
from gpunn.layers.base import Layer
from gpunn.layers.compose import Residual, Sequential
from gpunn.layers.linear import Linear
from gpunn.layers.shape import Flatten
from gpunn.layers.standardize import Standardize

__all__ = [
    "ELU",
    "GELU",
    "Activation",
    "Flatten",
    "Identity",
    "Layer",
    "LeakyReLU",
    "Linear",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Standardize",
    "Tanh",
    "activation",
]
