"""How many processors this process may use."""

import math
import os
from pathlib import Path

__all__ = ["usable_processors"]


def usable_processors() -> int:
    """How many processors this process can keep busy: those it may run on, or fewer by the quota of its cgroup.

    A container's quota of 1.5 processors counts as 2.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has it
        allowed = os.cpu_count() or 1
    return math.ceil(min(allowed, _quota()))


def _quota(mounted: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> float:
    """How many processors' time the control groups of this process allow; infinity where they set no limit."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return math.inf
    quota = math.inf
    for line in lines:
        _, controllers, group = line.split(":", 2)  # "0::/of/version/2", "3:cpu,cpuacct:/of/version/1"
        if not controllers or "cpu" in controllers.split(","):
            leaf = mounted / ("cpu" if controllers else "") / group.lstrip("/")
            quota = min(quota, *(_limit(folder) for folder in (leaf, *leaf.parents)))
    return quota


def _limit(folder: Path) -> float:
    """The limit that one control group sets, in version 2 (cpu.max) or 1 of their files."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()  # "max 100000" where there is none
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else math.inf  # -1 where there is none
    except (OSError, ValueError):
        return math.inf
