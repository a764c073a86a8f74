"""Answers for the rows of a table."""

import csv
import io
from pathlib import Path

import numpy as np

from gpunn.data.table import Table, read_rows
from gpunn.device import to_host
from gpunn.io.foreign import class_names, gives_probabilities
from gpunn.layers import Layer

__all__ = ["predict_csv"]


def predict_csv(net: Layer, path: str | Path, table: Table) -> tuple[str, int, list[str]]:
    """(the rows of a CSV file with the network's answers beside them, as CSV; their number; notes).

    The network was trained on `table`, whose target gives the new columns their names: "predicted species" and, for
    classes, a probability each, "p(iris)", or a score where the network gives those. Raises FileError or DataError.
    """
    rows = read_rows(path, table)
    x = net.store.device.asarray(rows.x, net.store.dtype)
    answers = np.concatenate([to_host(net(x[first : first + 1024])) for first in range(0, len(rows.x), 1024)])
    classes = class_names(net) or []
    letter = "p" if gives_probabilities(net) else "score"
    names = [f"predicted {table.target}", *(f"{letter}({name})" for name in classes)]
    kept = [i for i, name in enumerate(rows.names) if name not in names]  # those of an earlier prediction
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*(rows.names[i] for i in kept), *names])
    for cells, answer in zip(rows.cells, answers.tolist(), strict=True):
        values = [f"{value:.6g}" for value in answer]
        best = [classes[max(range(len(answer)), key=answer.__getitem__)]] if classes else []
        writer.writerow([*(cells[i] for i in kept), *best, *values])
    return out.getvalue(), len(rows.cells), rows.notes
