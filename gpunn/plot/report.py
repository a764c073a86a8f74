"""`gpunn plot`: all pictures that fit a run, and a report of it in one HTML file that loads nothing from elsewhere."""

import base64
import csv
import dataclasses
import json
import math
import shlex
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from gpunn import metrics
from gpunn.checks import counted
from gpunn.data import Dataset
from gpunn.device import to_host
from gpunn.errors import FileError, GpunnError
from gpunn.io.atomic import write_atomic
from gpunn.io.foreign import gives_probabilities
from gpunn.layers import Conv2d, Layer, Linear
from gpunn.plot.answers import confusion, mistakes, predictions, residuals, roc, worst_mistakes
from gpunn.plot.boundary import boundary
from gpunn.plot.curves import curves
from gpunn.plot.network import activations, diagram, filters, weights
from gpunn.plot.spread import histograms, norms
from gpunn.plot.style import new_figure, png
from gpunn.train.config import Config
from gpunn.train.histograms import Histograms
from gpunn.train.history import History
from gpunn.train.run import with_data
from gpunn.train.scores import number, scores

__all__ = ["report"]

_DPI = 144


@dataclasses.dataclass
class Run:
    """What there is to show of a run: what its folder holds, and its network's answers to the test data."""

    config: Config
    net: Layer
    history: History
    kept: Histograms | None
    summary: dict[str, Any]
    test: Dataset
    answers: np.ndarray  # (N, C)
    measured: dict[str, float]
    scores: dict[str, Any]  # see gpunn.train.scores


@dataclasses.dataclass
class Picture:
    """One picture: the name of its file, what is said below it, and to those who do not see it."""

    name: str
    caption: str
    alt: str
    png: bytes
    size: tuple[int, int]  # in pixels of CSS


def report(folder: str | Path, out: str | Path | None = None, data_dir: str | None = None) -> tuple[Path, list[Path]]:
    """Draw all pictures that fit a run into out/pictures, and write out/report.html; returns their paths.

    `out` is the run's folder unless another is named; `data_dir` is where MNIST is, if not where it was. The test data
    is answered anew, on the CPU. Raises FileError or DataError where the run or its data is not as it was, OptionError
    without matplotlib.
    """
    new_figure(1.0, 1.0)  # before any work
    run = _open(Path(folder), data_dir)
    place = Path(folder if out is None else out)
    try:
        (place / "pictures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{place}: cannot be made: {error.strerror}; name another with --out") from None
    sections = _sections(run)
    paths = []
    for _, pictures, _ in sections:
        for picture in pictures:
            paths.append(place / "pictures" / f"{picture.name}.png")
            write_atomic(paths[-1], picture.png)
    write_atomic(place / "report.html", _page(run, sections))
    return place / "report.html", paths


def _open(folder: Path, data_dir: str | None) -> Run:
    config, trainer, rest, test = with_data(folder, "cpu", data_dir)
    try:
        kept = Histograms.load(folder / "histograms.safetensors")
    except FileError:  # the run was made without, or the file is damaged: a picture less
        kept = None
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the run was stopped
        summary = None
    history = _read_history(folder / "history.csv")
    answers = to_host(trainer.predict(test.x)).reshape(len(test), -1)
    return Run(
        config,
        trainer.net,
        history,
        kept,
        summary if isinstance(summary, dict) else {},
        test,
        answers,
        trainer.evaluate(test),
        scores(answers, rest, test)[0],
    )


def _read_history(path: Path) -> History:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(stream)]
        for row in rows:
            if missing := {"epoch", "loss", "seconds"} - row.keys():
                raise ValueError(f"there is no {min(missing)} in a row")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        anew = f"gpunn train --resume {shlex.quote(str(path.parent))} writes it anew"
        if isinstance(error, OSError):
            raise FileError(f"{path.parent}: history.csv cannot be read: {error.strerror}; {anew}") from None
        raise FileError(f"{path}: cannot be read as the history of a run: {error}; {anew}") from None
    return History(rows)


# --- what there is to see


