"""Weights as a NumPy .npz file: plain arrays by name, with no pickle in it."""

import io
import zipfile
from pathlib import Path

import numpy as np

from gpunn.io.atomic import write_atomic
from gpunn.layers import Layer

__all__ = ["to_npz"]


def to_npz(net: Layer, path: str | Path) -> None:
    """Write the weights of a network to an .npz file: arrays such as "linear1.W" (n_in, n_out), and "linear1.b".

    They come back with `net.load_state_dict(np.load(path))` into a network of the same layers: the file has the weights
    alone. Raises FileError where it cannot be written.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in net.state_dict().items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
    write_atomic(path, file.getvalue())


def export(net: Layer, path: Path, input_shape: tuple[int, ...] | None) -> list[str]:
    """What `gpunn export --to npz` does."""
    to_npz(net, path)
    with np.load(path) as found:
        names = [f"         {name} {found[name].shape} {found[name].dtype}" for name in found]
    return [*names, "read it with numpy.load(FILE)"]
