"""Tables: CSV files with numbers and text in them, and how their columns become the inputs of a network.

A column of numbers is one input; where a number is missing it may be the mean of the others. A column of text is one
input for each of its categories: 1 where the row has it, otherwise 0 (one-hot). A `Table` says which columns there were
and what became of them. As JSON it is kept with the network, which so can take another file with such columns.
"""

import csv
import dataclasses
import difflib
import io
import math
import re
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.checks import counted
from gpunn.data.dataset import Dataset
from gpunn.errors import DataError, FileError, OptionError

__all__ = ["LARGEST", "Column", "Rows", "Table", "cut", "fill_missing", "read_csv", "read_rows"]

_MISSING = ("", "nan", "na", "n/a", "null", "?")  # what stands for something that is not known, in small letters
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
LARGEST = 1e37  # size of a number: some way below where float32 ends
_MOST_CATEGORIES = 100  # of a column; a rarer text is none of them


@dataclass(frozen=True)
class Column:
    """A column of numbers, or of text where it has categories ("" is that of cells that are missing).

    `mean` is what a missing number is taken for; without it none may be missing. `missing` counts those that were, and
    `note` is for people.
    """

    name: str
    categories: tuple[str, ...] = ()
    mean: float | None = None
    missing: int = field(default=0, compare=False)
    note: str = field(default="", compare=False)

    @property
    def width(self) -> int:
        """How many inputs it makes."""
        return len(self.categories) or 1

    def __str__(self) -> str:
        parts = [f"category of {len(self.categories)}" if self.categories else "number"]
        if self.categories:
            shown = [text or "(missing)" for text in self.categories[:6]] + ["..."] * (len(self.categories) > 6)
            parts[0] += ": " + ", ".join(cut(text, 20) for text in shown)
        if self.missing:
            parts.append(
                f"{self.missing:,} missing" + (f", taken as the mean {self.mean:.6g}" if self.mean is not None else "")
            )
        return "; ".join([*parts, self.note] if self.note else parts)


@dataclass(frozen=True)
class Table:
    """The columns that make the inputs, in their order, and the name of the column to predict."""

    target: str
    columns: tuple[Column, ...]

    def about(self) -> dict[str, Any]:
        """The table in JSON's types; `Table.of` makes it again."""
        columns = [
            {"name": c.name} | ({"categories": list(c.categories)} if c.categories else {"mean": c.mean})
            for c in self.columns
        ]
        return {"target": self.target, "columns": columns}

    @classmethod
    def of(cls, about: dict[str, Any]) -> "Table":
        """The table that `about` describes."""
        columns = [Column(c["name"], tuple(c.get("categories", ())), c.get("mean")) for c in about["columns"]]
        return cls(about["target"], tuple(columns))

    def describe(self, most: int = 20) -> list[str]:
        """A line for each column; of more than `most` for those only of which there is something to say."""
        told = [c for c in self.columns if len(self.columns) <= most or c.categories or c.missing or c.note][:most]
        width = max((len(cut(c.name, 30)) for c in told), default=0)
        lines = [f"{cut(c.name, 30):<{width}}  {c}" for c in told]
        if rest := len(self.columns) - len(told):
            lines.append(f"{'and ' if told else ''}{rest} {'more' if told else 'columns of numbers'}")
        return lines

    @property
    def inputs(self) -> tuple[str, ...]:
        """The name of each input: that of its column, and of a category "column = category"."""
        return tuple(
            name
            for c in self.columns
            for name in ([f"{c.name} = {text or '(missing)'}" for text in c.categories] if c.categories else [c.name])
        )

    @property
    def is_number(self) -> np.ndarray:
        """For each input whether it is a number, and not the 1 or 0 of a category: (D,)."""
        return np.repeat([not c.categories for c in self.columns], [c.width for c in self.columns])


# --- a file as text


