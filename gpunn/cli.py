"""The command `gpunn`.

Exit codes: 0 done, 1 training diverged, a gradient is wrong, or no memory is left, 2 a wrong option, 3 the device is
not available, 4 a bad file, 130 and 143 stopped by Ctrl-C or SIGTERM (with the checkpoint written, once training has
begun).
"""

import argparse
import csv
import dataclasses
import difflib
import functools
import io
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from gpunn.errors import GpunnError, OptionError
from gpunn.train.config import Config

__all__ = ["main"]

_TOLERANCE = 1e-7  # of `gpunn gradcheck`
_say = functools.partial(print, flush=True)  # for what takes long
_WITH_RESUME = ("data_dir", "device", "epochs", "patience")  # what may be said again with --resume


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process if None); returns the exit code."""
    options = vars(_parser().parse_args(arguments))
    command: Callable[..., int] = options.pop("command")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name it has no letters for must not end the run
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is reported by name instead
            code = command(**options)
        if sys.stdout is not None:  # as it is where the one who started this has closed it
            sys.stdout.flush()
        return code
    except GpunnError as error:
        return _failed(str(error), error.exit_code)
    except MemoryError as error:
        return _failed(f"not enough memory: {error or 'choose a smaller network or batch'}", 1)
    except KeyboardInterrupt:
        print("gpunn: stopped by SIGINT", file=sys.stderr)
        return 128 + signal.SIGINT
    except OSError as error:
        return _lost_output(error)


def _failed(message: str, code: int) -> int:
    print("gpunn: error:", " ".join(message.splitlines()), file=sys.stderr)
    return code


def _lost_output(error: OSError) -> int:
    """Nothing more can be written to standard output: its disk is full, or whoever read it has gone (`| head -1`)."""
    try:
        sys.stdout.flush()
    except OSError:  # nor may Python try at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 1
    return _failed(f"{error.filename or 'standard output'}: {error.strerror}", 4)


# --- the commands; each imports what it needs, so that `gpunn --help` is quick


def _train(
    resume: str | None,
    config: str | None,
    out: str | None,
    quiet: bool,
    live: bool,
    tensorboard: bool,
    **options: Any,
) -> int:
    from gpunn.train import run

    if resume is None:
        settings = Config.read(config, options) if config is not None else Config.of(options)
    else:
        given = [*options, *(name for name, value in (("config", config), ("out", out)) if value is not None)]
        fixed = ["the data" if name == "data" else _flag(name) for name in given if name not in _WITH_RESUME]
        if fixed:
            allowed = ", ".join(_flag(name) for name in _WITH_RESUME)
            raise OptionError(f"a resumed run keeps its options: leave out {', '.join(fixed)}; {allowed} may be given")
        settings = run.run_config(resume, options)
    try:
        folder, summary = run.train(settings, out, resume=resume, quiet=quiet, live=live, tensorboard=tensorboard)
    except run.Stopped as stopped:
        print(f"gpunn: {stopped}", file=sys.stderr)
        return 128 + stopped.number
    parts = [f"test loss {summary['test_loss']:.4g}"]
    if summary["test_accuracy"] is not None:
        parts.insert(0, f"test accuracy {summary['test_accuracy']:.2%}")
    if summary["samples_per_second"]:
        speed = f"{summary['samples_per_second']:,.0f} examples a second"
        parts.append(f"{summary['seconds']:.1f} s of training at {speed}")
    print(f"{', '.join(parts)}; saved in {folder}")
    return 0


def _evaluate(run: str, device: str | None, data_dir: str | None) -> int:
    from gpunn.train.run import evaluate

    measured = evaluate(run, device, data_dir)
    parts = [f"test loss {measured['loss']:.6g}"]
    if "accuracy" in measured:
        parts.insert(0, f"test accuracy {measured['accuracy']:.2%}")
    print(", ".join(parts))
    return 0


def _predict(run: str, files: list[str], out: str | None) -> int:
    from gpunn.io.network import load, model_file

    net = load(model_file(run))
    if any(name.lower().endswith(".csv") for name in files):
        return _predict_table(run, net, files, out)
    if out is not None:
        raise OptionError("--out is for the predictions of a .csv file")
    if "image_shape" not in net.about:
        mend = "; name a .csv file" if "table" in net.about else ""
        raise OptionError(f"the network in {run} was trained on data that holds no images{mend}")
    return _predict_pictures(net, files)


def _predict_pictures(net: Any, files: list[str]) -> int:
    from gpunn.data.image import read_image
    from gpunn.io.foreign import class_names, gives_probabilities

    classes, form = class_names(net), "6.1%" if gives_probabilities(net) else "6.2f"
    width = max(len(path) for path in files)
    for path in files:
        x = net.store.device.asarray(read_image(path, net.about)[None], net.store.dtype)
        answer = net(x)[0]
        if classes:
            best = sorted(enumerate(answer), key=lambda pair: -pair[1])[:3]
            text = "  ".join(f"{classes[i]} {float(p):{form}}" for i, p in best)
        else:
            text = "  ".join(f"{float(value):.6g}" for value in answer)
        print(f"{path:<{width}}  {text}")
    return 0


def _predict_table(run: str, net: Any, files: list[str], out: str | None) -> int:
    from gpunn.checks import counted
    from gpunn.data.table import Table
    from gpunn.io.atomic import write_atomic
    from gpunn.train.predict import predict_csv

    if "table" not in net.about:
        what = "pictures; name a picture" if "image_shape" in net.about else "numbers that had no names"
        raise OptionError(f"a .csv file says nothing to the network in {run}, which was trained on {what}")
    if len(files) > 1:
        raise OptionError(f"one .csv file at a time, got {len(files)} files")
    if out is not None and os.path.exists(out) and os.path.samefile(out, files[0]):
        raise OptionError(f"--out {out} is the file to predict from; name another")
    text, rows, notes = predict_csv(net, files[0], Table.of(net.about["table"]))
    for note in notes:
        print(f"gpunn: note: {files[0]}: {note}", file=sys.stderr)
    if out is None:
        print(text, end="")
    else:
        write_atomic(out, text)
        print(f"{counted(rows, 'row')} with predictions in {out}")
    return 0


def _draw(run: str, port: int, browser: bool, device: str) -> int:
    from gpunn.io.network import load, model_file
    from gpunn.web import serve

    serve(load(model_file(run), device=device), port, browser=browser)
    return 0


def _plot(run: str, out: str | None, data_dir: str | None) -> int:
    from gpunn.plot.report import report

    page, pictures = report(run, out, data_dir)
    print(f"{len(pictures)} pictures in {page.parent / 'pictures'}, and all of them with the numbers in {page}")
    return 0


def _summary(run: str | None, **options: Any) -> int:
    from gpunn.train.recipe import load_data, make_network
    from gpunn.train.run import open_run

    if run is not None:
        if options:
            raise OptionError("the network of a run is what it is: give --run or other options, not both")
        _, net = open_run(run)
    else:
        config = Config.of(options)
        net = make_network(config, load_data(config)[0])
    print(net)
    net.summary()
    return 0


def _export(run: str, to: str, out: str | None, input_shape: list[int] | None) -> int:
    from gpunn.io.export import export

    print("\n".join(export(run, to, out, tuple(input_shape) if input_shape else None)))
    return 0


def _gradcheck() -> int:
    from gpunn.testing import backends, gradcheck, gradcheck_cases

    present = backends()
    print("largest relative error of the gradients, float64")
    print(f"{'':42}" + "".join(f"{backend.name:>16}" for backend in present))
    worst = 0.0
    for name, case in gradcheck_cases().items():
        errors = [max(max(gradcheck(*case(b), train=train).values()) for train in (False, True)) for b in present]
        print(f"{name:42}" + "".join(f"{error:16.1e}" for error in errors), flush=True)
        worst = max(worst, *(math.inf if math.isnan(error) else error for error in errors))
    print(f"largest of all {worst:.1e}: " + ("right" if worst <= _TOLERANCE else f"WRONG, above {_TOLERANCE}"))
    return 0 if worst <= _TOLERANCE else 1


def _reproduce(
    ids: list[str],
    quick: bool,
    seeds: int | None,
    epochs: int | None,
    device: str,
    data_dir: str | None,
    out: str,
    as_table: bool,
) -> int:
    from gpunn.checks import whole
    from gpunn.data import datasets
    from gpunn.device import device as find_device
    from gpunn.train import reproduce

    folder = Path(out)
    reproduce.find(ids)
    if as_table:
        print(reproduce.table(folder))
        return 0
    if not ids:
        print("\n".join(reproduce.listing(folder)))
        return 0
    where = find_device(device)

    @functools.cache
    def data() -> reproduce.Parts:
        train, test = datasets.mnist(data_dir)
        return train[:50_000], train[50_000:], test

    reproduce.reproduce(
        reproduce.find(ids, where.on_host),
        data,
        where,
        seeds=whole("seeds", seeds if seeds is not None else 1 if quick else 3, at_least=1),
        epochs=None if epochs is None else whole("epochs", epochs, at_least=1),
        quick=quick,
        folder=None if quick else folder,
        say=_say,
    )
    return 0


def _compare(vary: list[str], seeds: int, out: str | None, **options: Any) -> int:
    from gpunn.checks import whole
    from gpunn.train.compare import compare, parse_vary

    folder = Path(out) if out is not None else Path("runs") / f"compare-{time.strftime('%Y%m%d-%H%M%S')}"
    given = parse_vary(vary)
    if both := sorted(given.keys() & options.keys()):
        raise OptionError(f"{', '.join(map(_flag, both))} is varied; leave out the option of its own")
    compare(options, given, seeds=whole("seeds", seeds, at_least=1), out=folder, say=_say)
    return 0


def _bench(networks: list[str], batch_size: list[int], device: str, seconds: float, out: str | None) -> int:
    from gpunn.bench import bench

    bench(networks, batch_size, device=device, seconds=seconds, out=out, say=_say)
    return 0


def _info(as_json: bool, measure: bool) -> int:
    from gpunn.checks import counted
    from gpunn.environment import information
    from gpunn.machine import advice, call_time, rates
    from gpunn.processors import usable_processors

    found = information() | {"usable_processors": usable_processors(), "rates": {}}
    if measure:
        present = [report["name"] for report in found["devices"] if report["available"]]
        for name in present:
            if name.startswith(("cpu", "cuda")):
                found["rates"][name] = {dtype: rates(name, dtype) for dtype in ("float32", "float64")}
                found["rates"][name]["call_s"] = call_time(name)
    found["advice"] = advice(measure=measure)
    if as_json:
        print(json.dumps(found, indent=2))
        return 0
    print("devices")
    for report in found["devices"]:
        state = "yes" if report["available"] else "no "
        print(f"  {report['name']:<14} {state}  {report['reason']}")
        if report["fix"]:
            print(f"  {'':<14}      to mend it: {report['fix']}")
    print(f"chosen by auto: {found['auto']}")
    print("versions")
    for name, version in found["versions"].items():
        print(f"  {name:<17} {version}")
    print("matrix products (BLAS)")
    for library in found["blas"]:
        kernel = library["kernel"] or "not told"
        print(f"  {library['library']} {library['version']}, kernel {kernel}, {counted(library['threads'], 'thread')}")
    if not found["blas"]:
        print("  none that tells of itself")
    print("compiled twins (Numba, the extra fast)")
    if numba := found["numba"]:
        print(f"  numba {numba['version']}")
        print(f"  cache {numba['cache'] or 'none: no folder can be written to'}")
    else:
        print('  numba is not installed: pip install "gpunn[fast]"')
    if any(report["available"] for report in found["devices"] if report["name"].startswith("cuda")):
        print("convolutions on the GPU (matrix products, or cuDNN, the extra cudnn)")
        if off := [name for name in ("GPUNN_CUDNN", "GPUNN_FAST") if os.environ.get(name) == "0"]:
            print(f"  products; cuDNN is switched off by {off[0]}=0")
        elif cudnn := found["cudnn"]:
            print(f"  cuDNN {cudnn['cudnn']}, frontend {cudnn['frontend']}, for tf32 and bfloat16")
        else:
            print('  products; cuDNN is not in use: pip install "gpunn[cudnn]"')
    print(f"processors: {found['processors']}, of which this process may use {found['usable_processors']}")
    if measure:
        print("rates")
    for name, rate in found["rates"].items():
        single, double = rate["float32"], rate["float64"]
        print(
            f"  {name:<14} products {single['product_flops'] / 1e9:,.0f} GFLOP/s in float32, "
            f"{double['product_flops'] / 1e9:,.0f} in float64; copies {single['copy_bytes'] / 1e9:,.1f} GB/s; "
            f"a small call {rate['call_s'] * 1e6:.2f} µs"
        )
    print("warnings" if found["advice"] else "nothing found that slows it down")
    for warning in found["advice"]:
        print(f"  {warning}")
    return 0


# --- the command line


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


class _Parser(argparse.ArgumentParser):
    """One that says what is wrong in one line, and the nearest option to one that is not known."""

    def __init__(self, **more: Any) -> None:
        super().__init__(allow_abbrev=False, **more)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = difflib.get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, 1)
            self.error(f"{unknown[0]!r} is not expected here" + (f"; did you mean {near[0]}?" if near else ""))
        return found, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(_failed(f"{message} (see {self.prog} --help)", 2))


def _parser() -> argparse.ArgumentParser:
    from gpunn import __version__
    from gpunn.io.export import FORMATS

    parser = _Parser(prog="gpunn", description="Neural networks from first principles, on any array library.")
    parser.add_argument("--version", action="version", version=f"gpunn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[..., int], text: str, description: str = "") -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=description or f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(command=command)
        return added

    train = add("train", _train, "train a network and leave a run folder", _TRAIN_HELP)
    _add_config(train)
    train.add_argument("--out", metavar="DIR", help="the run folder, new or empty (default: runs/NAME-<time>)")
    train.add_argument("--resume", metavar="DIR", help="go on with the run in this folder; --epochs may be more")
    train.add_argument("--config", metavar="FILE.toml", help="options from a file; those given here override them")
    train.add_argument("--quiet", action="store_true", help="print the result only")
    train.add_argument("--live", action="store_true", help="draw the losses on the terminal while it trains")
    train.add_argument("--tensorboard", action="store_true", help="also write the history for TensorBoard")

    evaluate = add("evaluate", _evaluate, "measure a run's network on its test data")
    evaluate.add_argument("run", metavar="RUN", help="a run folder")
    evaluate.add_argument("--device", help="where to compute (default: as the run)")
    evaluate.add_argument("--data-dir", help="folder with the data (default: as the run)")

    predict = add("predict", _predict, "what the network of a run makes of a table or pictures")
    predict.add_argument("run", metavar="RUN", help="a run folder, or its model.safetensors")
    predict.add_argument("files", metavar="FILE", nargs="+", help="a table, rows.csv, or pictures, such as digit.png")
    predict.add_argument("--out", metavar="OUT.csv", help="where rows and predictions go (default: shown)")

    draw = add("draw", _draw, "a page to draw on, and to watch a network read it")
    draw.add_argument("run", metavar="RUN", help="a run folder, or a file that gn.save wrote")
    draw.add_argument(
        "--port",
        type=int,
        default=8000,
        metavar="N",
        help="port to serve the page on (default: %(default)s; 0: any that is free)",
    )
    draw.add_argument("--no-browser", action="store_false", dest="browser", help="open no browser")
    draw.add_argument("--device", default="cpu", help="where to compute (default: %(default)s)")

    plot = add("plot", _plot, "draw a run: pictures, and a report in one HTML file")
    plot.add_argument("run", metavar="RUN", help="a run folder")
    plot.add_argument("--out", metavar="DIR", help="where pictures and report go (default: the run folder)")
    plot.add_argument("--data-dir", help="folder with the data (default: as the run)")

    summary = add("summary", _summary, "the layers of a network and their sizes")
    summary.add_argument(
        "--run", metavar="RUN", help="show the network in this run folder, not the one the options give"
    )
    _add_config(summary)

    export = add("export", _export, "write a network as a file for other programs")
    export.add_argument("run", metavar="RUN", help="a run folder, or a .safetensors file of gn.save")
    export.add_argument("--to", required=True, metavar="FORMAT", help="one of " + ", ".join(FORMATS))
    export.add_argument("--out", metavar="FILE", help="where to write it (default: beside the network)")
    export.add_argument(
        "--input-shape", type=_sizes, metavar="N,N,N", help="shape of one input, for a network that does not tell it"
    )

    add("gradcheck", _gradcheck, "check every gradient on every array library that is installed")

    compare = add("compare", _compare, "try every combination of some options", _COMPARE_HELP)
    _add_config(compare, leave_out=("seed",))
    compare.add_argument(
        "--vary",
        action="append",
        required=True,
        metavar="OPTION=A,B,...",
        help="an option of gpunn train and the values to try, such as activation=relu,tanh or hidden=64x64,256; "
        "every combination of several is tried",
    )
    compare.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each combination (default: 3)")
    compare.add_argument("--out", metavar="DIR", help="where the results go (default: runs/compare-<time>)")

    reproduce = add("reproduce", _reproduce, "run published results again", _REPRODUCE_HELP)
    reproduce.add_argument(
        "ids",
        metavar="ID",
        nargs="*",
        help='which results, or "all": those this device can do in hours; without an ID they are listed',
    )
    reproduce.add_argument("--quick", action="store_true", help="one seed and a tenth of the epochs; nothing is kept")
    reproduce.add_argument("--seeds", type=int, metavar="N", help="runs of each setting (default: 3)")
    reproduce.add_argument("--epochs", type=int, metavar="N", help="cut runs that have more; the result is marked so")
    reproduce.add_argument("--device", default="auto", help="where to compute (default: auto)")
    reproduce.add_argument("--data-dir", metavar="DIR", help="folder with the files of MNIST")
    reproduce.add_argument(
        "--out",
        metavar="DIR",
        default="benchmarks/results/reproduce",
        help="where results are kept; runs that are there are not run again (default: %(default)s)",
    )
    reproduce.add_argument("--table", action="store_true", dest="as_table", help="all results kept, in Markdown")

    bench = add("bench", _bench, "how long training steps take here", _BENCH_HELP)
    bench.add_argument("networks", metavar="NETWORK", nargs="*", help="such as 784-128-10, or cnn (default: a choice)")
    bench.add_argument(
        "--batch-size",
        type=_sizes,
        default=[],
        metavar="N,N",
        help="examples in a step, or several sizes to try (default: suits the network)",
    )
    bench.add_argument("--device", default="auto", help="where to compute (default: auto)")
    bench.add_argument("--seconds", type=float, default=0.5, metavar="S", help="for each row (default: %(default)s)")
    bench.add_argument("--json", dest="out", metavar="FILE", help="write the figures to this file, too")

    info = add("info", _info, "devices, versions, how fast this machine is and what slows it down")
    info.add_argument("--json", action="store_true", dest="as_json", help="as JSON")
    info.add_argument("--no-measure", action="store_false", dest="measure", help="measure nothing, and be done at once")
    return parser


_TRAIN_HELP = """Train a network on digits (1,797 small images that come with gpunn), mnist, or data of your own:
FILE.csv with a column to predict, FILE.npz with arrays x and y, or FOLDER with a folder of pictures for each class.
Options that are not given suit the data; config.toml in the run folder has them all."""


_REPRODUCE_HELP = """Train networks on MNIST as in the books, papers and programs whose results are listed, and print
what was published beside what is measured."""


_BENCH_HELP = """Measure training steps (forward, loss, backward, update) on a batch of random numbers, in float32, and
print how long one takes and what share of the measured rate of matrix products it reaches."""


_COMPARE_HELP = """Train every combination of the options that are varied, each from the same seeds, print them best
first with the spread over seeds, and draw their curves in one picture."""


def _add_config(parser: argparse.ArgumentParser, leave_out: tuple[str, ...] = ()) -> None:
    """An option for every field of Config; those not given are left to files and defaults."""
    for f in dataclasses.fields(Config):
        if f.name in leave_out:
            continue
        if f.name == "data":
            parser.add_argument(
                "data", nargs="?", default=argparse.SUPPRESS, help="digits (default), mnist, a file or a folder"
            )
            continue
        kind: Any = {"hidden": _sizes, "drop": _names, "image_size": _sides}.get(f.name, f.type)
        default = "suits the data" if f.name in _SUITED else f.default
        parser.add_argument(
            _flag(f.name),
            type=kind,
            default=argparse.SUPPRESS,
            metavar="{" + ",".join(f.metadata["choices"]) + "}" if f.metadata["choices"] else f.name.upper(),
            help=f.metadata["help"] + ("" if "(default" in f.metadata["help"] else f" (default: {default})"),
        )


_SUITED = ("hidden", "lr", "epochs", "batch_size")  # their defaults depend on the data


def _sizes(text: str) -> list[int]:
    """The numbers in "128,64"; no numbers in "none"."""
    try:
        return [] if text == "none" else [int(size) for size in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected sizes such as 128,64, or none; got {text!r}") from None


def _names(text: str) -> list[str]:
    """The names in "id,name"; one with a comma in it stands in quotes."""
    return [" ".join(name.split()) for name in next(csv.reader([text], skipinitialspace=True))]


def _sides(text: str) -> list[int]:
    """The height and width in "32x48"; "32" is both."""
    try:
        sides = [int(side) for side in text.split("x")]
        return sides * 2 if len(sides) == 1 else sides
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a height and a width such as 32x32; got {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
