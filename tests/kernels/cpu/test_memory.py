import os
import threading

import pytest

from gpunn.kernels.cpu import memory
from gpunn.kernels.cpu.memory import empty


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 1000)
    monkeypatch.setattr(memory, "_buffers", [])


def kept():
    return [buffer.size for buffer in memory._buffers]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("shape", [(3, 4), (300,), (7, 11, 13), (0, 5)])
def test_an_array_has_its_shape_and_type_and_begins_a_cache_line(shape, dtype):
    a = empty(shape, dtype)
    assert (a.shape, a.dtype) == (shape, dtype)
    assert a.flags.carray
    if a.nbytes >= 1000:
        assert a.ctypes.data % 64 == 0
    a[...] = 3
    assert (a == 3).all()


def test_memory_is_used_again_once_no_view_of_it_is_left():
    a = empty((500,), "float32")
    place = a.ctypes.data
    view = a[100:].reshape(20, 20).T
    del a
    view[...] = 7.0
    other = empty((500,), "float32")
    other[...] = 0.0
    assert other.ctypes.data != place
    assert (view == 7.0).all()
    del view
    assert empty((125, 4), "float32").ctypes.data == place


def test_small_arrays_are_numpys_own():
    assert empty((100,), "float32").flags.owndata
    assert kept() == []


def test_the_smallest_buffer_that_is_large_enough_is_taken():
    a, b = empty((2000,), "float32"), empty((1000,), "float32")
    place = b.ctypes.data
    del a, b
    c = empty((900,), "float32")
    assert c.ctypes.data == place
    d = empty((900,), "float32")
    assert kept() == [4064, 8064]
    del c, d


def test_no_more_is_kept_than_agreed_and_what_is_in_use_stays(monkeypatch):
    monkeypatch.setattr(memory, "MOST", 10_250)
    used, first, second = (empty((n,), "uint8") for n in (3000, 3001, 3002))
    del first, second
    used[...] = 5
    third = empty((4000,), "uint8")  # too large for the free ones, the older of which goes
    assert kept() == [3064, 3066, 4064]
    assert empty((7000,), "uint8").flags.owndata  # beside what is in use it would be too much
    assert kept() == [3064, 4064]
    del third
    large = empty((7000,), "uint8")
    assert kept() == [3064, 7064]
    large[...] = 6
    assert (used == 5).all()


def test_threads_never_have_the_same_memory():
    wrong = []

    def work(number):
        for _ in range(200):
            a = empty((400,), "float32")
            a[...] = number
            if not (a == number).all():
                wrong.append(number)

    several = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert not wrong
    assert len(kept()) <= 4


def test_who_comes_while_the_buffers_are_being_looked_through_does_not_wait():
    def ask():
        arrays.append(empty((500,), "float32"))

    arrays = []
    thread = threading.Thread(target=ask, daemon=True)
    with memory._lock:
        thread.start()
        thread.join(10)
        assert arrays[0].flags.owndata


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_a_thread_that_it_does_not_have():
    with memory._lock:
        child = os.fork()
        if child == 0:
            os._exit(memory._lock.locked())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
