"""Where the work on single images runs: one place, so that stages say what to do and not where. Not a stage."""

import os
from collections.abc import Callable, Iterable, Iterator
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
    results: Iterator[Result] = Parallel(n_jobs=-1, return_as="generator")(
        delayed(_run_in)(here, function, job) for job in jobs
    )
    return results


def _run_in(folder: Path, function: Callable[..., Result], job: tuple[Any, ...]) -> Result:
    os.chdir(folder)
    return function(*job)
