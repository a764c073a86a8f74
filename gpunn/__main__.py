"""`python -m gpunn` is the command `gpunn`."""

import sys

from gpunn.cli import main

sys.exit(main())