Section = tuple[str, list[Picture], list[str]]  # heading, pictures, tables and text in HTML


def _sections(run: Run) -> list[Section]:
    parts = [_learning(run), _classes(run) if run.test.classes else _quantities(run), _network(run), _inside(run)]
    return [part for part in parts if part[1] or part[2]]


def _picture(name: str, caption: str, alt: str, draw: Callable[[], Any]) -> list[Picture]:
    """The picture, or none where what there is cannot be drawn."""
    try:
        figure = draw()
    except GpunnError:
        return []
    width, height = figure.get_size_inches() * 96
    return [Picture(name, caption, alt, png(figure, _DPI), (round(width), round(height)))]


def _learning(run: Run) -> Section:
    history = run.history
    if not len(history):
        return "Learning", [], ["<p>No epoch was trained: these are the network's first weights.</p>"]
    first, last = history[0], history[-1]
    alt = f"Learning curves over {len(history)} epochs: the training loss goes from {first['loss']:.4g} to "
    alt += f"{last['loss']:.4g}"
    if "valid_loss" in last:
        alt += f", the validation loss from {first.get('valid_loss', math.nan):.4g} to {last['valid_loss']:.4g}"
    if "valid_accuracy" in last:
        alt += f", the validation accuracy ends at {last['valid_accuracy']:.2%}"
    caption = "The mean loss of each epoch's batches" + (
        ", and what the validation data says after it." if "valid_loss" in last else "; no data was set aside."
    )
    pictures = _picture("curves", caption, alt + ".", lambda: curves(history))
    heads = {"epoch": "epoch", "loss": "loss", "valid_loss": "validation loss", "valid_accuracy": "validation accuracy"}
    heads |= {"lr": "learning rate", "seconds": "seconds"}
    columns = [name for name in heads if name in history.columns]
    rows = [[_number(name, row.get(name)) for name in columns] for row in history]
    table = _table([heads[name] for name in columns], rows)
    return "Learning", pictures, [_folded(f"All {len(rows)} epochs" if len(rows) > 1 else "The epoch", table)]


def _classes(run: Run) -> Section:
    y, p, classes = to_host(run.test.y), run.answers, run.test.classes
    counts = np.array(run.scores["confusion"])
    wrong = [(counts[i, j], i, j) for i in range(len(counts)) for j in range(len(counts)) if i != j and counts[i, j]]
    often = sorted(wrong, key=lambda each: (-each[0], each[1:]))[:3]
    top = "; ".join(f"{classes[i]} taken for {classes[j]} ({n} time{'s' if n > 1 else ''})" for n, i, j in often)
    most = f" Most often: {top}." if top else " All answers are right."
    text = f"Each row is a true class. Blue fields are right answers, orange ones mistakes.{most}"
    pictures = _picture(
        "confusion",
        text,
        f"Confusion matrix of {len(classes)} classes: {np.trace(counts):,} of {counts.sum():,} are right.{most}",
        lambda: confusion(y, p, classes=classes),
    )
    pictures += _picture(
        "roc",
        "How many of a class are found (up) for how many false alarms (across), at every threshold. An area of 1 is "
        "perfect, 0.5 is chance.",
        _roc_alt(y, p),
        lambda: roc(y, p, classes=classes),
    )
    worst, said, _, _, total = worst_mistakes(y, p, 24)
    if total:
        some = "; ".join(f"{classes[int(y[row])]} taken for {classes[said[row]]}" for row in worst[:5])
        what = "probability" if gives_probabilities(run.net) else "score"
        rows = "" if run.test.image_shape else " Rows are counted among the test examples, from 0."
        pictures += _picture(
            "mistakes",
            f"Test examples the network was surest about and wrong: what it said, and the truth, with the {what} "
            f"it gave to each.{rows}",
            f"The worst {len(worst)} of {total:,} mistakes. The first are: {some}.",
            lambda: mistakes(run.test.x, y, p, classes=classes, image_shape=run.test.image_shape),
        )
    if run.test.x.shape[1:] == (2,):
        pictures += _boundary(run)
    kinds = ("precision", "recall", "f1")
    each = run.scores["classes"]
    lines = [[escape(c["name"]), *(_share(c[kind]) for kind in kinds), f"{c['rows']:,}"] for c in each]
    mean = metrics.precision_recall_f1(y, p)
    lines.append(["<b>mean of the classes</b>", *(f"{value:.4f}" for value in mean), f"{len(y):,}"])
    table = _table(["class", "precision", "recall", "F1", "examples"], lines, left=1)
    note = (
        "<p class=note>Precision: of those taken for the class, the share that is. Recall: of the class, the share "
        "that was found. F1 is the harmonic mean of the two.</p>"
    )
    heading = f"Each of the {len(classes)} classes"
    table = _folded(heading, note + table) if len(classes) > 20 else f"<h3>{heading}</h3>{note}{table}"
    return "Answers on the test data", pictures, [table]


