"""Pictures. They need matplotlib, the extra "plot": pip install "gpunn[plot]".

Every function takes plain objects, a history, a network, arrays, and returns a matplotlib Figure, which a notebook
shows and `path="picture.png"` writes. `gpunn plot RUN` makes all that fit a run, and a report (gpunn.plot.report).
"""

from gpunn.plot.answers import confusion, mistakes, predictions, residuals, roc
from gpunn.plot.boundary import BoundaryFilm, boundary
from gpunn.plot.curves import curves, draw_comparison, draw_curves
from gpunn.plot.network import activations, diagram, filters, weights
from gpunn.plot.spread import histograms, norms

__all__ = [
    "BoundaryFilm",
    "activations",
    "boundary",
    "confusion",
    "curves",
    "diagram",
    "draw_comparison",
    "draw_curves",
    "filters",
    "histograms",
    "mistakes",
    "norms",
    "predictions",
    "residuals",
    "roc",
    "weights",
]
