"""Where the work on single images runs: one place, so that stages say what to do and not where. Not a stage."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from joblib import Parallel, delayed

Result = TypeVar("Result")


def in_parallel(function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
    """`function(*job)` for every job, in the order of the jobs, in as many processes as there are cores.

    The processes outlive a call, so each job is run in the folder that this process is in now: relative paths mean
    the same there. What `function` raises is raised here.
    """
    here = Path.cwd()
    with _deaf_children():
        results: Iterator[Result] = Parallel(n_jobs=-1, return_as="generator")(
            delayed(_run_in)(here, function, job) for job in jobs
        )
    return results


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that are started inside don't hear Ctrl-C, which a terminal sends to all: this one ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _run_in(folder: Path, function: Callable[..., Result], job: tuple[Any, ...]) -> Result:
    os.chdir(folder)
    return function(*job)
