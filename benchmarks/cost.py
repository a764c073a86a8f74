"""What a peer costs besides its steps: importing it, its first step, its memory, its room on the disk."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from benchmarks.process import Gone, Process, environment
from benchmarks.rounds import summary
from benchmarks.workloads import Workload

__all__ = ["cost", "installed"]

WORKLOADS = (Workload("mlp", (784, 2048, 2048, 10), 128), Workload("cnn", (9216, 128, 10), 64))


def cost(peers, rounds, say=print):
    """({peer: {"import_s", "python_s", "installed", "training": {workload: ...}}}, {what is not there: why})."""
    imports = import_times({peer.imports for peer in peers.values()} | {"pass"}, rounds)
    found, missing = {}, {}
    for name, peer in peers.items():
        if imports[peer.imports] is None:
            missing[name] = f"`{peer.imports}` fails"
            continue
        found[name] = {"import_s": imports[peer.imports], "python_s": imports["pass"], "training": {}}
        try:
            found[name]["installed"] = installed(peer.packages)
        except ImportError as error:  # PackageNotFoundError is one; or there is no `packaging` to read them with
            missing[f"{name}, installed size"] = str(error)
        for w in WORKLOADS:
            if peer.takes(w):
                try:
                    found[name]["training"][w.name] = training(peer, w)
                except Gone as gone:
                    if gone.skipped:
                        del found[name]
                        missing[name] = str(gone)
                        break
                    missing[f"{name}, {w.name}"] = str(gone)
    for name, reason in missing.items():
        say(f"  {name}: not measured: {reason}")
    return found, missing


def import_times(statements, rounds):
    """{statement: quartiles of the seconds `python -c` takes with it}, in turns; None for one that fails."""
    seconds = {statement: [] for statement in sorted(statements)}
    for i in range(rounds + 1):  # the first brings the files into memory
        for statement, taken in seconds.items():
            if taken is not None:
                start = time.perf_counter()
                done = subprocess.run([sys.executable, "-c", statement], env=environment(), stderr=subprocess.DEVNULL)
                if done.returncode:
                    seconds[statement] = None
                elif i:
                    taken.append(time.perf_counter() - start)
    return {statement: None if taken is None else summary(taken) for statement, taken in seconds.items()}


def training(peer, workload):
    """Seconds to the first step, with nothing compiled before and in a later process; peak memory of the later one."""
    with tempfile.TemporaryDirectory() as caches:
        folders = {"NUMBA_CACHE_DIR": f"{caches}/numba", "TORCHINDUCTOR_CACHE_DIR": f"{caches}/torch"}
        peer = dataclasses.replace(peer, environment=peer.environment | folders)
        first = []
        for _ in range(2):
            with Process(peer) as worker:
                first.append(worker.ask("prepare", workload=dataclasses.asdict(workload), warm=0.1)["first_s"])
                peak = worker.ask("memory")["peak_bytes"]
    return {"first_ever_s": first[0], "first_s": first[1], "peak_bytes": peak}


def installed(packages):
    """{"bytes", "packages": {name: bytes}} of packages and all that they require.

    Counted is every file that the installer put down for a package, byte-code included; of a package that is installed
    in editable form, its folder. Raises ImportError where one is missing.
    """
    from packaging.requirements import Requirement

    sizes, ahead = {}, [Requirement(package) for package in packages]
    while ahead:
        requirement = ahead.pop()
        name = requirement.name.lower().replace("_", "-")
        if name in sizes:
            continue
        distribution = metadata.distribution(name)
        sizes[name] = size(distribution)
        extras = {"", *requirement.extras}
        for needed in map(Requirement, distribution.requires or ()):
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                ahead.append(needed)
    return {"bytes": sum(sizes.values()), "packages": sizes}


def size(distribution):
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        folder = Path(importlib.util.find_spec(distribution.name).origin).parent
        files = folder.rglob("*")
    else:
        files = (Path(file.locate()) for file in distribution.files or ())
    return sum(file.stat().st_size for file in files if file.is_file())
