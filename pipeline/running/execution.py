"""Work on single images in parallel, on this machine or on a Ray cluster."""

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

    Each job runs in this process's working directory, also in processes that an earlier call started. Exceptions of
    `function` are raised here.

    Args:
        function: a `functools.partial` holds what all jobs share. A job may run twice.
        jobs: the arguments of each call.
        engine: the cores of this machine, or those of a Ray cluster.

    Raises:
        pipeline.running.ray_cluster.ClusterError: the cluster cannot be used.
    """
    if engine == "ray":
        from pipeline.running.ray_cluster import spread

        return spread(function, jobs)
    here = Path.cwd()
    with _children_without_sigint():
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
    """`use(load(), *job)` for every job, one after the other. A network uses all cores, or a GPU.

    Args:
        load: returns the network; called once, or once in each process of a cluster.
        use: called with the network and the job. A job may run twice.
        jobs: the other arguments of each call.
        engine: this process, or a Ray cluster. There each job gets as many cores as torch has threads here, for the
            same bytes, or one GPU if the cluster has GPUs.

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
def _children_without_sigint() -> Iterator[None]:
    """Processes that start inside ignore Ctrl-C, which a terminal sends to all processes. This process ends them."""
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
