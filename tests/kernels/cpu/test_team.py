import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

import gpunn
from gpunn.kernels.cpu import fast, threads
from gpunn.kernels.cpu.fast import _jit, team, update
from gpunn.kernels.cpu.threads import split

team._serve(team.NO_DESK.copy(), np.ones(1, np.int64))  # compiles it, which takes longer than tests wait for threads


@team.shared
def add_one(hits, starts, start, stop):
    starts[start] = 1
    for i in range(start, stop):
        hits[i] += 1


@team.shared
def wait_for_all(arrived, pieces, start, stop):
    """Each piece counts itself and waits until all have begun, but not for ever."""
    team._count(arrived, 0)
    for _ in range(500_000_000):  # a tenth of a second or more
        if team._look(arrived, 0) >= pieces:
            team._count(arrived, 1)
            return


@team.shared
def allocate(size, start, stop):
    np.empty(size if start > 0 else 1)[0] = 1.0


@team.shared
def allocate_at_once(size, start, stop):
    np.empty(size)[0] = 1.0


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 96, 97, 1000])
@pytest.mark.parametrize("align", [1, 16])
def test_the_pieces_are_the_whole_each_once(count, size, align, set_threads):
    set_threads(count)
    for _ in range(20):
        hits, starts = np.zeros(size, int), np.zeros(size + 1, int)
        team.run(add_one, (hits, starts), size, 32, align=align)
        assert (hits == 1).all()
        assert starts.sum() == max(1, min(count, size // 32))
        assert not (np.flatnonzero(starts) % align).any()


def side_by_side(count):
    """Whether as many threads are at work at once, if not the first time: one that was woken early sleeps again."""
    for _ in range(20):
        arrived = np.zeros(2, np.int64)
        team.run(wait_for_all, (arrived, count), count, 1)
        if arrived[1] == count:
            return True
    return False


@pytest.mark.parametrize("count", [2, 3])
def test_pieces_are_done_side_by_side_by_threads_that_slept_and_that_did_not(count, set_threads):
    set_threads(count)
    for pause in (0.0, 0.0, 0.05, 0.0, 0.05):
        time.sleep(pause)
        assert side_by_side(count)


def test_a_thread_that_waits_awake_leaves_for_work_that_is_not_compiled(set_threads):
    set_threads(2)
    barrier = threading.Barrier(2, timeout=10)  # breaks unless both wait at once
    for _ in range(5):
        assert side_by_side(2)
        desk = team._team().desk
        desk[team.CALLED] = 1  # more is announced: without the other work it would wait for ever
        split(lambda part: barrier.wait(), 64, 32)
        desk[team.CALLED] = 0


def test_threads_that_have_nothing_to_do_sleep(set_threads):
    set_threads(3)
    assert side_by_side(3)
    for _ in range(100):
        if team._team().desk[team.ASLEEP] == 2:
            break
        time.sleep(0.02)
    assert team._team().desk[team.ASLEEP] == 2


def test_who_comes_while_others_are_at_it_works_alone(set_threads):
    set_threads(2)
    assert side_by_side(2)
    hits, starts = np.zeros(96, int), np.zeros(97, int)
    with team._team().busy:
        team.run(add_one, (hits, starts), 96, 32)
    assert (hits == 1).all()
    assert starts.sum() == 1
    assert side_by_side(2)


def test_several_threads_may_have_work_shared_out(set_threads):
    set_threads(3)
    totals = np.zeros((4, 1000), int)

    def many(row):
        for _ in range(300):
            team.run(add_one, (row, np.zeros(1001, int)), 1000, 32)

    callers = [threading.Thread(target=many, args=(row,)) for row in totals]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert (totals == 300).all()


def test_too_little_memory_for_a_piece_is_an_error_and_the_next_work_goes_well(set_threads):
    set_threads(2)
    for function in (allocate, allocate_at_once):
        team.run(function, (100,), 2, 1)
        with pytest.raises(MemoryError):
            team.run(function, (1 << 55,), 2, 1)
    with pytest.raises(MemoryError):
        team.run(allocate_at_once, (1 << 55,), 1, 1)
    assert side_by_side(2)


def test_after_an_interrupt_while_threads_are_woken_they_work_again(set_threads, monkeypatch):
    set_threads(2)

    def interrupt(team):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(threads, "wake", interrupt)
        team.run(add_one, (np.zeros(96, int), np.zeros(97, int)), 96, 32)
    assert side_by_side(2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_makes_threads_of_its_own(set_threads):
    set_threads(2)
    assert side_by_side(2)
    child = os.fork()
    if child == 0:
        well = False
        try:
            well = side_by_side(2)
        finally:
            os._exit(0 if well else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_is_compiled_is_kept_beside_the_file_it_stands_in():
    code = update._adam.py_func.__code__
    assert code.co_filename == update.__file__
    assert "def _adam(" in Path(update.__file__).read_text().splitlines()[code.co_firstlineno]
    assert update._adam.py_func.__qualname__.startswith("_adam-")


@pytest.mark.parametrize("changed", ["winograd.py", "fast/exp.py"])
def test_what_is_compiled_is_not_kept_when_what_it_is_made_of_has_changed(changed, tmp_path):
    shutil.copytree(Path(gpunn.__file__).parent, tmp_path / "gpunn", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from gpunn.kernels.cpu.fast import _jit; print(_jit.FILES)"
    names = []
    for more in ("", "\n"):
        with open(tmp_path / "gpunn/kernels/cpu" / changed, "a") as file:
            file.write(more)
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
        names.append(int(done.stdout))
    assert names[0] == _jit.FILES != names[1]


def test_what_old_versions_compiled_is_removed_after_a_month(tmp_path):
    now = time.time()
    for name, days in {
        "adam-01234567-9.py311.nbi": 40,
        "adam-01234567-9.py311.1.nbc": 40,
        "adam-89abcdef-9.py311.nbi": 20,
        f"adam-{_jit.FILES:08x}-9.py311.nbi": 40,
        "adam.cpython-311.pyc": 40,
    }.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now, now - days * 86400))
    fast._clear(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted(["adam-89abcdef-9.py311.nbi", f"adam-{_jit.FILES:08x}-9.py311.nbi", "adam.cpython-311.pyc"])
