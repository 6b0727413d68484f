"""One DVC command in a process of its own, which ends whole: `python -m pipeline.parallel.worker repro ...`."""

import os
import signal
import sys
from types import FrameType

from pipeline import die_with_parent
from pipeline.runtime import TERMINATED


def end(signum: int, frame: FrameType | None) -> None:
    """Pass SIGTERM on to the stage, and let DVC see it fail: killed itself, DVC would leave its locks behind.

    DVC ignores Ctrl-C exactly while a stage runs, by which that is known.
    """
    stage_runs = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(os.getpgrp(), signal.SIGTERM)
    if not stage_runs:
        raise SystemExit(TERMINATED)


def main() -> None:
    """Command line: what `dvc` takes."""
    if os.getpgrp() != os.getpid():
        os.setpgrp()  # the signal is for this process and its children alone
    signal.signal(signal.SIGTERM, end)
    die_with_parent()
    from dvc.cli import main as dvc

    sys.exit(dvc(sys.argv[1:]))


if __name__ == "__main__":
    main()
