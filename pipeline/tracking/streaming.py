"""MLflow: where people look. Trainings stream their curves into it from here. Not a stage.

Only this room imports mlflow. Results live in files; what is written to MLflow can
be written again at any time. A run is found by a tag that hashes its configuration, so that nothing is ever doubled.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from pipeline.tracking import outbox
from pipeline.tracking.outbox import Destination
from pipeline.tracking.store import TRAININGS, Point, Points, Store, now, reason, to_metrics, tracking_uri

STREAM_SECONDS = 5.0
RETRY_SECONDS = 60.0  # after a failure; meanwhile points are kept in a file
CLOSE_SECONDS = 60.0  # that the end of a training waits for MLflow at the most
SYSTEM_SECONDS = 5.0  # between two samples of processor, memory and GPU

Stream = Callable[[int, dict[str, float]], None]


@contextmanager
def live(
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    identity: str,
    training: str,
    system_metrics: bool = False,
) -> Iterator[Stream]:
    """Stream training curves into a run while the training goes on. A tracker that fails never stops it.

    All calls of MLflow are made in a thread: the training waits for none of them, but at its end for the last.
    What cannot be sent is kept in a file, `python -m pipeline.publish --sync` or the next publish sends it.

    Args:
        experiment: the data set's name; runs that are no rows of the comparison go into `<name>-trainings`.
        name: of the run.
        tags: of the run; a `stage` tag marks one that is no row.
        identity: what the run is found by.
        training: which training this is; a run of the same identity with another one's curves is replaced.
        system_metrics: whether use of processor, memory, disk, network and GPU are logged, too.
    """
    owner = experiment + TRAININGS if "stage" in tags else experiment
    streamer = _Streamer(Destination(owner, name, dict(tags), identity, training), experiment, system_metrics)
    try:
        yield streamer
        streamer.close("FINISHED")
    except BaseException as error:
        streamer.close("KILLED" if isinstance(error, SystemExit | KeyboardInterrupt) else "FAILED")
        raise


class _Streamer:
    """Collects points; a thread sends them every few seconds. After a failure it warns once and keeps them in a file.

    Attributes:
        waited: seconds that the training has waited for MLflow.
    """

    def __init__(self, run: Destination, comparison: str, system_metrics: bool) -> None:
        self.waited = 0.0
        self._run = run
        self._comparison = comparison
        self._system_metrics = system_metrics
        self._began = time.perf_counter()
        self._new: Points = {}
        self._unsent: Points = {}  # the thread's own
        self._lock = threading.Lock()
        self._status = ""
        self._ending = threading.Event()
        self._store: Store | None = None
        self._run_id = ""
        self._last = 0
        self._failed: float | None = None  # when the last call failed
        self._warned = False
        self._keeps = False  # whether the file has this process's points
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
        """Send the rest and end the run, or keep what an address that does not answer leaves unsent."""
        self._closing = time.perf_counter()
        self._status = status
        self._ending.set()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._warn(f"no answer in {CLOSE_SECONDS:.0f} seconds")
            self._keep({**self._unsent, **self._new}, status)
        self.waited += time.perf_counter() - self._closing

    def _work(self) -> None:
        delay = 0.0
        while not self._ending.wait(delay):
            self._attempt()
            delay = STREAM_SECONDS
        self._attempt()

    def _attempt(self) -> None:
        status = self._status  # read first: when there is one, no more points come
        with self._lock:
            self._unsent |= self._new
            self._new = {}
        if self._failed is None or time.monotonic() - self._failed > RETRY_SECONDS:
            try:
                self._send(status)
                self._failed = None
            except Exception as error:  # whatever MLflow and its address do
                self._failed = time.monotonic()
                self._warn(reason(error))
        if self._failed is not None:
            self._keep(self._unsent, status)
            self._unsent = {}

    def _keep(self, points: Points, status: str) -> None:
        begins, self._keeps = not self._keeps, True
        outbox.keep(self._run, points, status, begins)

    def _send(self, status: str) -> None:
        if self._store is None or self._failed is not None:
            self._open()
        assert self._store is not None
        self._unsent = {step: point for step, point in self._unsent.items() if step > self._last}
        self._store.stream(self._run_id, self._unsent)
        outbox.forget(self._run)
        self._keeps = False
        if status:
            self._end(self._store, status)

    def _open(self) -> None:
        """Find or make the run; points that an earlier failure left in a file come first."""
        store = Store(self._comparison)  # the comparison comes first in the list of experiments
        if self._run.experiment != self._comparison:
            store = Store(self._run.experiment)
        store.close_dead_runs()
        run = self._run
        self._run_id, self._last = store.open_run(run.identity, run.name, run.tags, run.training)
        self._unsent = outbox.take_over(run) | self._unsent
        self._store = store
        if self._system_metrics:
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
            "MLflow cannot be reached (%s): the training goes on; its curves are kept in a file, "
            "`python -m pipeline.publish --sync` sends them later",
            why,
        )


def _start_monitor(run_id: str) -> Any:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(
        run_id, sampling_interval=SYSTEM_SECONDS, resume_logging=True, tracking_uri=tracking_uri()
    )
    with suppress(RuntimeError):  # no thread to be had
        monitor.start()
    return monitor
