"""Work on images in parallel: in processes or threads of this machine, through a network, or on a Ray cluster.

A Ray cluster needs a file system that all its machines share. Jobs are sent in chunks, a few for each core at a time,
so that memory use does not grow with their number. The chunks of a worker or machine that dies run again elsewhere.
"""

import logging
import os
import signal
import sys
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from joblib import Parallel, cpu_count, delayed

from pipeline.running.entry import FOLDERS, QUIET, quieten
from pipeline.settings.plugins import PROJECT

CHUNK = 8  # jobs for each message to a worker
AHEAD = 2  # jobs in threads, or chunks sent, for each core
RETRIES = 5  # of a chunk whose worker or machine died
PATIENCE = 20  # seconds that chunks get to end after an error

Kind = Literal["local", "ray"]
Network = TypeVar("Network")
Input = TypeVar("Input")
Output = TypeVar("Output")
Result = TypeVar("Result")


class ClusterError(RuntimeError):
    """Work that cannot run on a Ray cluster. The text is one line that says why and what to do."""


def in_parallel(
    function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], engine: Kind = "local"
) -> Iterator[Result]:
    """`function(*job)` for every job, in the order of the jobs, in as many processes as there are cores.

    Each job runs in this process's working directory. Exceptions of `function` are raised here.

    Args:
        function: called in another process. It may run twice for a job. Use `functools.partial` for what all
            jobs share.
        jobs: the arguments of each call.
        engine: the cores of this machine, or those of a Ray cluster.

    Raises:
        ClusterError: no Ray, no address, no cluster there, or it has lost too many workers.
    """
    if engine == "ray":
        return _cluster_results(_connected(), function, jobs, cpus=1, gpus=0)
    here = Path.cwd()
    with _children_without_sigint():
        results: Iterator[Result] = Parallel(n_jobs=-1, return_as="generator")(
            delayed(_run_in)(here, function, job) for job in jobs
        )
    return results


def in_threads(function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
    """`function(*job)` for every job, in the order of the jobs, in as many threads as there are cores.

    For functions that mostly run outside of Python, such as OpenCV's. The jobs are drawn in the calling thread, two
    for each core ahead, so that memory use does not grow with their number. Exceptions of `function` are raised here.
    """
    threads = cpu_count()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(function, *job))
                if len(waiting) > AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def through_network(
    load: Callable[[], Network],
    read: Callable[..., Input],
    use: Callable[[Network, Input], Output],
    write: Callable[[Output], Result],
    jobs: Iterable[tuple[Any, ...]],
    engine: Kind = "local",
) -> Iterator[Result]:
    """`write(use(load(), read(*job)))` for every job, in the order of the jobs.

    The network runs on one job after the other, with all cores or a GPU. Other threads read the next jobs and write
    the last ones meanwhile.

    Args:
        load: returns the network; called once, or once in each process of a cluster.
        read: the network's input for a job, such as the images of a batch.
        use: called with the network and its input.
        write: called with what `use` returned. `read`, `use` and `write` may run twice for a job.
        jobs: the arguments of each call of `read`.
        engine: this process, or a Ray cluster. There each job gets as many cores as torch has threads here, for the
            same bytes, or one GPU if the cluster has GPUs.

    Raises:
        ClusterError: no Ray, no address, no cluster there, or it has lost too many workers.
    """
    if engine == "ray":
        yield from _through_cluster(load, partial(_read_use_write, read, use, write), jobs)
        return
    network = load()
    outputs = ((use(network, network_input),) for network_input in in_threads(read, jobs))
    yield from in_threads(write, outputs)


def _read_use_write(
    read: Callable[..., Input],
    use: Callable[[Network, Input], Output],
    write: Callable[[Output], Result],
    network: Network,
    *job: Any,
) -> Result:
    return write(use(network, read(*job)))


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