def _roc_alt(y: np.ndarray, p: np.ndarray) -> str:
    try:
        return f"ROC curves; the mean of the areas under them is {metrics.roc_auc(y, p):.4f}."
    except GpunnError:  # a class has no example
        return "ROC curves of the classes that occur."


def _boundary(run: Run) -> list[Picture]:
    named = {"names": run.test.table.inputs} if run.test.table is not None else {}
    return _picture(
        "boundary",
        "The plane of the two features in the colours of the classes the network answers, paler where it is less sure. "
        "On top lie the test examples.",
        "The decision boundary in the plane of the two features, with the test examples.",
        lambda: boundary(run.net, run.test.x, run.test.y, classes=run.test.classes, **named),
    )


def _quantities(run: Run) -> Section:
    y, a = to_host(run.test.y).reshape(len(run.test), -1), run.answers
    names = [run.test.table.target] if run.test.table is not None else []
    pictures = _picture(
        "predictions",
        "A point for each test example; on the line the answer is the true value.",
        f"Answers over true values of {len(y):,} test examples; R squared is {_r2(run)}.",
        lambda: predictions(y, a, names=names),
    )
    pictures += _picture(
        "residuals",
        "What the answer is too high (above 0) or too low. Good answers lie about 0 without a pattern.",
        f"Residuals over answers; their root mean square is {number(run.scores['network']['rmse'])}.",
        lambda: residuals(y, a, names=names),
    )
    return "Answers on the test data", pictures, []


def _network(run: Run) -> Section:
    net, test = run.net, run.test
    size = f"{net.store.size:,} parameters"
    pictures = _picture(
        "diagram",
        "From left to right, what the numbers are laid out as, and the layers between. Of long columns the middle is "
        "left out.",
        f"Diagram of the network: {net!r:.300}, with {size}.",
        lambda: diagram(net),
    )
    layers = [layer for _, layer in net.walk()]
    signs = "red ones are above 0, blue ones below"
    if test.image_shape and test.image_shape[2] == 3:
        signs = "in the colours of the images, grey where a weight is 0"
    if any(isinstance(layer, Conv2d) for layer in layers):
        pictures += _picture(
            "filters",
            f"The weights of the first convolution's filters: {signs}.",
            "The filters of the first convolution as small pictures.",
            lambda: filters(net),
        )
    elif any(isinstance(layer, Linear) for layer in layers):
        what = "a picture for each unit, laid out as the input image"
        if not test.image_shape:
            what = "a row for each unit and a column for each input"
        pictures += _picture(
            "weights",
            f"The weights of the first layer, {what}: {signs}.",
            f"The weights of the first layer, {what}.",
            lambda: weights(net, image_shape=test.image_shape),
        )
    of = f" (true class: {test.classes[int(test.y[0])]})" if test.classes else ""
    pictures += _picture(
        "activations",
        f"What the first test example{of} becomes, layer after layer. Red numbers are above 0, blue ones below; each "
        "panel has its own scale.",
        f"The output of every layer for the first test example{of}, and the network's answer.",
        lambda: activations(net, to_host(test.x)[0], image_shape=test.image_shape),
    )
    summary = escape(net._summary(None))
    return "The network", pictures, [f"<h3>Layers</h3><pre>{summary}</pre>"]


