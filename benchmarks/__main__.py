"""Measure gpunn beside its peers, and write JSON, a Markdown table and plots.

The rows: training steps of three networks of dense layers at batches 32, 128 and 1024, of Nielsen's 784-30-10, of a
convolutional network; and inference. On a GPU also those of 784-1024-1024-10 ("wide"), and all in TF32 and bfloat16. A
peer, a package or a device that is not here is skipped by name.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.cost import cost
from benchmarks.machine import describe, pinned, rates
from benchmarks.peers import PEERS
from benchmarks.plots import draw
from benchmarks.report import report
from benchmarks.rounds import TOLERANCE, measure
from benchmarks.scaling import scaling
from benchmarks.workloads import ON_GPUS, SECTIONS

PARTS = (*SECTIONS, "scaling", "cost")
RESULTS = Path(__file__).parent / "results"


def main(argv=None):
    arguments = parse(argv)
    if arguments.table:
        results = json.loads(arguments.table.read_text(encoding="utf-8"))
        print(report(results), end="")
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
        for path in draw(results, arguments.out) if arguments.out else ():
            print(path, file=sys.stderr)
        return
    warn()
    peers = {name: PEERS[name] for name in arguments.peers if arguments.device in ("all", PEERS[name].device)}
    run(arguments, peers)


def parse(argv):
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=several(PARTS), default=PARTS, metavar="PART,...", help=", ".join(PARTS))
    parser.add_argument("--peers", type=several(PEERS), default=list(PEERS), metavar="PEER,...", help=", ".join(PEERS))
    parser.add_argument("--device", choices=("all", "cpu", "cuda"), default="all", help="measure only what runs there")
    parser.add_argument("--rounds", type=int, help="turns that each peer has (15; with --quick 3)")
    parser.add_argument("--quick", action="store_true", help="few short turns: a first look")
    parser.add_argument("--out", type=Path, help=f"folder for suite.json, scaling.json and the rest ({RESULTS})")
    parser.add_argument("--table", type=Path, metavar="FILE.json", help="only print the tables of a run; --out: plots")
    arguments = parser.parse_args(argv)
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 15)
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: expected at least 1")
    return arguments


def several(known):
    def names(text):
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not known; expected some of {','.join(known)}")
        return chosen

    return names


def warn():
    for name, value in pinned().items():
        line = f"WARNING: {name}={value} is set: these will not be the figures of this machine. Unset it: env -u {name}"
        print(f"{'!' * len(line)}\n{line}\n{'!' * len(line)}", file=sys.stderr)


def run(arguments, peers, say=print):
    """Measure the parts that were asked for; the files are written anew after each row."""
    folder = arguments.out or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    turn = 0.05 if arguments.quick else 0.2
    settings = {"rounds": arguments.rounds, "turn_s": turn, "tolerance": TOLERANCE, "quick": arguments.quick}
    devices = {peer.device for peer in peers.values()}
    base = {"machine": describe(), "settings": settings, "rates": {}, "skipped": {}, "failed": {}}

    def look_at_the_rates():  # at both ends of the run; the better counts
        for device in sorted(devices):
            known = base["rates"].setdefault(device, {})
            for key, value in rates(device).items():
                known[key] = max(value, known.get(key, 0.0)) if isinstance(value, float) else value

    look_at_the_rates()
    suite, scaled = base | {"rows": [], "cost": {}}, base | {"sweeps": []}
    for section, workloads in SECTIONS.items():
        for w in workloads if section in arguments.only else ():
            here = {n: p for n, p in peers.items() if p.takes(w) and n not in base["skipped"]}
            if section in ON_GPUS and not any(p.device == "cuda" for p in here.values()):
                continue
            say(f"{section}: {w.name}")
            row = measure(w, here, arguments.rounds, turn, say)
            for name, reason in row["not_run"].items():
                kind, what = ("skipped", name) if name in row["skipped"] else ("failed", f"{name}, {w.name}")
                base[kind][what] = reason
            suite["rows"].append({"section": section} | row)
            write(suite, folder / "suite.json")
    if "cost" in arguments.only:
        say("cost")
        here = {name: peer for name, peer in peers.items() if name not in base["skipped"]}
        suite["cost"], missing = cost(here, 3 if arguments.quick else 9, say)
        suite["skipped"] |= missing
    if "scaling" in arguments.only:
        here = {n: p for n, p in peers.items() if n.startswith("gpunn") and n not in base["skipped"]}
        rounds = min(arguments.rounds, 5)
        scaled["settings"] = settings | {"rounds": rounds}
        scaled["sweeps"], left_out = scaling(here, rounds, turn, arguments.quick, say)
        scaled["skipped"] = base["skipped"] | left_out
    look_at_the_rates()
    for results, name in ((suite, "suite"), (scaled, "scaling")):
        if results.get("rows") or results.get("cost") or results.get("sweeps"):
            write(results, folder / f"{name}.json")
            (folder / f"{name}.md").write_text(report(results), encoding="utf-8")
            say("\n" + report(results))
            for path in draw(results, folder):
                say(str(path))


def write(results, path):
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
