"""Layers: parameters and a pair of ops each, and the containers that make networks of them."""

from gpunn.layers.activation import (
    ELU,
    GELU,
    SELU,
    Activation,
    Exponential,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyReLU,
    Maxout,
    Mish,
    PReLU,
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
from gpunn.layers.conv import Conv2d
from gpunn.layers.dropout import Dropout, GaussianNoise
from gpunn.layers.linear import Linear
from gpunn.layers.norm import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from gpunn.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from gpunn.layers.shape import Flatten, Reshape
from gpunn.layers.standardize import Standardize

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "AvgPool2d",
    "BatchNorm",
    "Conv2d",
    "Dropout",
    "Exponential",
    "Flatten",
    "GaussianNoise",
    "GlobalAvgPool2d",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Maxout",
    "Mish",
    "PReLU",
    "RMSNorm",
    "ReLU",
    "Reshape",
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
