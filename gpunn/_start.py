"""Loads NumPy so that its matrix library lets go of the processors between products, and memory is used again.

OpenBLAS's threads wait for the next product at full speed, 26 ms long, and whatever else runs meanwhile on two cores
has one and a half: an update by Adam of 5.8 million parameters after a product took as long on two threads as on one.
After 2^20 ticks of the clock (0.4 ms) they now lie down: long enough for the pauses between the products of a step, and
short beside an update that is worth two threads. The variable is read once, when NumPy is first imported: where that
has been done already, nothing changes.
"""

import os
import sys

TIMEOUT = "OPENBLAS_THREAD_TIMEOUT"
ours = "numpy" not in sys.modules and TIMEOUT not in os.environ

if ours:
    os.environ[TIMEOUT] = "20"
import numpy as np  # noqa: E402

if ours:
    del os.environ[TIMEOUT]  # for other programs it is not ours to choose
np.empty(31 << 20, np.uint8)  # comes and goes; untouched, it takes no memory
