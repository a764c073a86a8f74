"""The page as one file, with the network in it."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.errors import OptionError
from gpunn.io.atomic import write_atomic
from gpunn.io.foreign import kind_of
from gpunn.io.network import KNOWN
from gpunn.layers import Layer, Sequential
from gpunn.web.reader import Reader
from gpunn.web.server import STATIC

__all__ = ["describe", "export", "page", "to_html"]

# A page of so many numbers opens in Chromium. As text they take 5.3 letters each, and its texts have at most 2^29.
_MOST = 50_000_000


def to_html(net: Layer, path: str | Path) -> None:
    """Write the page as one file that needs no server: the network is in it, and runs in the browser.

    Weights are kept in float32. Raises OptionError for a network that is not for drawings (see `Reader`), has layers
    that are not gpunn's own, or is too large for a browser, FileError where the file cannot be written.
    """
    write_atomic(path, page(net))


def export(net: Layer, path: Path, input_shape: tuple[int, ...] | None = None) -> list[str]:
    """`gpunn export --to html`; the network tells the shape of an input itself."""
    to_html(net, path)
    return ["to draw on, in any browser, with no server and no network connection"]


def page(net: Layer) -> str:
    """The text of the file that `to_html` writes."""
    reader = Reader(net)
    tensors = net.state_dict()
    if (numbers := sum(tensor.size for tensor in tensors.values())) > _MOST:
        raise OptionError(
            f"a page without a server can hold a network of {_MOST:,} numbers, and this one has {numbers:,}; gpunn "
            "draw takes it"
        )
    names = {id(entry): name for name, entry in (net.params() | net.buffers()).items()}
    network = reader.description() | {
        "input": reader.shape,
        "steps": [describe(layer, names) | {"shown": name in reader.shown} for name, layer in reader.steps.items()],
        "output": describe(reader.output, names),
    }
    weights = {name: encode(tensor) for name, tensor in tensors.items()}
    style = (STATIC / "style.css").read_text(encoding="utf-8")
    scripts = [(STATIC / name).read_text(encoding="utf-8") for name in ("network.js", "page.js")]
    # Nothing may be loaded, from anywhere, and nothing run but these two scripts
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    for old, new in (
        (
            '<meta charset="utf-8">',
            f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">',
        ),
        ('<link rel="stylesheet" href="style.css">', f"<style>{style}</style>"),
        (
            '<script src="ask.js"></script>',
            f"{_data('network', network)}\n{_data('weights', weights)}\n<script>{scripts[0]}</script>",
        ),
        ('<script src="page.js"></script>', f"<script>{scripts[1]}</script>"),
    ):
        before, after = html.split(old)
        html = before + new + after
    return html


def describe(layer: Layer, names: Mapping[int, str]) -> dict[str, Any]:
    """A layer as network.js takes it: its type, its arguments, and the names of its weights by the id of each.

    Raises OptionError for a layer that is not one of gpunn's own.
    """
    kind = kind_of(layer, KNOWN.values(), "a page without a server (gpunn draw has one)")
    described: dict[str, Any] = {"type": kind.__name__}
    entries = vars(layer)
    described["tensors"] = {key: names[id(entry)] for key, entry in entries.items() if id(entry) in names}
    if isinstance(layer, Sequential):
        return described | {"layers": [describe(inner, names) for inner in layer.layers]}
    return described | {key: value for key, value in layer.config().items() if key not in described["tensors"]}


def encode(tensor: np.ndarray) -> dict[str, Any]:
    """An array as its shape and its numbers in float32, the lowest byte first, in base 64."""
    return {"shape": tensor.shape, "data": base64.b64encode(np.ascontiguousarray(tensor, "<f4").tobytes()).decode()}


def _data(name: str, value: Any) -> str:
    text = json.dumps(value).replace("<", "\\u003c")  # so that no name of a class ends the script
    return f'<script type="application/json" id="{name}">{text}</script>'


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
