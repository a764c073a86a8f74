"""A row of the table: every peer prepares the workload, then all take their turns, round after round."""

import dataclasses
import math
import statistics
import time
from contextlib import ExitStack

from benchmarks.process import Gone, Process

__all__ = ["TOLERANCE", "deviations", "measure", "summary"]

PAUSE = 0.15  # seconds between turns: after its work a thread of OpenBLAS spins for 0.1 s, one of OpenMP for 0.01 s
# Rounding alone moves the losses of 20 steps by 1e-7 to 2e-4 (Adam magnifies it where a gradient is nearly 0); other
# data, weights, gradients or a learning rate 1 % off move them by more than 2e-3. TF32 keeps 11 bits, bfloat16 8.
TOLERANCE = {"float32": 1e-3, "tf32": 2e-2, "bfloat16": 5e-2}


def measure(workload, peers, rounds, turn=0.2, say=print):
    """Measure `peers`, {name: Peer}, on a workload, in rounds; a turn takes about `turn` seconds, or one step.

    Returns {"workload", "flops", ..., "peers": {name: figures}, "not_run": {name: reason}, "skipped": [names]}: a
    skipped peer cannot be had here, the others that were not run failed.
    """
    results, workers, not_run, skipped = {}, {}, {}, []

    def without(name, gone):
        results.pop(name, None)
        workers.pop(name, None)
        not_run[name] = str(gone)
        if gone.skipped:
            skipped.append(name)
        say(f"  {name}: {'skipped' if gone.skipped else 'FAILED'}: {gone}")

    with ExitStack() as stack:
        for name, peer in peers.items():
            workers[name] = stack.enter_context(Process(peer))
            try:
                results[name] = workers[name].ask("prepare", workload=dataclasses.asdict(workload), warm=1.5 * turn)
            except Gone as gone:
                without(name, gone)
                continue
            results[name] |= {"steps": max(1, round(turn / results[name]["step_s"])), "seconds": []}
        names = list(results)
        for i in range(rounds):
            first = i % max(1, len(names))
            for name in names[first:] + names[:first]:
                if name not in results:
                    continue
                time.sleep(PAUSE)
                try:
                    steps = results[name]["steps"]
                    results[name]["seconds"].append(workers[name].ask("run", steps=steps)["seconds"] / steps)
                except Gone as gone:
                    without(name, gone)
    for name, figures in results.items():
        figures |= summary(figures["seconds"])
        say(f"  {name}: {1e3 * figures['median']:.4g} ms ({1e3 * figures['q1']:.4g} to {1e3 * figures['q3']:.4g})")
    for name, deviation in deviations(results).items():
        same = deviation <= TOLERANCE[workload.precision]
        results[name] |= {"deviation": deviation, "same_work": same}
        if not same:
            say(f"  {name}: NOT THE SAME WORK: its losses differ by {deviation:.1e} from those of most")
    return {
        "name": workload.name,
        "workload": dataclasses.asdict(workload),
        "flops": workload.flops,
        "flops_needed": workload.flops_needed,
        "peers": results,
        "not_run": not_run,
        "skipped": skipped,
    }


def summary(seconds):
    """Median and quartiles."""
    q1, median, q3 = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    return {"median": median, "q1": q1, "q3": q3}


def deviations(results):
    """{name: d}: by how much, relatively, a peer's losses (or answer) differ at most from the median of all peers'."""
    curves = {name: figures.get("losses") or figures["answer"] for name, figures in results.items()}
    middle = [statistics.median(values) for values in zip(*curves.values(), strict=True)]
    differences = {
        name: [abs(ours - usual) / abs(usual) for ours, usual in zip(curve, middle, strict=True)]
        for name, curve in curves.items()
    }
    return {name: math.inf if any(map(math.isnan, each)) else max(each) for name, each in differences.items()}
