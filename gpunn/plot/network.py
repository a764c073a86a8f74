"""Pictures of a network: its layers, the weights of the first, and what passes through it.

All functions return a matplotlib Figure and write it to `path` as PNG where there is one. They raise OptionError where
the network has nothing of the kind and without matplotlib, NotInitialised before it has weights.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.data.batches import as_input
from gpunn.data.table import Table
from gpunn.device import to_host
from gpunn.errors import OptionError, ShapeError
from gpunn.io.foreign import gives_probabilities, told_shape
from gpunn.layers import Conv2d, Identity, Layer, Linear
from gpunn.layers.steps import SILENT, steps
from gpunn.plot.answers import as_picture
from gpunn.plot.style import (
    COLOURS,
    as_percent,
    finish,
    framed,
    mosaic,
    name_of,
    new_figure,
    only_whole_numbers,
    percent,
    show_images,
)

__all__ = ["activations", "diagram", "filters", "weights"]

_NAMED = 60  # inputs that can be named along an axis
_SIGNED = "RdBu_r"  # blue below 0, white at 0, red above: told apart by all who see colours differently


def weights(
    net: Layer,
    *,
    image_shape: Sequence[int] | None = None,
    count: int = 64,
    path: str | Path | None = None,
) -> Any:
    """The weights of the first Linear layer: a picture for each of its units, of what it looks for.

    Where the inputs are images of `image_shape` (height, width, channels), which `net.about` may say, unit 0 is at the
    upper left, unit 1 right of it, at most `count` of them; red weights are above 0, blue ones below, on one scale that
    the outermost 0.5 % go beyond. Colour images are shown in their colours, grey where a weight is 0. Otherwise it is
    one picture, a row for each unit and a column for each input, which has the name that `net.about` has for it.
    """
    layer = next((each for _, each in net.walk() if isinstance(each, Linear)), None)
    if layer is None:
        raise OptionError("this network has no Linear layer, and so no weights of one to draw")
    W = to_host(layer.W.value).T  # (units, inputs)
    shape = tuple(image_shape or net.about.get("image_shape") or ())
    if shape and math.prod(shape) != W.shape[1]:
        raise ShapeError(f"the first Linear layer has {W.shape[1]} inputs, and an image of {shape} has other pixels")
    shown = W[:count]
    of_all = f"the first {len(shown)} of {len(W)} units" if len(shown) < len(W) else f"all {len(W)} units"
    if shape:
        return _tiles(shown.reshape(-1, *shape), f"weights of the first layer, {of_all}", path)
    names = _names(net, W.shape[1])
    room = 0.075 * max(map(len, names), default=0)  # below, for the names
    figure = new_figure(min(10.0, 3.0 + 0.25 * W.shape[1]), min(8.0, 1.8 + 0.2 * len(shown)) + room)
    axes = figure.subplots()
    top = _top(shown)
    drawn = axes.imshow(shown, cmap=_SIGNED, vmin=-top, vmax=top, aspect="auto", interpolation="nearest")
    figure.colorbar(drawn, ax=axes, label="weight", extend="both")
    axes.set_xlabel("input")
    axes.set_ylabel("unit")
    axes.set_title(f"weights of the first layer, {of_all}", fontsize="medium")
    only_whole_numbers(axes.xaxis)
    only_whole_numbers(axes.yaxis)
    if names:
        every = -(-len(names) // _NAMED)
        axes.set_xticks(range(0, len(names), every), names[::every], rotation=90, fontsize=8)
    return finish(figure, path)


def filters(net: Layer, *, layer: int = 0, count: int = 64, path: str | Path | None = None) -> Any:
    """The filters of a Conv2d layer, the first unless `layer` says another: what its features look for.

    On images of one channel filter 0 is at the upper left, filter 1 right of it; on three channels each filter is
    shown in colours, grey where a weight is 0. On more, a row for each of the first 16 filters and in it a picture for
    each of the first 16 channels.
    """
    found = [each for _, each in net.walk() if isinstance(each, Conv2d)]
    if not found:
        raise OptionError("this network has no Conv2d layer, and so no filters to draw; gn.plot.weights draws others")
    if not 0 <= layer < len(found):
        raise OptionError(f"layer must be from 0 to {len(found) - 1}, as there are Conv2d layers, got {layer}")
    W = np.moveaxis(to_host(found[layer].W.value), 3, 0)  # (filters, U, V, channels)
    name = f"filters of convolution {layer + 1}"
    if W.shape[3] in (1, 3):
        of_all = f"the first {count} of {len(W)} " if count < len(W) else ""
        return _tiles(W[:count], f"{of_all}{name}, {W.shape[1]}x{W.shape[2]}", path)
    few = np.moveaxis(W[:16, :, :, :16], 3, 1)  # (filters, channels, U, V)
    title = f"{name}: rows are filters, columns channels"
    return _tiles(few.reshape(-1, *few.shape[2:], 1), title, path, columns=few.shape[1])


def _tiles(images: np.ndarray, title: str, path: str | Path | None, columns: int | None = None) -> Any:
    """Weights (K, H, W, channels) as a sheet of pictures."""
    top = _top(images)
    if images.shape[3] == 3:
        sheet = mosaic(np.clip(0.5 + images / (2 * top), 0, 1), columns)
    else:
        sheet = mosaic(images.mean(axis=3), columns)
    height, width = sheet.shape[:2]
    scale = 5.6 / max(height, width)
    figure = new_figure(max(4.5, scale * width + 1.3), max(2.2, scale * height + 0.5))
    axes = figure.subplots()
    drawn = show_images(axes, sheet, cmap=_SIGNED, vmin=-top, vmax=top)
    if images.shape[3] != 3:
        figure.colorbar(drawn, ax=axes, label="weight", extend="both", shrink=0.8)
    axes.set_title(title, fontsize="medium")
    return finish(figure, path)


def activations(
    net: Layer,
    x: Any,
    *,
    image_shape: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    path: str | Path | None = None,
) -> Any:
    """What one example x becomes, layer after layer: the input, the output of every layer, and the answer.

    x is one row, without the batch axis. Images and the features that convolutions make of them are shown as pictures
    (at most 16 features), other numbers as a sheet with unit 0 at the upper left, in reading order: red above 0, blue
    below, white at 0. Layers that only lay out or drop numbers are left out, and of more than eleven steps eleven are
    chosen at even distances. The answer, last, has a bar for each output: of more than twelve, the twelve largest. Up
    to 16 inputs have the names that `net.about` has for them.
    """
    shape = tuple(image_shape or net.about.get("image_shape") or ())
    classes = net.about.get("classes", ()) if classes is None else classes
    store, x = net.store, to_host(x)[None]
    where, dtype = store.device, store.values.dtype
    a = as_input(where.asarray(x), dtype, where.xp) if x.dtype == np.uint8 else where.asarray(x, store.dtype)
    passed = [("input", to_host(a)[0])]
    for name, layer in steps(net).items():
        a = layer.infer(a)
        if not isinstance(layer, SILENT):
            passed.append((name, to_host(a)[0]))
    answer = to_host(a if net.output is None else net.output.infer(a))[0]
    if net.output is None:
        passed.pop()  # which is the answer
    if len(passed) > 11:
        passed = [passed[i] for i in np.linspace(0, len(passed) - 1, 11).round().astype(int)]
    rows = -(-(len(passed) + 1) // 5)
    columns = -(-(len(passed) + 1) // rows)
    figure = new_figure(2.1 * columns + 0.3, 2.8 * rows)  # room for three lines above and the numbers below
    grid = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axes in grid:
        axes.set_axis_off()
    for axes, (name, values) in zip(grid, passed, strict=False):
        first = name == "input"
        _step(axes, name, values, shape if first else (), _names(net, values.size) if first else [])
    axes = grid[len(passed)]
    axes.set_axis_on()
    _bars(axes, answer.reshape(-1), classes, probabilities=gives_probabilities(net))
    return finish(figure, path)


def _step(axes: Any, name: str, values: np.ndarray, image_shape: tuple[int, ...], names: list[str]) -> None:
    """The output of one layer, or the input, whose numbers may have names."""
    span = f"{_short(values.min())} to {_short(values.max())}"
    if name == "input" and (values.ndim == 3 or image_shape):
        picture = values.reshape(image_shape) if image_shape else values
        show_images(axes, as_picture(picture), cmap="gray_r")
        framed(axes)
        text = f"{picture.shape[0]}x{picture.shape[1]} pixels"
    elif values.ndim == 3:
        features = np.moveaxis(values, 2, 0)[:16]
        top = abs(features).max() or 1.0
        show_images(axes, mosaic(features), cmap=_SIGNED, vmin=-top, vmax=top)
        h, w, n = values.shape
        text = f"{n} features of {h}x{w}" + (", 16 shown" if n > 16 else "")
    elif values.size <= 16:
        values = values.reshape(-1)
        axes.set_axis_on()
        axes.barh(range(values.size), values, color=[COLOURS[1] if value > 0 else COLOURS[0] for value in values])
        axes.axvline(0.0, color="#999999", linewidth=0.8)
        axes.invert_yaxis()
        axes.set_yticks(range(values.size), names or None)
        axes.tick_params(labelsize=8)
        axes.locator_params(axis="x", nbins=3)
        axes.set_box_aspect(1)
        text = f"{values.size} {'numbers' if name == 'input' else 'units'}"
    else:
        values = values.reshape(-1)
        columns = math.ceil(math.sqrt(values.size))
        sheet = np.full(-(-values.size // columns) * columns, np.nan)
        sheet[: values.size] = values
        top = abs(values).max() or 1.0
        show_images(axes, sheet.reshape(-1, columns), cmap=_SIGNED, vmin=-top, vmax=top)
        text = f"{values.size:,} {'numbers' if name == 'input' else 'units'}"
    axes.set_title(f"{name}\n{text}\n{span}", fontsize=8)


def _bars(axes: Any, answer: np.ndarray, classes: Sequence[str], *, probabilities: bool) -> None:
    """The answer, a bar for each output."""
    shown = np.arange(answer.size) if answer.size <= 12 else np.sort(np.argsort(-answer, kind="stable")[:12])
    best = int(answer.argmax())
    colours = [COLOURS[1] if c == best and probabilities and answer.size > 1 else COLOURS[0] for c in shown]
    axes.barh(range(len(shown)), answer[shown], color=colours)
    axes.set_yticks(range(len(shown)), [name_of(int(c), classes, 12) for c in shown], fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.locator_params(axis="x", nbins=3)
    axes.invert_yaxis()
    axes.set_box_aspect(1)
    largest = name_of(best, classes, 12)
    if probabilities:
        axes.set_xlim(0, 1)
        as_percent(axes.xaxis)
        axes.set_xticks([0, 0.5, 1])
    what = f"{largest}, {percent(float(answer[best]))}" if probabilities else f"{answer.size} numbers"
    axes.set_title("answer\n" + (what if answer.size > 1 else _short(answer[0])), fontsize=8)


def diagram(net: Layer, *, input_shape: Sequence[int] | None = None, path: str | Path | None = None) -> Any:
    """The network from left to right: what the numbers are laid out as, and between them the layers that make it so.

    A column of dots is a vector, with its size below (of more than nine numbers the middle ones are left out); squares
    one behind the other are the features of an image, with height x width x features below. Above the lines stand the
    layers, below them the parameters they learn. A network that does not begin with a Linear layer is told the shape of
    one input by `input_shape`, or by the "image_shape" in `net.about`; sizes that are not known are shown as "?".
    """
    stages = _stages(net, tuple(input_shape) if input_shape is not None else told_shape(net))
    edges = len(stages) - 1
    per_row = min(edges, 6) or 1
    rows = -(-edges // per_row) or 1
    lines = max(len(layers) for _, layers, _ in stages)
    figure = new_figure(1.9 * per_row + 1.1, max(2.5, 0.62 * lines) * rows)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(-0.35, per_row + 0.35)
    axes.set_ylim(-rows + 0.5, 0.5)
    for row in range(rows):
        here = stages[row * per_row : (row + 1) * per_row + 1]  # the last of a row is the first of the next
        for i, (shape, layers, size) in enumerate(here):
            if i:
                _connect(axes, i, -row, here[i - 1][0], shape)
                text = "\n".join(layers)
                axes.text(i - 0.5, -row + 0.29, text, ha="center", va="bottom", fontsize=8, linespacing=1.3)
                learned = f"{size:,}\nparameters" if size else "nothing\nto learn"
                axes.text(i - 0.5, -row - 0.29, learned, ha="center", va="top", fontsize=7, color="#666666")
        for i, (shape, _, _) in enumerate(here):
            _place(axes, i, -row, shape)
    return finish(figure, path)


Shape = tuple[int, ...] | None


def _stages(net: Layer, shape: Shape) -> list[tuple[Shape, list[str], int]]:
    """What the numbers are laid out as, the layers that led there, and how many parameters those learn."""
    stages: list[tuple[Shape, list[str], int]] = [(shape, [], 0)]
    pending: tuple[list[str], int] = ([], 0)  # layers that came before any that changes the shape
    for layer in steps(net).values():
        before, shape = shape, layer.output_shape(shape)
        name, size = type(layer).__name__, sum(param.size for param in layer.params().values())
        if isinstance(layer, Conv2d):
            name += f" {layer.kernel[0]}x{layer.kernel[1]}"
        if isinstance(layer, Linear | Conv2d) or shape != before:
            stages.append((shape, [*pending[0], name], pending[1] + size))
            pending = ([], 0)
        elif len(stages) == 1:
            pending = ([*pending[0], name], pending[1] + size)
        else:
            last = stages[-1]
            stages[-1] = (shape, [*last[1], name], last[2] + size)
    if pending[0]:
        stages.append((shape, *pending))
    if net.output is not None and not isinstance(net.output, Identity):
        last = stages[-1]
        stages[-1] = (last[0], [*last[1], type(net.output).__name__], last[2])
    return stages


def _dots(shape: Shape) -> np.ndarray:
    """The heights of the dots that stand for a vector."""
    n = shape[0] if shape is not None and len(shape) == 1 else 0
    if n > 9:
        return np.delete(np.linspace(0.24, -0.24, 9), 4)
    return np.linspace(0.03, -0.03, n) * (n - 1) if n else np.empty(0)


def _place(axes: Any, x: float, y: float, shape: Shape) -> None:
    """Draw what the numbers are laid out as."""
    label = "?" if shape is None else " x ".join(map(str, shape))
    if shape is not None and len(shape) == 1:
        heights = _dots(shape)
        axes.scatter(np.full(len(heights), x), y + heights, s=42, color=COLOURS[0], edgecolors="white", zorder=3)
        if shape[0] > 9:
            axes.text(x, y, "⋮", ha="center", va="center", fontsize=11, color=COLOURS[0], zorder=3)
    else:
        from matplotlib.patches import Rectangle

        for k in reversed(range(min(shape[-1], 4) if shape else 1)):
            corner = (x - 0.15 + 0.025 * k, y - 0.2 + 0.03 * k)
            axes.add_patch(
                Rectangle(corner, 0.26, 0.34, facecolor="#d9e8f3", edgecolor=COLOURS[0], linewidth=1, zorder=3)
            )
    axes.text(x, y - 0.31, label, ha="center", va="top", fontsize=8.5 if len(label) <= 12 else 7, weight="bold")


def _connect(axes: Any, x: float, y: float, before: Shape, after: Shape) -> None:
    """Lines from what was to what becomes of it."""
    left, right = _dots(before), _dots(after)
    if len(left) and len(right):
        ends = np.meshgrid(y + left, y + right)
        axes.plot([x - 1, x], [end.ravel() for end in ends], color="#bbbbbb", linewidth=0.5)
    else:
        arrow = {"arrowstyle": "-|>", "color": "#888888", "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (x - 0.2, y), (x - 0.78, y), arrowprops=arrow)


def _names(net: Layer, n: int) -> list[str]:
    """The names of the n inputs, which a network has that was trained on a table; otherwise none."""
    names = Table.of(net.about["table"]).inputs if "table" in net.about else ()
    return [name_of(i, names, 30) for i in range(n)] if len(names) == n else []


def _top(values: np.ndarray) -> float:
    """The size that all but 0.5 % of the numbers stay below."""
    return float(np.quantile(abs(values), 0.995)) or 1.0


def _short(value: float) -> str:
    return f"{value:.3g}"
