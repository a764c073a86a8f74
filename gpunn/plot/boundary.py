"""Where a network draws the line between classes, on data of two features: a picture, and a film of its training."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.checks import whole
from gpunn.device import to_host
from gpunn.errors import OptionError, ShapeError
from gpunn.io.atomic import write_atomic
from gpunn.layers import Layer
from gpunn.plot.style import COLOURS, MARKERS, class_numbers, finish, name_of, new_figure, png
from gpunn.train.history import Row
from gpunn.train.trainer import Callback, Trainer

__all__ = ["BoundaryFilm", "boundary"]


def boundary(
    model: Any,
    x: Any,
    y: Any,
    *,
    classes: Sequence[str] = (),
    names: Sequence[str] = ("feature 0", "feature 1"),
    resolution: int = 200,
    title: str = "",
    path: str | Path | None = None,
) -> Any:
    """The plane of x (N, 2) in the colours of the classes the model answers, paler where it is less sure.

    Black lines run where two classes are equally likely; the examples lie on top, y (N,) their class numbers, each
    class with a colour and a shape of its own. `model` is a network, a trainer, an estimator with predict_proba, or a
    function of (M, 2) to probabilities (M, C), or (M,) or (M, 1) for the class 1 of two. Numbers outside 0 to 1, of a
    network without an output function, are taken as logits. `resolution` is the number of points along an axis.
    Returns a matplotlib Figure, written to `path` as PNG where there is one. Raises ShapeError unless x is (N, 2) and
    y (N,), OptionError without matplotlib.
    """
    points, labels = _examples(x, y)
    ends = _ends(points)
    p = _probabilities(model, ends, whole("resolution", resolution, at_least=2))
    return finish(_draw(p, ends, points, labels, classes, names, title), path)


class BoundaryFilm(Callback):
    """Keeps where the line between classes runs after every epoch, and makes a film of it.

        film = gn.plot.BoundaryFilm(x, y)
        trainer.fit((x, y), epochs=60, callbacks=film)
        film.save("film.gif")

    x (N, 2) and y (N,) are the examples to draw; `every` so many epochs a picture is kept. The other arguments are
    those of `boundary`. Raises ShapeError unless x is (N, 2) and y (N,).
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        *,
        every: int = 1,
        classes: Sequence[str] = (),
        names: Sequence[str] = ("feature 0", "feature 1"),
        resolution: int = 100,
    ) -> None:
        self.points, self.labels = _examples(x, y)
        self.every = whole("every", every, at_least=1)
        self.classes, self.names = classes, names
        self.resolution = whole("resolution", resolution, at_least=2)
        self.epochs: list[int] = []
        self.frames: list[np.ndarray] = []  # probabilities (resolution, resolution, C), the lowest row first

    def on_epoch(self, trainer: Trainer, row: Row) -> None:
        if row["epoch"] % self.every == 0:
            p = _probabilities(trainer, _ends(self.points), self.resolution)
            self.frames.append(p.astype(np.float32))
            self.epochs.append(int(row["epoch"]))

    def figure(self, frame: int = -1, path: str | Path | None = None) -> Any:
        """One picture of the film, the last unless `frame` says another, as a matplotlib Figure."""
        if not self.frames:
            raise OptionError("the film is empty: give it to trainer.fit(..., callbacks=film) first")
        title = f"epoch {self.epochs[frame]}"
        ends = _ends(self.points)
        figure = _draw(self.frames[frame], ends, self.points, self.labels, self.classes, self.names, title)
        return finish(figure, path)

    def save(self, path: str | Path, *, seconds: float = 0.1) -> None:
        """Write the film as an animated GIF, `seconds` a picture and the last one for two seconds, for ever again.

        Raises OptionError before an epoch was kept and without matplotlib, FileError where it cannot be written.
        """
        pictures = [png(self.figure(i), dpi=80) for i in range(len(self.frames))] or [png(self.figure())]
        from PIL import Image  # which matplotlib brings

        images = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
        colours = images[-1].quantize(128)  # the same for all pictures, or they would flicker
        images = [image.quantize(palette=colours, dither=Image.Dither.NONE) for image in images]
        times = [round(1000 * seconds)] * (len(images) - 1) + [2000]
        out = io.BytesIO()
        images[0].save(out, format="GIF", save_all=True, append_images=images[1:], duration=times, loop=0)
        write_atomic(path, out.getvalue())


