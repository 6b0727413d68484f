"""DVC stages and what they share."""

import ctypes
import os
import signal
import sys
from types import FrameType

PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG
INTERRUPTED = "interrupted: `uv run dvc repro` goes on from here"


# Read when torch is imported. Threads that wait by spinning make two busy processes on a shared machine
# several times slower than they need to be.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def die_with_parent() -> None:
    """Have this process sent SIGTERM when the one that started it is gone; Linux alone can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)


# A stage dies with the dvc that started it; else the next `dvc repro` would run beside it. Asked for here, before
# the seconds of importing that follow. So do the processes that share a training with whoever started them.
if {"DVC_STAGE", "LOCAL_RANK"} & os.environ.keys():
    die_with_parent()


def _leave(signum: int, frame: FrameType | None) -> None:
    print(INTERRUPTED, file=sys.stderr)
    raise SystemExit(128 + signal.SIGINT)


# Importing takes seconds, in which Ctrl-C would print a traceback; `run_stage` takes over after them. While Python
# looks for what `python -m` names, "-m" stands in place of the file's name.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, _leave)