class _Csv:
    """A CSV file: the names of its columns, and its rows as text."""

    def __init__(self, path: str | Path) -> None:
        self.path = path = Path(path)
        try:
            self._lines = list(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""))
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            what = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
            raise FileError(f"{path}, line {line}: cannot be read as CSV: {what}; save the file as UTF-8") from None
        except OSError as error:
            raise FileError(f"{path}: cannot be read: {error.strerror or error}") from None
        _, first = next(self._rows(), (0, []))
        if not first:
            raise DataError(f"{path}: the file is empty")
        self.named = any(_number(cell) is None for cell in first[:-1] or first)  # the last may be the name of a class
        names = [" ".join(cell.split()) for cell in first] if self.named else [""] * len(first)
        self.nameless = [not name and self.named for name in names]
        self.names = [name or ("column " if self.named else "") + str(i) for i, name in enumerate(names, start=1)]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """(number of its first line, cells) of every row below the names."""
        rows = self._rows()
        if self.named:
            next(rows)
        for line, cells in rows:
            if len(cells) != len(self.names):
                expected = f"expected {len(self.names)} as in the first line; quote a cell with a separator in it"
                raise DataError(f"{self.path}, line {line}: {counted(len(cells), 'cell')}, {expected}")
            yield line, [cell.strip() for cell in cells]

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Those of every line that is not blank, with the names."""
        first = next((line for line in self._lines if line.strip()), "")
        unquoted = re.sub('"[^"]*"', "", first)
        separator = max(",;\t", key=unquoted.count)
        reader = csv.reader(self._lines, delimiter=separator, skipinitialspace=True, strict=True)
        line = 1
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield line, cells
                line = reader.line_num + 1  # a quoted cell may go over several lines
        except csv.Error as error:
            mend = "look for a quote that is not closed or not doubled"
            raise FileError(f"{self.path}, line {line}: cannot be read as CSV: {error}; {mend}") from None

    def index(self, name: str, mend: str = "name one of them") -> int:
        """Which column has this name. Raises DataError, which ends with the mend, unless one has."""
        if self.names.count(name) == 1:
            return self.names.index(name)
        many, hint = "more than one", "; rename one"
        if name not in self.names:
            near = difflib.get_close_matches(name, self.names, 1)
            many, hint = "no", f"; did you mean {_shown(near[0])}?" if near else f"; {mend}"
        listed = cut(", ".join(self.names), 300) + ("" if self.named else " (the first line holds no names)")
        raise DataError(f"{self.path}: {many} column is called {_shown(name)}; the columns are {listed}{hint}")


def _number(cell: str) -> float | None:
    """The number in a cell, None where it is text."""
    try:
        return None if "_" in cell else float(cell)  # Python's own 1_000 is a name here, not a number
    except ValueError:
        return None


def _is_missing(cell: str) -> bool:
    return cell.lower() in _MISSING


def _text(cell: str) -> str:
    """What a cell of text says, in one line; "" where it is missing."""
    return "" if _is_missing(cell) else " ".join(cell.split())


def _shown(text: str) -> str:
    return repr(cut(text, 60))


def cut(text: str, length: int) -> str:
    """A text, shortened where it has more than `length` letters."""
    return text if len(text) <= length else text[: length - 3] + "..."


# --- learning from a table


def read_csv(
    path: str | Path, target: str | None = None, *, drop: Sequence[str] = (), missing: str = "refuse"
) -> Dataset:
    """A table with one column to predict: `target` by its name, otherwise the last column.

    Separated by commas, semicolons or tabs. The first line holds the names of the columns, unless all of it but the
    last cell are numbers (then they are called 1, 2, ...). The columns named in `drop` are left out. A column of text
    becomes an input for each of its categories, at most the 100 that are most frequent; a target of text gives classes
    in alphabetical order. `missing` says what becomes of a row with a cell that is empty, NaN, NA, N/A, null or ?:
    "refuse" it, "drop" it, or "keep" it, with NaN where a number is missing, for `fill_missing`. `table` of the Dataset
    says what the columns are. Raises FileError for a file that cannot be read, DataError that names the line and the
    column of a cell that cannot be used, or a column of text that hardly ever comes again.
    """
    if missing not in ("refuse", "drop", "keep"):
        raise OptionError(f"missing {missing!r} is not known; expected refuse, drop or keep")
    file = _Csv(path)
    if len(file.names) < 2:
        only = _shown(file.names[0])
        raise DataError(f"{path}: only one column, {only}; expected features and a target, separated by , or ; or tab")
    answer = file.index(file.names[-1] if target is None else target)
    left_out = {file.index(name) for name in drop}
    if answer in left_out:
        raise DataError(f"{path}: {_shown(file.names[answer])} is the target and cannot be left out; name another")
    found = {i: _Cells(file, i, i == answer) for i in range(len(file.names)) if i not in left_out}
    for column in found.values():
        file.index(column.name)  # raises DataError where two have the same
    features = [found[i] for i in found if i != answer]
    for line, cells in file.rows():
        for i, column in found.items():
            column.add(line, cells[i])
    if not found[answer].numbers:
        raise DataError(f"{path}: there are no rows below the names of the columns")
    counters = [column for column in features if column.counts_rows and file.nameless[file.index(column.name)]]
    features = [column for column in features if column not in counters]  # the index that pandas writes
    if not features:
        raise DataError(f"{path}: no column is left to learn from; leave out fewer")
    if texts := [(i, column.texts) for i, column in found.items() if column.is_text]:
        for _, cells in file.rows():  # once more, as only numbers were kept
            for i, text in texts:
                text.append(_text(cells[i]))
    _check(found.values(), missing)
    whole = np.ones(len(found[answer].numbers), bool)
    if missing == "drop":
        for column in found.values():
            whole &= ~column.missing
        if not whole.any():
            raise DataError(f"{path}: in every row a cell is missing; leave out columns that are often empty")
    made = [column.inputs(whole) for column in features]
    y, classes = found[answer].answers(whole)
    table = Table(file.names[answer], tuple(column for column, _ in made))
    notes = []
    if file.named and (values := [name for name in file.names if _number(name) is not None]):
        notes.append(f"the first line is taken for names, though {_shown(values[0])} looks like a value")
    notes += [f"{column.name} left out, which has no name and only counts the rows" for column in counters]
    if lost := int(np.sum(~whole)):
        notes.append(f"{lost:,} of {len(whole):,} rows left out, as a cell is missing in them")
    x = np.column_stack([x for _, x in made])
    return Dataset(x, y, classes=classes, table=table, note="; ".join(notes))


def _check(columns: Iterable["_Cells"], missing: str) -> None:
    """Raise DataError for the first column with cells that cannot be used; it names the others, too."""
    wrong = {}
    for column in columns:
        try:
            column.check(missing)
        except DataError as error:
            wrong[column.name] = error
    if wrong:
        first, *others = wrong
        also = f"; look at {cut(', '.join(map(_shown, others)), 80)}, too" if others else ""
        raise DataError(f"{wrong[first]}{also}")


class _Cells:
    """The cells of one column as they are read, and then what is made of them."""

    def __init__(self, file: _Csv, index: int, is_target: bool) -> None:
        self.path, self.name, self.is_target = file.path, file.names[index], is_target
        self.numbers = array("d")  # NaN where there is none
        self.texts: list[str] = []  # of a column of text, "" where it is missing
        self._count: Counter[str] = Counter()  # of cells, by what they hold
        self._first: dict[str, tuple[int, str]] = {}  # the first that holds it: (line, cell)

    def add(self, line: int, cell: str) -> None:
        """Read the next cell."""
        value, limit = _number(cell), sys.float_info.max if self.is_target else LARGEST
        what = "text" if value is None else "number" if abs(value) <= limit else "too large"
        if what != "number" and _is_missing(cell):
            what = "missing"
        self.numbers.append(math.nan if value is None else value)
        self._count[what] += 1
        self._first.setdefault(what, (line, cell))

    @property
    def is_text(self) -> bool:
        """Whether it holds text: a little of it among numbers is a mistake, but in the target it names classes."""
        return self._count["text"] > (0 if self.is_target else self._count["number"])

    @property
    def counts_rows(self) -> bool:
        """Whether its numbers go up by 1 from row to row."""
        return len(self.numbers) > 10 and bool((np.diff(self.numbers) == 1).all())

    @property
    def missing(self) -> np.ndarray:
        """For each row whether its cell is missing."""
        return np.array([not text for text in self.texts]) if self.is_text else np.isnan(self.numbers)

    def check(self, missing: str) -> None:
        """Raise DataError for cells that cannot be used, or for text that hardly ever comes again."""
        what = f"{'the target' if self.is_target else 'column'} {_shown(self.name)}"
        if "missing" in self._first and (missing == "refuse" or (self.is_target and missing != "drop")):
            line, cell = self._first["missing"]
            state = "is missing" if self.is_target else "is empty" if not cell else f"holds {_shown(cell)}"
            mend = f"remove the row or fill it in, or choose --missing {'drop' if self.is_target else 'mean or drop'}"
            raise DataError(f"{self.path}, line {line}: {what} {state}; {mend}")
        if self.is_text and _DECIMAL_COMMA.fullmatch((first := self._first["text"])[1]):
            mend = "write numbers with a decimal point, and nothing between thousands"
            raise DataError(f"{self.path}, line {first[0]}: {what} holds {_shown(first[1])}, expected a number; {mend}")
        if self._count["missing"] == len(self.numbers):
            raise DataError(f"{self.path}: {what} is empty in all rows; leave it out with --drop")
        for kind in ("too large", "text"):
            if kind in self._first and not self.is_text:
                line, cell = self._first[kind]
                state = f"holds {_shown(cell)}, expected a number" + (
                    "" if kind == "text" or self.is_target else f" up to {LARGEST:g}"
                )
                mend = "remove the row or fill it in" + (
                    "" if self.is_target else ", or leave out the column with --drop"
                )
                raise DataError(f"{self.path}, line {line}: {what} {state}; {mend}")
        counts = Counter(self.texts)
        if len(counts) > max(10, len(self.texts) / 2):  # names, identifiers, dates, prose
            mend = "name another column with --target" if self.is_target else "leave it out with --drop"
            raise DataError(
                f"{self.path}: {what} holds {len(counts):,} different texts in {len(self.texts):,} rows, from which "
                f"nothing is to be learned; {mend}"
            )

    def inputs(self, rows: np.ndarray) -> tuple[Column, np.ndarray]:
        """What the column is, and its numbers (N, D) in these rows, given by a mask."""
        if not self.is_text:
            x = np.array(self.numbers)[rows]
            note = "it only counts the rows: leave it out with --drop" if self.counts_rows else ""
            if np.nanmin(x) == np.nanmax(x):
                note = "the same in all rows"
            elif (step := np.spacing(np.float32(np.nanmax(abs(x))))) > 0.01 * np.nanstd(x):  # times in seconds, say
                note = f"float32 rounds it to steps of {step:g}: choose --dtype float64"
            return Column(self.name, missing=int(np.isnan(x).sum()), note=note), x[:, None]
        texts = [text for text, wanted in zip(self.texts, rows, strict=True) if wanted]
        counts = Counter(texts)
        categories = sorted(text for text, _ in counts.most_common(_MOST_CATEGORIES))
        place = {text: i for i, text in enumerate(categories)}
        x = np.array([place.get(text, -1) for text in texts])[:, None] == np.arange(len(categories))
        note = "the same in all rows" if len(counts) == 1 else ""
        if len(counts) > len(categories):
            note = f"the {_MOST_CATEGORIES} most frequent of {len(counts)}"
        return Column(self.name, tuple(categories), note=note), x.astype(np.float64)

    def answers(self, rows: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """The targets in these rows, and the names of the classes where they are text."""
        if not self.is_text:
            values = np.array(self.numbers)[rows]
            whole = bool(((values == np.round(values)) & (abs(values) < 2**53)).all())
            return values.astype(np.int64) if whole else values, ()
        labels = [text for text, wanted in zip(self.texts, rows, strict=True) if wanted]
        classes = sorted(set(labels))
        numbers = {label: i for i, label in enumerate(classes)}
        return np.array([numbers[label] for label in labels]), tuple(classes)


def fill_missing(train: Dataset, test: Dataset) -> tuple[Dataset, Dataset]:
    """Both parts of a table with each number that is missing (NaN) replaced by the mean of its column in `train`.

    The means become part of `table`, so that a network can do the same. Raises DataError where a column of `train` has
    no number at all.
    """
    here = ~np.isnan(train.x)
    count = here.sum(axis=0)
    means = np.where(here, train.x, 0.0).sum(axis=0) / np.maximum(count, 1)
    columns, at = [], 0
    for column in train.table.columns:
        if not count[at]:
            raise DataError(f"column {_shown(column.name)} is empty in all rows to train on; leave it out with --drop")
        columns.append(column if column.categories else dataclasses.replace(column, mean=float(means[at])))
        at += column.width
    table = dataclasses.replace(train.table, columns=tuple(columns))
    first, second = (
        dataclasses.replace(part, x=np.where(np.isnan(part.x), means, part.x), table=table) for part in (train, test)
    )
    return first, second


# --- asking about a table


@dataclass(frozen=True)
class Rows:
    """Rows to predict from: as they stand in the file, and as inputs x (N, D). `notes` tell of what was made up."""

    names: list[str]
    cells: list[list[str]]
    x: np.ndarray
    notes: list[str]


def read_rows(path: str | Path, table: Table) -> Rows:
    """The rows of another CSV file as the inputs of a network that was trained on `table`.

    Columns are found by their names; others may be there, too, and the target need not. Raises FileError, and DataError
    that names the column that is not there, or the line and the column of a cell that cannot be used.
    """
    file = _Csv(path)
    mend = "add it, as the network was trained on it"
    places = [file.index(column.name, mend) for column in table.columns]
    lines, cells = [], []
    for line, row in file.rows():
        lines.append(line)
        cells.append(row)
    if not cells:
        raise DataError(f"{path}: there are no rows below the names of the columns")
    blocks, notes = [], []
    for column, i in zip(table.columns, places, strict=True):
        texts = [row[i] for row in cells]
        name = _shown(column.name)
        if column.categories:
            known = {text: k for k, text in enumerate(column.categories)}
            which = np.array([known.get(_text(text), -1) for text in texts])
            blocks.append((which[:, None] == np.arange(column.width)).astype(np.float64))
            if new := sorted({text for text, k in zip(texts, which, strict=True) if k < 0}):
                listed = cut(", ".join(map(_shown, new)), 80)
                notes.append(
                    f"column {name}: {int(np.sum(which < 0)):,} of {len(cells):,} rows hold "
                    f"what was not learned: {listed}"
                )
            continue
        values = np.array(
            [_value(text, f"{path}, line {n}: column {name}") for text, n in zip(texts, lines, strict=True)]
        )
        if (lost := np.isnan(values)).any():
            if column.mean is None:
                where = f"{path}, line {lines[int(np.argmax(lost))]}: column {name}"
                raise DataError(f"{where} is missing; fill it in, or train with missing mean")
            notes.append(f"column {name}: {int(lost.sum()):,} missing, taken as the mean {column.mean:.6g}")
            values[lost] = column.mean
        blocks.append(values[:, None])
    return Rows(file.names, cells, np.column_stack(blocks), notes)


def _value(cell: str, where: str) -> float:
    """The number in a cell, NaN where it is missing."""
    if _is_missing(cell):
        return math.nan
    value = _number(cell)
    if value is None or not abs(value) <= LARGEST:
        expected = "a number" + ("" if value is None else f" up to {LARGEST:g}")
        raise DataError(f"{where} holds {_shown(cell)}, expected {expected}; correct it, or leave the cell empty")
    return value
