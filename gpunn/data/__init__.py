"""Data: sets by name, files, batches."""

from gpunn.data import datasets
from gpunn.data.batches import Batches
from gpunn.data.dataset import Dataset
from gpunn.data.files import read_csv, read_idx, read_npz

__all__ = ["Batches", "Dataset", "datasets", "read_csv", "read_idx", "read_npz"]
