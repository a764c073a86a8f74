"""Files for the tests of what reads them, whole and damaged."""

from pathlib import Path

import numpy as np


def written(path: Path, data: bytes | str) -> Path:
    path.unlink(missing_ok=True)  # quicker than emptying it, which some file systems answer by a flush
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def mutations(data: bytes, count: int):
    rng = np.random.default_rng(0)
    for _ in range(count):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 5)):
            changed[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
        yield bytes(changed[: rng.integers(len(data) + 1)] if rng.random() < 0.3 else changed)
