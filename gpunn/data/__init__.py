"""Data: sets by name, files, batches."""

from gpunn.data import datasets
from gpunn.data.augment import Augmentation, CutOut, Elastic, RandomAffine, expand_by_shifts
from gpunn.data.batches import Batches
from gpunn.data.dataset import Dataset
from gpunn.data.files import read_csv, read_idx, read_npz

__all__ = [
    "Augmentation",
    "Batches",
    "CutOut",
    "Dataset",
    "Elastic",
    "RandomAffine",
    "datasets",
    "expand_by_shifts",
    "read_csv",
    "read_idx",
    "read_npz",
]
