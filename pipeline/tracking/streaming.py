"""Training curves that stream to MLflow while the training runs.

Only this package imports mlflow. Results live in files: the stage `publish` completes every curve from its file.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pipeline.tracking.store import TRAININGS, Deleted, Point, Points, Store, now, reason, to_metrics, tracking_uri

STREAM_SECONDS = 5.0
RETRY_SECONDS = 60.0  # after a failure; meanwhile points wait in memory
CLOSE_SECONDS = 60.0  # that the end of a training waits for MLflow at most
SYSTEM_SECONDS = 5.0  # between two samples of processor, memory and GPU

Stream = Callable[[int, dict[str, float]], None]


@contextmanager
def live(
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    configuration: str,
    training: str,
    system_metrics: bool = False,
    deleted: Deleted = "restore",
    live_after: float = 0.0,
) -> Iterator[Stream]:
    """Stream a training's curve into a run. A failure of MLflow never stops the training.

    A training that ends within `live_after` seconds opens no run, and does not import MLflow, which takes seconds.

    A thread makes all calls of MLflow. The training waits for the last one only. If MLflow cannot be reached, there is
    one warning, and the thread tries again every minute; the stage `publish` sends what is missing.

    Args:
        experiment: name of the dataset. Runs that are no rows of the comparison go into `<name>-trainings`.
        name: of the run.
        tags: of the run. A tag `stage` marks a run that is no row of the comparison.
        configuration: the digest that the run is found by.
        training: digest of this training. A run with the curve of another training is replaced.
        system_metrics: whether to log the use of processor, memory, disk, network and GPU.
        deleted: what happens to an experiment that someone deleted; see `Store`.
        live_after: seconds after which the run is opened.
    """
    run_experiment = experiment + TRAININGS if "stage" in tags else experiment
    run = _Run(run_experiment, name, dict(tags), configuration, training)
    streamer = _Streamer(run, experiment, system_metrics, deleted, live_after)
    try:
        yield streamer
        streamer.close("FINISHED")
    except BaseException as error:
        streamer.close("KILLED" if isinstance(error, SystemExit | KeyboardInterrupt) else "FAILED")
        raise


@dataclass(frozen=True)
class _Run:
    """The run that a curve belongs to."""

    experiment: str
    name: str
    tags: Mapping[str, str]
    configuration: str
    training: str


class _Streamer:
    """Collects points. A thread sends them every few seconds.

    Attributes:
        waited: seconds that the training has waited for MLflow.
    """

    def __init__(self, run: _Run, comparison: str, system_metrics: bool, deleted: Deleted, live_after: float) -> None:
        self.waited = 0.0
        self._run = run
        self._comparison = comparison
        self._system_metrics = system_metrics
        self._deleted = deleted
        self._live_after = live_after
        self._began = time.perf_counter()
        self._new: Points = {}
        self._unsent: Points = {}  # only the thread uses it
        self._lock = threading.Lock()
        self._status = ""
        self._ending = threading.Event()
        self._store: Store | None = None
        self._run_id = ""
        self._last_step = 0
        self._failed: float | None = None  # when the last call failed
        self._warned = False
        self._closing = 0.0
        self._monitor: Any = None
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()
        self.waited += time.perf_counter() - self._began

    def __call__(self, step: int, values: dict[str, float]) -> None:
        started = time.perf_counter()
        with self._lock:
            self._new[step] = Point(now(), dict(values))
        self.waited += time.perf_counter() - started

    def close(self, status: str) -> None:
        """Send the remaining points and end the run with FINISHED, FAILED or KILLED."""
        self._closing = time.perf_counter()
        self._status = status
        self._ending.set()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._warn(f"no answer in {CLOSE_SECONDS:.0f} seconds")
        self.waited += time.perf_counter() - self._closing

    def _work(self) -> None:
        if self._live_after and self._ending.wait(self._live_after):
            return
        while not self._ending.is_set():
            self._attempt()
            self._ending.wait(STREAM_SECONDS)
        self._attempt()

    def _attempt(self) -> None:
        status = self._status  # read first: once it is set, no more points come
        with self._lock:
            self._unsent |= self._new
            self._new = {}
        if self._failed is not None and time.monotonic() - self._failed < RETRY_SECONDS:
            return
        try:
            self._send(status)
            self._failed = None
        except Exception as error:  # MLflow and its backends raise many types
            self._failed = time.monotonic()
            self._warn(reason(error))

    def _send(self, status: str) -> None:
        if self._store is None or self._failed is not None:
            self._open()
        assert self._store is not None
        self._unsent = {step: point for step, point in self._unsent.items() if step > self._last_step}
        self._store.stream(self._run_id, self._unsent)
        if status:
            self._end(self._store, status)

    def _open(self) -> None:
        """Find or make the run, and the last step that it has."""
        store = Store(self._comparison, self._deleted)  # the comparison comes first in the list of experiments
        if self._run.experiment != self._comparison:
            store = Store(self._run.experiment, self._deleted)
        store.close_dead_runs()
        run = self._run
        self._run_id, self._last_step = store.open_run(run.configuration, run.name, run.tags, run.training)
        self._store = store
        if self._system_metrics and self._monitor is None:
            self._monitor = _start_monitor(self._run_id)

    def _end(self, store: Store, status: str) -> None:
        if self._monitor is not None:
            self._monitor.finish()
        moment = time.perf_counter()
        waited = self.waited + (moment - self._closing)
        costs = {
            "tracking/waited_seconds": waited,
            "tracking/thread_seconds": time.thread_time(),
            "tracking/share": (waited + time.thread_time()) / (moment - self._began),
        }
        store.client.log_batch(self._run_id, metrics=to_metrics(costs))
        store.client.set_terminated(self._run_id, status)

    def _warn(self, why: str) -> None:
        if self._warned:
            return
        self._warned = True
        logging.getLogger(__name__).warning(
            "MLflow cannot be reached (%s). The training continues; the stage `publish` sends its whole curve later.",
            why,
        )


def _start_monitor(run_id: str) -> Any:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(
        run_id, sampling_interval=SYSTEM_SECONDS, resume_logging=True, tracking_uri=tracking_uri()
    )
    with suppress(RuntimeError):  # no new thread
        monitor.start()
    return monitor