def _inside(run: Run) -> Section:
    kept = run.kept
    if kept is None or not kept.epochs:
        return "Inside, while it learned", [], []
    pictures = _picture(
        "norms",
        "The length of each parameter and of its gradient in the epoch's last step. Gradients that shrink by powers of "
        "ten towards the first layer vanish; ones that grow explode.",
        "The lengths of the parameters and of their gradients over the epochs.",
        lambda: norms(kept),
    )
    for kind, what in (("value", "weights"), ("gradient", "gradients")):
        pictures += _picture(
            f"histograms-{what}",
            f"How the {what} of each parameter are spread"
            + (", in the last step of every epoch." if kind == "gradient" else ", epoch by epoch.")
            + " The darker, the more numbers there are; the line is 0.",
            f"Histograms of the {what} of each parameter over the epochs.",
            lambda kind=kind: histograms(kept, kind),  # type: ignore[misc]
        )
    return "Inside, while it learned", pictures, []


# --- the page


def _page(run: Run, sections: list[Section]) -> str:
    name = Path(run.config.data).name
    headline, below = _headline(run)
    cards = "".join(
        f"<div class=card><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in _cards(run)
    )
    body = []
    for heading, pictures, more in sections:
        figures = "".join(_figure(picture) for picture in pictures)
        body.append(f"<section><h2>{escape(heading)}</h2>{figures}{''.join(more)}</section>")
    settings = [[escape(f.name), escape(_setting(getattr(run.config, f.name)))] for f in dataclasses.fields(run.config)]
    body.append(
        "<section><h2>Settings and environment</h2><div class=columns>"
        f"<div><h3>Settings</h3>{_table(['option', 'value'], settings, left=2)}</div>"
        f"<div><h3>Environment</h3>{_table(['what', 'value'], _environment(run), left=2)}</div></div></section>"
    )
    title = escape(f"{name}: {headline}")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header><p class=over>{escape(name)}</p><h1>{escape(headline)}</h1>"
        f"<p class=below>{escape(below)}</p></header>\n"
        f"<dl class=cards>{cards}</dl>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def _headline(run: Run) -> tuple[str, str]:
    n = len(run.test)
    if run.test.classes:
        right = round(run.measured["accuracy"] * n)
        below = f"{right:,} of {n:,} test examples, told apart into {len(run.test.classes)} classes"
        return f"{run.measured['accuracy']:.2%} right", below
    error = run.scores["network"]["rmse"]
    spread = float(np.mean(np.std(to_host(run.test.y).reshape(n, -1), axis=0)))
    typical = f"typical error {number(error)} (root mean square), the values spread by {number(spread)}"
    return f"R² = {_r2(run)}", f"on {n:,} test examples; {typical}"


def _r2(run: Run) -> str:
    r2 = run.scores["network"]["r2"]
    return "not defined, as all values are equal" if r2 is None else f"{r2:.4f}"


def _cards(run: Run) -> Iterable[tuple[str, str]]:
    summary, done = run.summary, len(run.history)
    yield "test loss", number(run.measured["loss"])
    baseline = run.scores["baseline"]
    if run.test.classes:
        yield f"right if the answer is always {baseline['answer']}", f"{baseline['accuracy']:.2%}"
    else:
        yield "mean absolute error", number(run.scores["network"]["mae"])
        yield "the same if the answer is always the mean", number(baseline["mae"])
    yield "epochs", f"{done}" if done == run.config.epochs else f"{done} of {run.config.epochs}"
    if summary.get("best_epoch"):
        yield "best epoch, on validation", f"{summary['best_epoch']}"
    yield "parameters", f"{run.net.store.size:,}"
    if done:
        yield "training time", _duration(sum(run.history["seconds"]))
    if summary.get("samples_per_second"):
        yield "examples a second", f"{summary['samples_per_second']:,.0f}"
    yield "device", str(summary.get("device", run.config.device))


