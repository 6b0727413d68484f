"""DVC stages and what they share."""

import ctypes
import os
import signal
import sys

PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG

# Read when torch is imported. Threads that wait by spinning make two busy processes on a shared machine
# several times slower than they need to be.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A stage dies with the dvc that started it; else the next `dvc repro` would run beside it. Asked for here, before
# the seconds of importing that follow. So do the processes that share a training with whoever started them.
if {"DVC_STAGE", "LOCAL_RANK"} & os.environ.keys() and sys.platform == "linux":
    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)
