"""What happened in training, an epoch a row."""

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

from gpunn.checks import counted
from gpunn.errors import OptionError

__all__ = ["History"]

Row = dict[str, float]


def badness(column: str, value: float) -> float:
    """`value` of a column, turned so that less is better: an accuracy and R^2 are better where they are higher."""
    return -value if "accuracy" in column or column.endswith("r2") else value


class History:
    """One row an epoch: epoch, step, lr, loss, seconds, and with validation data valid_loss (and valid_accuracy).

    `history["loss"]` is one column as a list, `history.rows` all rows, `history[-1]` the last one. `loss` is the mean
    over the epoch's batches, each taken before its own step; the validation figures are taken at the end of the epoch.
    A column that some rows lack, where only some fits had validation data, is NaN in those.
    """

    def __init__(self, rows: list[Row] | None = None) -> None:
        self.rows = rows or []

    @property
    def columns(self) -> list[str]:
        """The names of the columns: of all that any row has."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, int):
            return self.rows[key]
        if self.rows and not any(key in row for row in self.rows):
            raise OptionError(f"history has no column {key!r}; it has {', '.join(self.columns)}")
        return [row.get(key, math.nan) for row in self.rows]

    def best(self, column: str) -> Row | None:
        """The row in which `column` was best, the first of them: highest for an accuracy or R^2, lowest for a loss."""
        values = self[column]
        found = min(range(len(values)), key=lambda i: (math.isnan(values[i]), badness(column, values[i])), default=None)
        return None if found is None else self.rows[found]

    def to_csv(self) -> str:
        """The rows as CSV, every digit kept; nothing where there are no rows."""
        if not self.rows:
            return ""
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return out.getvalue()

    def __repr__(self) -> str:
        return f"History({counted(len(self), 'epoch')}: {', '.join(self.columns)})"
