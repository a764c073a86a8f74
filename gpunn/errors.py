"""Every error gpunn raises on purpose: one line that names the value, what was expected, and how to mend it."""

__all__ = [
    "CaptureError",
    "DataError",
    "DeviceMismatch",
    "DeviceUnavailable",
    "Diverged",
    "DtypeError",
    "FileError",
    "GpunnError",
    "LibraryError",
    "LossMismatch",
    "NotInitialised",
    "OptionError",
    "OutOfMemory",
    "ShapeError",
    "SpentCache",
]


class GpunnError(Exception):
    """The parent of all of them; `exit_code` is what the command `gpunn` ends with."""

    exit_code = 1


class OptionError(GpunnError, ValueError):
    """An argument outside what is allowed, or a name that is not known."""

    exit_code = 2


class LossMismatch(OptionError):
    """A network whose output does not go with the loss: the softmax would be applied twice, say."""


class DeviceUnavailable(GpunnError, RuntimeError):
    """A device asked for by name that cannot be had; `reason` and `fix` say why and what to do."""

    exit_code = 3

    def __init__(self, device: str, reason: str, fix: str) -> None:
        super().__init__(f"device {device!r} is not available: {reason}. To mend it: {fix}")
        self.device, self.reason, self.fix = device, reason, fix


class DeviceMismatch(GpunnError, ValueError):
    """Two arrays of different libraries or devices met inside the network."""


class ShapeError(GpunnError, ValueError):
    """An array of a shape that does not fit."""

    exit_code = 4


class DtypeError(GpunnError, TypeError):
    """An array of a data type that does not fit."""

    exit_code = 4


class DataError(GpunnError, ValueError):
    """Values that cannot be trained on: NaN, a label out of range, no rows at all."""

    exit_code = 4


class FileError(GpunnError, OSError):
    """A file or folder that is missing, damaged, not what it should be, or cannot be written."""

    exit_code = 4


class LibraryError(GpunnError, RuntimeError):
    """A call to a library that computes on the GPU failed."""


class CaptureError(GpunnError, RuntimeError):
    """A training step that cannot be captured in a CUDA graph."""


class OutOfMemory(GpunnError, MemoryError):
    """The memory of the device does not suffice."""


class NotInitialised(GpunnError, RuntimeError):
    """A network that has no weights yet."""


class SpentCache(GpunnError, RuntimeError):
    """A second backward pass over the cache of one forward pass."""


class Diverged(GpunnError, ArithmeticError):
    """A loss or a weight became NaN or infinite."""
