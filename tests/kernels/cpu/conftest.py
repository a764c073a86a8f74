import pytest

from gpunn.kernels.cpu import threads


@pytest.fixture
def set_threads(monkeypatch):
    """Sets how many threads there are; in the end there are as many as before."""

    def forget():
        for _ in range(threads.threads() - 1):
            threads._queue().put(None)  # ends one
        threads._queue.cache_clear()
        try:
            from gpunn.kernels.cpu.fast import team
        except ImportError:  # without Numba
            return
        team._team.cache_clear()

    def set_to(count):
        forget()
        monkeypatch.setattr(threads, "threads", lambda: count)

    yield set_to
    forget()
