"""What all pictures share: how a figure is made, the colours, and how it becomes a file."""

import functools
import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.device import to_host
from gpunn.errors import OptionError
from gpunn.io.atomic import write_atomic

__all__ = [
    "COLOURS",
    "MARKERS",
    "as_percent",
    "can_draw",
    "class_numbers",
    "finish",
    "framed",
    "line_style",
    "log_scale",
    "mosaic",
    "name_of",
    "new_figure",
    "only_whole_numbers",
    "percent",
    "plain",
    "png",
    "show_images",
]

# Colours that people who do not see all of them tell apart (Okabe and Ito, 2008)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib Figure of so many inches. Raises OptionError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise OptionError('pictures need matplotlib: pip install "gpunn[plot]"') from None
    figure = Figure(figsize=(width, height), layout="constrained")
    figure._repr_png_ = functools.partial(png, figure)  # type: ignore[attr-defined]  # how a notebook shows it
    return figure


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def finish(figure: Any, path: str | Path | None) -> Any:
    """The figure, written to `path` as PNG where there is one."""
    if path is not None:
        write_atomic(path, png(figure))
    return figure


def png(figure: Any, dpi: int = 120) -> bytes:
    """A figure as a PNG file."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # of a name in letters that the font lacks
        figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()


def plain(text: object, length: int = 24) -> str:
    """A text as it is, cut to `length`: matplotlib would take $ for the beginning of a formula."""
    shown = " ".join(str(text).split())
    return (shown if len(shown) <= length else shown[: length - 1] + "…").replace("$", r"\$")


def percent(p: float) -> str:
    """A probability as people read it: never 100 % or 0 % of what is only nearly so."""
    if 0.001 <= p < 0.9995:
        return f"{p:.0%}" if 0.01 <= p <= 0.99 else f"{p:.1%}"
    return "<0.1%" if p < 0.5 else ">99.9%"


def name_of(c: int, classes: Sequence[str], length: int = 24) -> str:
    """The name of class c, which is its number where there are no names."""
    return plain(classes[c] if c < len(classes) else c, length)


def line_style(i: int) -> dict[str, str]:
    """The colour of line i, and the dashes that tell it from those which have the same."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": _DASHES[i // len(COLOURS) % len(_DASHES)]}


def class_numbers(y: Any) -> np.ndarray:
    """Class numbers (N,) on the host, of class numbers or one-hot rows."""
    y = to_host(y)
    if y.ndim == 2 and y.shape[1] > 1:
        return y.argmax(axis=1)
    return y.reshape(-1).astype(np.int64)


def only_whole_numbers(axis: Any) -> None:
    """Mark an axis at whole numbers, of epochs say."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def as_percent(axis: Any) -> None:
    """Mark an axis of shares in per cent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0))


def log_scale(axes: Any, low: float, high: float) -> None:
    """Make the y axis logarithmic, with numbers that people read."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def mosaic(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Images (K, H, W) or (K, H, W, 3) beside and below one another in reading order, NaN between them."""
    count, h, w = images.shape[:3]
    columns = columns or math.ceil(math.sqrt(count * h / w))
    rows = -(-count // columns)
    gap = 1 if max(h, w) < 40 else 2
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, *images.shape[3:]), np.nan)
    for k, image in enumerate(images):
        top, left = k // columns * (h + gap), k % columns * (w + gap)
        sheet[top : top + h, left : left + w] = image
    return sheet


def framed(axes: Any) -> None:
    """A thin frame around a picture, which may be white at its edges, without marks."""
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color="#bbbbbb", linewidth=0.6)


def show_images(axes: Any, sheet: np.ndarray, **options: Any) -> Any:
    """Draw pixels as squares, without axes; NaN is left white."""
    if sheet.ndim == 3:
        sheet = np.where(np.isnan(sheet), 1.0, sheet)
    drawn = axes.imshow(sheet, interpolation="nearest", **options)
    axes.set_axis_off()
    return drawn
