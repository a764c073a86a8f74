import math
import os

import pytest

from gpunn import processors


def group(tmp_path, lines, files):
    """(where the control groups are mounted, the file that says in which this process is)."""
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "groups").write_text(lines)
    return tmp_path / "cgroup", tmp_path / "groups"


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n", "cpu.max": "900000 100000"}, 3.0),
        ("3:cpu,cpuacct:/d\n0::/\n", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ("3:cpu:/d\n", {"cpu/d/cpu.cfs_quota_us": "-1", "cpu/d/cpu.cfs_period_us": "100000"}, math.inf),
        ("4:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("0::/\n", {"cpu.max": "rubbish"}, math.inf),
        ("0::/\n", {}, math.inf),
        ("", {}, math.inf),
    ],
)
def test_the_quota_of_a_control_group_is_found(tmp_path, lines, files, expected):
    assert processors._quota(*group(tmp_path, lines, files)) == expected


def test_no_control_groups_are_no_quota(tmp_path):
    assert processors._quota(tmp_path, tmp_path / "nothing") == math.inf


@pytest.mark.parametrize(("quota", "expected"), [(math.inf, 8), (2.0, 2), (2.5, 3), (0.1, 1), (64.0, 8)])
def test_usable_processors_are_those_allowed_or_the_quota(monkeypatch, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(processors, "_quota", lambda: quota)
    assert processors.usable_processors() == expected


def test_where_no_affinity_is_told_all_processors_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(processors, "_quota", lambda: math.inf)
    assert processors.usable_processors() == 6
