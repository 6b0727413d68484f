"""The pipeline: DVC stages (pipeline/<name>.py), packages that they share, and commands."""

import ctypes
import os
import signal
import sys
import time
from types import FrameType

PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG
STARTED = time.perf_counter()  # of this process: the imports of a stage take seconds
INTERRUPTED = "interrupted: `uv run dvc repro` goes on from here"


# torch's threads (GNU OpenMP) read these when torch is imported. Threads that spin as long as they wait slow down other
# processes several times. Threads that sleep at once take longer to wake up than many operations take. So they spin for
# about a tenth of a millisecond, and then sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def die_with_parent() -> None:
    """Ask the system to send SIGTERM to this process when its parent dies. Only Linux can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)


# A stage ends with the dvc that started it, or the next `dvc repro` would run beside it. The ranks of a training end
# with their launcher. This must happen before the imports that follow, which take seconds.
if {"DVC_STAGE", "LOCAL_RANK"} & os.environ.keys():
    die_with_parent()


def _leave(signum: int, frame: FrameType | None) -> None:
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(128 + signal.SIGINT)  # libraries written in C turn an exception in their import into another one


# During the imports Ctrl-C would print a traceback; afterwards `run_stage` sets another handler. While Python searches
# for the module of `python -m`, sys.argv[0] is "-m".
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, _leave)
