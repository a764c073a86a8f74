"""The mean of the losses of an epoch."""

from gpunn.device import Array, to_host

__all__ = ["Mean"]


class Mean:
    """A weighted mean of losses. Those that lie on a GPU are not looked at until they are asked for."""

    def __init__(self, total: float = 0.0, weight: float = 0.0) -> None:
        self.total, self.weight = total, weight
        self._unread: list[tuple[Array, int, int | None]] = []

    def add(self, value: Array, weight: int, at: int | None = None) -> None:
        """Count `value`, a 0-d array, or the number at place `at` of an array, `weight` times."""
        self._unread.append((value, weight, at))

    def look(self) -> list[float]:
        """The values added since the last look."""
        values: list[float] = []
        read = held = None  # the array that was brought to the host last
        for value, weight, at in self._unread:
            if at is not None and held is not value:
                read, held = to_host(value), value
            values.append(float(value if at is None else read[at]))  # type: ignore[index]
            self.total += values[-1] * weight
            self.weight += weight
        self._unread.clear()
        return values

    def read(self) -> float:
        """The mean of all that was added."""
        self.look()
        return self.total / self.weight
