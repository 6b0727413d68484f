"""The pipeline: DVC stages (pipeline/<name>.py), packages that they share, and commands."""

import ctypes
import gc
import os
import signal
import sys
import time
from types import FrameType

PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
STARTED = time.perf_counter()  # of this process: the imports of a stage take seconds
INTERRUPTED = "interrupted: `uv run dvc repro` goes on from here"


# torch's threads (GNU OpenMP) read these when torch is imported. Threads that spin as long as they wait slow down other
# processes several times. Threads that sleep at once take longer to wake up than many operations take. So they spin for
# about a tenth of a millisecond, and then sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def keep_freed_memory() -> None:
    """Ask the C library not to return the memory of freed tensors to the system, and to use it again.

    A training step allocates what the one before it has freed. The system clears each page before it hands it out
    again, which takes up to a tenth of a step. Only glibc can be asked.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, 2**25)  # its largest value
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


keep_freed_memory()

# Python looks for cycles in memory after so many new objects. Its default of 700 cost an evaluation 3 to 13 % of
# its time (docs/reference/benchmarks.md).
gc.set_threshold(10_000, 10, 10)


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
