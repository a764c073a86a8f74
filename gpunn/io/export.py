"""Networks as files that other programs read: what `gpunn export` does."""

import importlib
from collections.abc import Callable
from pathlib import Path

from gpunn.errors import OptionError
from gpunn.io.network import load, model_file
from gpunn.layers import Layer

__all__ = ["FORMATS", "export"]

# {name: (ending of the file, the function that writes it)}. A function is named by text because it is imported when it
# is asked for, and may be on a floor above: it is called with (net, path, shape of one input or None) and returns lines
# that say what it wrote. FileError where it cannot, OptionError for a network that the format cannot express.
FORMATS = {
    "onnx": (".onnx", "gpunn.io.onnx:export"),
    "torch": ("_torch.safetensors", "gpunn.io.torch:export"),
    "sklearn": (".joblib", "gpunn.io.sklearn:export"),
    "npz": (".npz", "gpunn.io.npz:export"),
    "html": (".html", "gpunn.web.export:export"),
}


def export(
    run: str | Path, to: str, out: str | Path | None = None, input_shape: tuple[int, ...] | None = None
) -> list[str]:
    """Write the network of a run folder, or of a file of `gn.save`, in the format `to`; returns what there is to say.

    Without `out` the file lies in the run folder, or beside the file. `input_shape` is that of one input, for a network
    that does not tell it. Raises OptionError for another format or a network that it cannot express, FileError for a
    file that cannot be read or written.
    """
    if to not in FORMATS:
        raise OptionError(f"format {to!r} is not known; expected {', '.join(FORMATS)}")
    source = model_file(run)
    net = load(source)
    ending, name = FORMATS[to]
    path = Path(out) if out is not None else source.with_name(source.stem + ending)
    if path.exists() and path.samefile(source):
        raise OptionError(f"{path}: would take the place of the network itself; name another file with --out")
    module, _, function = name.partition(":")
    write: Callable[[Layer, Path, tuple[int, ...] | None], list[str]] = getattr(
        importlib.import_module(module), function
    )
    return [f"written  {path}", *write(net, path, input_shape)]
