import os
import queue
import threading
import time
import weakref

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from gpunn.kernels.cpu import threads
from gpunn.kernels.cpu.threads import split


@pytest.fixture
def three(set_threads):
    set_threads(3)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 96, 97, 1000])
def test_the_pieces_are_the_whole_each_once(three, size):
    hits = np.zeros(size, int)
    pieces = []

    def work(part):
        pieces.append(part)
        hits[part] += 1

    split(work, size, 32)
    assert (hits == 1).all()
    assert len(pieces) == max(1, min(3, size // 32))
    assert all(part.start % threads.LINE == 0 for part in pieces)


def test_pieces_are_done_side_by_side(three):
    barrier = threading.Barrier(3, timeout=10)  # breaks unless all three wait at once
    split(lambda part: barrier.wait(), 96, 32)


@pytest.mark.parametrize("bad", [0, 32, 64])
def test_an_error_in_any_piece_is_raised_once_all_are_done(three, bad):
    done = []

    def work(part):
        if part.start == bad:
            raise ValueError(part.start)
        done.append(part.start)

    with pytest.raises(ValueError, match=str(bad)):
        split(work, 96, 32)
    assert sorted(done) == sorted({0, 32, 64} - {bad})


def test_what_no_other_thread_begins_is_done_by_the_caller(monkeypatch):
    monkeypatch.setattr(threads, "threads", lambda: 3)
    monkeypatch.setattr(threads, "_queue", lambda: queue.SimpleQueue())  # that no thread looks at
    here = []
    split(lambda part: here.append(threading.current_thread()), 96, 32)
    assert here == [threading.current_thread()] * 3


def test_no_piece_is_counted_as_waiting_once_all_are_done(three, monkeypatch):
    during = []
    split(lambda part: during.append(threads.waiting[0]), 96, 32)
    assert max(during) <= 2
    assert threads.waiting[0] == 0

    def interrupt(piece):
        raise KeyboardInterrupt

    monkeypatch.setattr(threads, "wake", interrupt)
    with pytest.raises(KeyboardInterrupt):
        split(lambda part: None, 96, 32)
    assert threads.waiting[0] == 0


def test_a_piece_may_be_divided_again(three):
    hits = np.zeros((3, 96), int)

    def work(part):
        row = part.start // 32

        def inner(piece):
            hits[row, piece] += 1

        split(inner, 96, 32)

    split(work, 96, 32)
    assert (hits == 1).all()


def test_threads_that_wait_hold_no_arrays(three):
    data = np.zeros(96)
    gone = weakref.ref(data)
    split(lambda part, data=data: time.sleep(0.05), 96, 32)  # long enough for the others to begin
    del data
    for _ in range(100):
        if gone() is None:
            break
        time.sleep(0.02)
    assert gone() is None


def test_all_pieces_have_the_errstate_of_the_caller(three):
    with np.errstate(over="ignore"):
        split(lambda part: np.exp(np.full(3, 1e4)), 96, 32)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        split(lambda part: part.start and np.exp(np.full(3, 1e4)), 96, 32)


@pytest.mark.parametrize(
    ("given", "expected"), [({}, 4), ({"OMP_NUM_THREADS": "2"}, 2), ({"OPENBLAS_NUM_THREADS": "1"}, 1)]
)
@pytest.mark.parametrize("unknown", ["", "many", "99"])
def test_no_more_threads_than_the_matrix_library_was_given(monkeypatch, given, expected, unknown):
    monkeypatch.setattr(threads, "usable_processors", lambda: 4)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, given.get(name, unknown if not given else ""))
    threads.threads.cache_clear()
    assert threads.threads() == expected
    threads.threads.cache_clear()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_makes_threads_of_its_own(three):
    split(lambda part: None, 96, 32)
    child = os.fork()
    if child == 0:
        hits = np.zeros(96, int)

        def work(part):
            hits[part] += 1

        try:
            split(work, 96, 32)
        finally:
            os._exit(0 if (hits == 1).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_pieces_begin_where_they_are_told(three):
    starts = []
    split(lambda part: starts.append((part.start, part.stop)), 7, 1, align=1)
    assert sorted(starts) == [(0, 3), (3, 6), (6, 7)]


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_products_side_by_side_are_done_by_one_thread_each(three):
    threads._libraries.cache_clear()  # other tests may have loaded more libraries
    before, seen = blas_threads(), []
    split(lambda part: seen.append(blas_threads()), 96, 32, products=True)
    assert len(seen) == 3
    assert set.union(*seen) == {1}
    assert blas_threads() == before
    split(lambda part: seen.append(blas_threads()), 32, 32, products=True)
    assert seen[-1] == before


def test_the_last_of_several_gives_the_matrix_library_its_threads_back(three):
    threads._libraries.cache_clear()
    before, seen = blas_threads(), []

    def outer(part):
        split(lambda piece: None, 96, 32, products=True)  # begins and ends meanwhile
        seen.append(blas_threads())

    split(outer, 96, 32, products=True)
    assert seen == [{1}] * 3
    assert blas_threads() == before


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_after_an_interrupt_the_matrix_library_has_its_threads_back(nth, three, monkeypatch):
    class Library:
        threads = 4

        def get_num_threads(self):
            return self.threads

        def set_num_threads(self, number):
            self.threads = number
            calls.append(number)
            if len(calls) == nth:
                raise KeyboardInterrupt

    calls, several = [], [Library(), Library()]
    monkeypatch.setattr(threads, "_libraries", lambda: several)
    with pytest.raises(KeyboardInterrupt):
        split(lambda part: None, 96, 32, products=True)
    split(lambda part: None, 96, 32, products=True)  # where it came while they were given back
    assert [library.threads for library in several] == [4, 4]
    assert not threads._limiting


@pytest.mark.parametrize("nth", range(1, 7))
def test_what_a_signal_calls_may_have_products_divided(nth, three, monkeypatch):
    class Library:
        threads = 4

        def get_num_threads(self):
            number = self.threads
            self.signal()
            return number

        def set_num_threads(self, number):
            self.threads = number
            self.signal()

        def signal(self):
            calls.append(1)
            if len(calls) == nth:
                split(lambda part: None, 96, 32, products=True)

    calls, several = [], [Library(), Library()]
    monkeypatch.setattr(threads, "_libraries", lambda: several)
    caller = threading.Thread(target=split, args=(lambda part: None, 96, 32), kwargs={"products": True}, daemon=True)
    caller.start()
    caller.join(10)
    assert not caller.is_alive()
    assert len(calls) > nth
    assert [library.threads for library in several] == [4, 4]


def test_sums_of_all_pieces(three):
    data = np.arange(40.0).reshape(10, 4)
    calls = []

    def work(total, count, part):
        calls.append(part)
        total += data[part].sum(axis=0)
        count += part.stop - part.start

    total, count = threads.summed(work, ((4,), ()), "float64", 10, 2)
    assert len(calls) == 3
    assert np.array_equal(total, data.sum(axis=0))
    assert count == 10
    assert threads.summed(work, ((4,), ()), "float64", 0, 2)[1] == 0


def test_how_much_is_enough_for_a_thread():
    assert threads.enough(8, 8 * threads.ENOUGH_TO_WAKE) == 1
    assert threads.enough(8, threads.ENOUGH_TO_WAKE // 2) == 16
    assert threads.enough(0, 0) == 1