Ends = tuple[float, float, float, float]  # left, right, bottom, top


def _examples(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    points, labels = to_host(x).astype(np.float64), class_numbers(y)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ShapeError(f"a boundary is drawn for data of two features, x (N, 2); got {points.shape}")
    if len(points) != len(labels) or not len(points):
        raise ShapeError(f"{len(points)} rows of x and {len(labels)} of y: each needs one")
    return points, labels


def _ends(points: np.ndarray) -> Ends:
    """The ends of the plane that is drawn, a little beyond the outermost examples."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.where(high > low, 0.08 * (high - low), 1.0)
    (left, bottom), (right, top) = low - margin, high + margin
    return float(left), float(right), float(bottom), float(top)


def _probabilities(model: Any, ends: Ends, resolution: int) -> np.ndarray:
    """Probabilities (R, R, C) on a grid of the plane; rows go up, columns to the right."""
    left, right, bottom, top = ends
    across, up = np.meshgrid(np.linspace(left, right, resolution), np.linspace(bottom, top, resolution))
    grid = np.stack([across.ravel(), up.ravel()], axis=1)
    if isinstance(model, Layer):
        answers = model(model.store.device.asarray(grid, model.store.dtype))
    else:
        answers = getattr(model, "predict_proba", getattr(model, "predict", model))(grid)
    p = to_host(answers).astype(np.float64).reshape(len(grid), -1)
    if p.min() < 0.0 or p.max() > 1.0 + 1e-6:
        p = np.exp(p - p.max(axis=1, keepdims=True)) if p.shape[1] > 1 else 0.5 + 0.5 * np.tanh(p / 2)
    if p.shape[1] == 1:
        p = np.concatenate([1.0 - p, p], axis=1)
    p /= np.maximum(p.sum(axis=1, keepdims=True), 1e-12)
    return p.reshape(resolution, resolution, -1)


def _draw(
    p: np.ndarray,
    ends: Ends,
    points: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    names: Sequence[str],
    title: str,
) -> Any:
    figure = new_figure(6.0, 5.0)
    from matplotlib.colors import to_rgb

    axes = figure.subplots()
    C = max(p.shape[2], int(labels.max()) + 1)
    colours = np.array([to_rgb(COLOURS[c % len(COLOURS)]) for c in range(C)])
    mixed = p @ colours[: p.shape[2]]
    left, right, bottom, top = ends
    axes.imshow(1.0 - 0.55 * (1.0 - mixed), origin="lower", extent=ends, aspect="auto", interpolation="bilinear")
    across, up = np.linspace(left, right, p.shape[1]), np.linspace(bottom, top, p.shape[0])
    for c in range(p.shape[2] if p.shape[2] > 2 else 1):
        lead = p[:, :, c] - np.delete(p, c, axis=2).max(axis=2)
        if lead.min() < 0.0 < lead.max():
            axes.contour(across, up, lead, levels=[0.0], colors="black", linewidths=1.0)
    small = 26 if len(points) <= 500 else 10
    for c in np.unique(labels):
        axes.scatter(
            *points[labels == c].T,
            s=small,
            color=[colours[c]],
            marker=MARKERS[c % len(MARKERS)],
            edgecolors="white",
            linewidths=0.6,
            label=name_of(int(c), classes),
        )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_xlabel(name_of(0, names))
    axes.set_ylabel(name_of(1, names))
    if title:
        axes.set_title(title, fontsize="medium")
    figure.legend(loc="outside lower center", ncols=min(8, C), frameon=False, fontsize="small", title="true class")
    return figure
