"""How the time per sample goes with the size: batch 1 to 65,536, and width 16 to 8,192."""

from benchmarks.machine import free_memory
from benchmarks.rounds import measure
from benchmarks.workloads import Workload

__all__ = ["flag", "scaling"]

BATCHES, WIDTHS = [2**i for i in range(17)], [2**i for i in range(4, 14)]
SMALL, GROWTH = 1e-4, 1.5  # seconds of a call below which its overhead decides; how much growth is worth a look


def sweeps(quick):
    """[(axis, task, [(size, workload)])]"""
    stride = 2 if quick else 1
    for task in ("train", "infer"):
        yield "batch", task, [(n, Workload("mlp", (784, 128, 10), n, task)) for n in BATCHES[::stride]]
        yield "width", task, [(n, Workload("mlp", (784, n, n, 10), 128, task)) for n in WIDTHS[::stride]]


def scaling(peers, rounds, turn, quick=False, say=print):
    """(sweeps, {what was left out: why}); a sweep is {"axis", "task", "peer", "points": [...]}, sizes ascending."""
    found, left_out = [], {}
    for axis, task, sizes in sweeps(quick):
        points = {name: [] for name in peers}
        for size, w in sizes:
            here = {name: peer for name, peer in peers.items() if name not in left_out}
            if not here:
                break
            free, needed = free_memory(), memory_needed(w) * len(here)
            if free is not None and needed > free / 2:
                left_out[f"{task}: {w.name}"] = f"takes {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
                continue
            say(f"{task}: {w.name}")
            row = measure(w, here, rounds, turn, say)
            left_out |= {
                name if name in row["skipped"] else f"{name}, {w.name}": r for name, r in row["not_run"].items()
            }
            for name, figures in row["peers"].items():
                kept = {key: figures[key] for key in ("median", "q1", "q3")}
                points[name].append({"size": size, "batch": w.batch, "flops": w.flops_needed} | kept)
        found += [
            {"axis": axis, "task": task, "peer": name, "points": flag(each)} for name, each in points.items() if each
        ]
    return found, left_out


def flag(points):
    """The points, each with "flagged": whether its time per operation is 1.5 times that of the size before."""
    for before, point in zip([None, *points[:-1]], points, strict=True):
        point["flagged"] = before is not None and (
            before["median"] >= SMALL and point["median"] / point["flops"] > GROWTH * before["median"] / before["flops"]
        )
    return points


def memory_needed(w):
    """Bytes, roughly: weights as given and held, gradients, two moments, something spare; activations and theirs."""
    parameters = sum(a * b for a, b in w.shapes)
    return 4 * (6 * parameters + 4 * w.batch * sum(w.sizes))