def _through_cluster(
    load: Callable[[], Network], use: Callable[..., Result], jobs: Iterable[tuple[Any, ...]]
) -> Iterator[Result]:
    """As `through_network`, on a Ray cluster: every worker loads the network once."""
    import torch

    ray, threads = _connected(), torch.get_num_threads()
    largest = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    gpus = int(ray.cluster_resources().get("GPU", 0) >= 1)
    function = partial(_use, uuid.uuid4().hex, load, use, threads)
    cpus = 1 if gpus else max(1, min(threads, int(largest)))
    return _cluster_results(ray, function, jobs, cpus=cpus, gpus=gpus, chunk=1)  # a job is a batch of images


def _cluster_results(
    ray: Any, function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], cpus: int, gpus: int, chunk: int = CHUNK
) -> Iterator[Result]:
    """The results in the order of the jobs, of which each message has `chunk`. After an error none keeps running.

    The few chunks that were sent ahead then run to their end. To cancel one that ends at that moment can abort the
    whole process in Ray (its task manager checks a state that the cancellation has just changed).
    """
    shared = ray.put((Path.cwd(), function))
    run = ray.remote(_run_chunk).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
    waiting: deque[Any] = deque()
    chunks = _chunks(iter(jobs), chunk)
    try:
        while True:
            room = max(1, AHEAD * int(ray.cluster_resources().get("CPU", 1)) // cpus) - len(waiting)
            waiting.extend(run.remote(shared, sent) for sent in islice(chunks, max(room, 0)))
            if not waiting:
                return
            yield from _fetched(ray, waiting[0])
            waiting.popleft()
    finally:
        if waiting:  # they may write into folders that are about to be removed
            ray.wait(list(waiting), num_returns=len(waiting), timeout=PATIENCE, fetch_local=False)


def _chunks(jobs: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    while chunk := list(islice(jobs, size)):
        yield chunk


def _fetched(ray: Any, reference: Any) -> list[Any]:
    try:
        results: list[Any] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # the function's exception, as if it had run here
    except ray.exceptions.RayError as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ClusterError(
            f"engine: ray: the cluster lost the same jobs {RETRIES + 1} times ({type(error).__name__}: {reason}). "
            "Check the memory and disks of its machines (`ray status`), then run the command again; finished work is "
            "kept."
        ) from error
    return results


def _connected() -> Any:
    """The module `ray`, connected to the cluster at RAY_ADDRESS.

    Raises:
        ClusterError: there is no Ray, no address or no cluster.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        raise ClusterError(
            "params.yaml: engine: ray needs the cluster's address in the environment. Set RAY_ADDRESS to the "
            "address of the head, such as 10.0.0.1:6379, to `auto` on a machine of the cluster, or to `local` for this "
            "machine alone."
        )
    quieten()  # first: Ray reads these variables when it is imported
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            "params.yaml: engine: ray needs Ray, which is not installed. Run `uv sync --group scale`, or "
            "set engine: local."
        ) from error
    if not ray.is_initialized():
        _connect(ray, address)
    return ray


def _connect(ray: Any, address: str) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": _environment()},
            **options,
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ClusterError(
            f"engine: ray: no cluster at RAY_ADDRESS={address} ({reason}). Start one with `ray start --head`, with "
            f"the same version of Ray and Python {sys.version.split()[0]}, or set engine: local."
        ) from error
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray replaces it


def _environment() -> dict[str, str]:
    """The variables that a worker needs to run this project's code as this process does."""
    quiet = {name: os.environ[name] for name in (*QUIET, *FOLDERS) if name in os.environ}
    return {**quiet, "PYTHONPATH": os.pathsep.join([str(PROJECT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])}


def _run_chunk(shared: tuple[Path, Callable[..., Result]], jobs: list[tuple[Any, ...]]) -> list[Result]:
    """In a worker: run jobs in the working directory of the process that sent them."""
    folder, function = shared
    os.chdir(folder)
    return [function(*job) for job in jobs]


_loaded: dict[str, Any] = {}  # in a worker: the network of the last call


def _use(key: str, load: Callable[[], Network], use: Callable[..., Result], threads: int, *job: Any) -> Result:
    """In a worker: run a job with a network that is loaded once, with the sender's number of threads."""
    if key not in _loaded:
        import torch

        torch.set_num_threads(threads)
        _loaded.clear()
        _loaded[key] = load()
    return use(_loaded[key], *job)
