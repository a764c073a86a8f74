"""Data: sets by name, files, batches."""

from gpunn.data import datasets
from gpunn.data.augment import Augmentation, CutOut, Elastic, RandomAffine, expand_by_shifts
from gpunn.data.batches import Batches
from gpunn.data.dataset import Dataset
from gpunn.data.files import read_idx, read_npz
from gpunn.data.folder import read_folder
from gpunn.data.table import Column, Table, read_csv

__all__ = [
    "Augmentation",
    "Batches",
    "Column",
    "CutOut",
    "Dataset",
    "Elastic",
    "RandomAffine",
    "Table",
    "datasets",
    "expand_by_shifts",
    "read_csv",
    "read_folder",
    "read_idx",
    "read_npz",
]
