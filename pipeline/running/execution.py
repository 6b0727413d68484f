"""Where the work on single images runs: one place, so that stages say what to do and not where. Not a stage."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from joblib import Parallel, delayed

Kind = Literal["local", "ray"]
Network = TypeVar("Network")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], engine: Kind = "local"
) -> Iterator[Result]:
    """`function(*job)` for every job, in the order of the jobs, in as many processes as there are cores.

    The processes outlive a call, so each job is run in the folder that this process is in now: relative paths mean
    the same there. What `function` raises is raised here.

    Args:
        function: may hold what all jobs share, as a `functools.partial`. A job may be run twice.
        jobs: the arguments of each call.
        engine: the cores of this machine, or those of a Ray cluster.

    Raises:
        pipeline.running.ray_cluster.ClusterError: the cluster cannot be used.
    """
    if engine == "ray":
        from pipeline.running.ray_cluster import spread

        return spread(function, jobs)
    here = Path.cwd()
    with _deaf_children():
        results: Iterator[Result] = Parallel(n_jobs=-1, return_as="generator")(
            delayed(_run_in)(here, function, job) for job in jobs
        )
    return results


def through_network(
    load: Callable[[], Network],
    use: Callable[..., Result],
    jobs: Iterable[tuple[Any, ...]],
    engine: Kind = "local",
) -> Iterator[Result]:
    """`use(load(), *job)` for every job, in the order of the jobs. Networks take all cores, or a GPU, for one image.

    Args:
        load: gives the network; called once here, or once in each process of a cluster.
        use: what is done with it. A job may be run twice.
        jobs: the further arguments of each call.
        engine: this process, or a Ray cluster: there a job takes as many cores as torch has threads here, which
            gives the same bytes, or one GPU where the cluster has any.

    Raises:
        pipeline.running.ray_cluster.ClusterError: the cluster cannot be used.
    """
    if engine == "ray":
        from pipeline.running.ray_cluster import spread_network

        yield from spread_network(load, use, jobs)
        return
    network = load()
    for job in jobs:
        yield use(network, *job)


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