def _environment(run: Run) -> list[list[str]]:
    summary = run.summary
    if not summary:
        return [["", "The run was stopped before its end: it has no summary."]]
    rows = [("device", f"{summary.get('device')}: {summary.get('device_reason')}"), ("dtype", summary.get("dtype"))]
    rows += list(summary.get("versions", {}).items())
    for each in summary.get("blas", []):
        rows.append(
            ("BLAS", f"{each['library']} {each['version']}, {each['kernel']}, {counted(each['threads'], 'thread')}")
        )
    return [[escape(str(name)), escape(str(value))] for name, value in rows]


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    width, height = picture.size
    kind = "picture broad" if width > 640 else "picture"  # these would be too small to read on a telephone
    return (
        f'<figure><div class="{kind}"><img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="{escape(picture.alt)}"></div><figcaption>{escape(picture.caption)}</figcaption></figure>'
    )


def _table(heads: list[str], rows: Iterable[list[str]], left: int = 0) -> str:
    """A table of cells in HTML; the first `left` columns hold text, the others numbers."""

    def line(tag: str, cells: list[str]) -> str:
        kinds = ["" if i < left else " class=n" for i in range(len(cells))]
        return "<tr>" + "".join(f"<{tag}{k}>{c}</{tag}>" for k, c in zip(kinds, cells, strict=True)) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<div class=wide><table><thead>{line('th', heads)}</thead><tbody>{body}</tbody></table></div>"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _share(value: float) -> str:
    return f'<span class=bar style="--v:{value:.1%}">{value:.4f}</span>'


def _number(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    if name == "epoch":
        return f"{value:.0f}"
    return f"{value:.2%}" if "accuracy" in name else f"{value:.3f}" if name == "seconds" else f"{value:.4g}"


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value}" if value != "" else "not set"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


_STYLE = """\
:root { color-scheme: light dark; --paper: #f6f7f9; --card: #ffffff; --ink: #16202b; --soft: #5a6775; --line: #dfe4ea;
  --accent: #0072b2; --bar: #d6e8f4; }
@media (prefers-color-scheme: dark) { :root { --paper: #11161c; --card: #1a2129; --ink: #e8edf2; --soft: #9fb0c0;
  --line: #2c3742; --accent: #6cb8e6; --bar: #23445a; } .picture { filter: brightness(.93); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 48px 24px 80px; }
header { margin-bottom: 28px; }
.over { margin: 0; color: var(--accent); font-weight: 600; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: clamp(2.2rem, 7vw, 3.6rem); line-height: 1.1; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.below { margin: 8px 0 0; color: var(--soft); font-size: 1.1rem; }
h2 { margin: 0 0 16px; font-size: 1.5rem; letter-spacing: -.01em; }
h3 { margin: 28px 0 8px; font-size: 1.05rem; }
section { margin-top: 56px; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 0; }
.card { flex: 1 1 120px; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 16px; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 0 0 20px; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  overflow: hidden; }
.picture { overflow-x: auto; padding: 12px; background: #fff; }
.picture img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
@media (max-width: 640px) { .broad img { min-width: 560px; } }
figcaption { padding: 12px 16px; border-top: 1px solid var(--line); color: var(--soft); font-size: .95rem;
  overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; background: var(--card); border: 1px solid var(--line); font-size: .92rem;
  font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: 6px 14px; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
th.n, td.n { text-align: right; white-space: nowrap; }
tbody tr:last-child td { border-bottom: 0; }
.bar { display: inline-block; min-width: 7em; padding: 0 6px; border-radius: 3px;
  background: linear-gradient(to right, var(--bar) var(--v), transparent var(--v)); }
.note { margin: 0 0 10px; color: var(--soft); font-size: .95rem; }
pre { overflow-x: auto; margin: 0; padding: 14px 16px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; font: .88rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
details { margin-top: 12px; }
summary { cursor: pointer; padding: 8px 0; color: var(--accent); font-weight: 600; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 0 24px; }
@media print { body { background: #fff; } section { break-inside: auto; } figure { break-inside: avoid; } }
"""
