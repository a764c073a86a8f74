"""Files other than data sets: networks, and how they are written safely."""

from gpunn.io.network import load, save

__all__ = ["load", "save"]
