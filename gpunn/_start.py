"""Loads NumPy so that its matrix library lets go of the processors between products, and memory is used again.

OpenBLAS's threads wait for the next product at full speed, 26 ms long, and whatever else runs meanwhile on two cores
has one and a half: an update by Adam of 5.8 million parameters after a product took as long on two threads as on one.
After 2^19 ticks of the clock (0.2 ms) they now lie down: long enough for the pauses between the products of a step, and
short beside an update that is worth two threads. The variable is read once, when NumPy is first imported: where that
has been done already, nothing changes.

The C library of Linux gives large pieces of memory back to the system as soon as they are free, and a step that makes
its arrays anew pays for every page of them: 2000 page faults, 3 of 24 ms, for 784-512-512-10 at batch 1024. Once it has
seen a piece of 31 MiB come and go it keeps those up to that size, and twice as much at the end of its heap.
"""

import os
import sys

TIMEOUT = "OPENBLAS_THREAD_TIMEOUT"
ours = "numpy" not in sys.modules and TIMEOUT not in os.environ

if ours:
    os.environ[TIMEOUT] = "19"
import numpy as np  # noqa: E402

if ours:
    del os.environ[TIMEOUT]  # for other programs it is not ours to choose
np.empty(31 << 20, np.uint8)  # comes and goes; untouched, it takes no memory
