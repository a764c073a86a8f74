"""The layers an input passes on its way through a network, one after another: for pictures and pages that show them."""

from gpunn.layers.activation import Identity
from gpunn.layers.base import Layer
from gpunn.layers.compose import Sequential
from gpunn.layers.dropout import Dropout, GaussianNoise
from gpunn.layers.shape import Flatten, Reshape

__all__ = ["SILENT", "steps"]

SILENT = Dropout | Flatten | GaussianNoise | Identity | Reshape  # at inference they change no number


def steps(net: Layer) -> dict[str, Layer]:
    """The layers of a Sequential by their names; any other network, which may do more than its layers, as a whole."""
    return dict(net.children()) if type(net) is Sequential else {type(net).__name__.lower(): net}
