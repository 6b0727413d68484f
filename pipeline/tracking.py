"""MLflow: where people look. The only importer of mlflow. Not a stage.

Results live in files; what is written here can be written again at any time. A run is found by a tag that
hashes its configuration, so that nothing is ever doubled.
"""

import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pipeline import runtime
from pipeline.processes import is_dead, this_process

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

IDENTITY = "configuration"  # the tag that a run is found by
PROCESS = "process"  # host and process id of whoever keeps the run open
TRAINING = "training"  # which training a run's curves are of
STREAM_SECONDS = 5.0
MAX_BATCH = 1000  # metrics in one call, MLflow's limit
TRAININGS = "-trainings"  # suffix of the experiment that holds curves of priors and tasks

Stream = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Row:
    """What one run shows: the unit that people compare."""

    identity: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    artifacts: tuple[Path, ...] = ()
    curve: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


class TrackingError(ValueError):
    """MLflow cannot be written to; the text names its address."""


class Store:
    """An MLflow experiment, created when it is first needed."""

    def __init__(self, experiment: str) -> None:
        self.client, self.experiment_id = _open(experiment)

    def publish(self, row: Row) -> str:
        """Write a row, into the run that has its identity or a new one; returns the run's id.

        A run that holds the curve of another training (of other code or data) is replaced.
        """
        run = self._find(row.identity)
        if run is not None and not self._continues(run, row.curve):
            self.client.delete_run(run.info.run_id)
            run = None
        run = run or self._create(row.identity, row.name, row.tags)
        id = run.info.run_id
        for name, value in {**row.tags, "mlflow.runName": row.name}.items():
            self.client.set_tag(id, name, value)
        self._log_batch(run, row)
        for path in row.artifacts:
            self.client.log_artifact(id, str(path))
        self.client.set_terminated(id, "FINISHED")
        return str(id)

    def close_dead_runs(self) -> None:
        """Mark runs as killed whose process on this machine is gone: MLflow would show them running for ever."""
        running = self.client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'")
        for run in running:
            if is_dead(run.data.tags.get(PROCESS, "")):
                self.client.set_terminated(run.info.run_id, "KILLED")

    def open_run(self, identity: str, name: str, tags: Mapping[str, str], training: str) -> "tuple[str, int]":
        """Open a run for streaming; returns its id and the last step that it already has."""
        run = self._find(identity)
        if run is not None and run.data.tags.get(TRAINING) != training:
            self.client.delete_run(run.info.run_id)
            run = None
        run = run or self._create(identity, name, {**tags, TRAINING: training})
        id = run.info.run_id
        self.client.set_tag(id, PROCESS, this_process())
        self.client.update_run(id, "RUNNING")
        return id, self._last_step(run)

    def stream(self, run_id: str, points: Mapping[int, Mapping[str, float]]) -> None:
        """Add points to a run's training curves."""
        metrics = _metrics({step: {f"training/{k}": v for k, v in values.items()} for step, values in points.items()})
        for start in range(0, len(metrics), MAX_BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + MAX_BATCH])

    def _log_batch(self, run: "Run", row: Row) -> None:
        """Log what the run does not have yet: a second value for the same thing would be a second point."""
        from mlflow.entities import Param

        params = [Param(_sanitised(k), str(v)) for k, v in row.params.items() if _sanitised(k) not in run.data.params]
        known = run.data.metrics
        metrics = {name: value for name, value in row.metrics.items() if known.get(_sanitised(name)) != value}
        self.client.log_batch(run.info.run_id, metrics=_metrics({0: metrics}), params=params)
        last = self._last_step(run)
        self.stream(run.info.run_id, {step: values for step, values in row.curve.items() if step > last})

    def _continues(self, run: "Run", curve: Mapping[int, Mapping[str, float]]) -> bool:
        """Whether what a run has of a curve is the beginning of this one (which went through a text file)."""
        history = self.client.get_metric_history(run.info.run_id, "training/loss")
        return all(
            point.step in curve and math.isclose(point.value, curve[point.step]["loss"], rel_tol=1e-4)
            for point in history
        )

    def _last_step(self, run: "Run") -> int:
        names = [name for name in run.data.metrics if name.startswith("training/")]
        history = [m.step for name in names[:1] for m in self.client.get_metric_history(run.info.run_id, name)]
        return max(history, default=0)

    def _find(self, identity: str) -> "Run | None":
        found = self.client.search_runs([self.experiment_id], f"tags.{IDENTITY} = '{identity}'", max_results=1)
        return found[0] if found else None

    def _create(self, identity: str, name: str, tags: Mapping[str, str]) -> "Run":
        return self.client.create_run(
            self.experiment_id, run_name=name, tags={PROCESS: this_process(), **tags, IDENTITY: identity}
        )


def publish(experiment: str, rows: Iterable[Row]) -> "tuple[Store, dict[str, str]]":
    """Write rows and close runs whose processes died; returns the store and the run ids by row name.

    Raises:
        TrackingError: MLflow cannot be reached or written to.
    """
    from mlflow.exceptions import MlflowException

    try:
        Store(experiment + TRAININGS).close_dead_runs()
        store = Store(experiment)
        store.close_dead_runs()
        return store, {row.name: store.publish(row) for row in rows}
    except MlflowException as error:
        raise TrackingError(
            f"MLflow at {tracking_uri()}: {str(error).splitlines()[0]}; the tables are in files, "
            "`uv run dvc repro publish` writes them to MLflow when it is back"
        ) from error


@contextmanager
def live(experiment: str, name: str, tags: Mapping[str, str], identity: str, training: str) -> Iterator[Stream]:
    """Stream training curves into a run while the training goes on. A tracker that fails never stops it.

    Args:
        experiment: the data set's name; runs that are no rows of the comparison go into `<name>-trainings`.
        name: of the run.
        tags: of the run; a `stage` tag marks one that is no row.
        identity: what the run is found by.
        training: which training this is; a run of the same identity with another one's curves is replaced.
    """
    streamer = _Streamer(experiment, name, tags, identity, training)
    try:
        yield streamer
        streamer.close("FINISHED")
    except BaseException as error:
        streamer.close("KILLED" if isinstance(error, SystemExit | KeyboardInterrupt) else "FAILED")
        raise


class _Streamer:
    """Collects points and sends them every few seconds; after a failure it warns once and is silent."""

    def __init__(self, experiment: str, name: str, tags: Mapping[str, str], identity: str, training: str) -> None:
        self._points: dict[int, dict[str, float]] = {}
        self._sent = time.monotonic()
        self._store: Store | None = None
        try:
            self._store = Store(experiment)  # the comparison comes first in the list of experiments
            if "stage" in tags:
                self._store = Store(experiment + TRAININGS)
            self._store.close_dead_runs()
            self._run, self._last = self._store.open_run(identity, name, tags, training)
        except Exception as error:
            self._give_up(error)

    def __call__(self, step: int, values: dict[str, float]) -> None:
        if self._store is None:
            return
        if step > self._last:
            self._points[step] = values
        if time.monotonic() - self._sent > STREAM_SECONDS:
            self._send()

    def close(self, status: str) -> None:
        """Send the rest and end the run."""
        self._send()
        if self._store is not None:
            try:
                self._store.client.set_terminated(self._run, status)
            except Exception as error:
                self._give_up(error)

    def _send(self) -> None:
        if self._store is None:
            return
        points, self._points = self._points, {}
        try:
            self._store.stream(self._run, points)
        except Exception as error:
            self._give_up(error)
        self._sent = time.monotonic()

    def _give_up(self, error: Exception) -> None:
        self._store = None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        logging.getLogger(__name__).warning(
            "MLflow cannot be reached (%s): the training goes on, its curves are kept in files and published later",
            reason,
        )


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or MLflow's own default: a database file in the project's root, no server."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runtime.root().resolve() / 'mlflow.db'}"


def _open(experiment: str) -> "tuple[MlflowClient, str]":
    runtime.WORK.mkdir(exist_ok=True)
    # Several processes that create the database at once would crash: MLflow has no lock of its own.
    with FileLock(runtime.WORK / "mlflow.lock"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        # Not "mlflow" itself: its own setting of levels below would win.
        for name in ("alembic", "mlflow.store.db.utils", "mlflow.store"):
            logging.getLogger(name).setLevel(logging.WARNING)
        uri = tracking_uri()
        _create_database(uri)
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        if found is not None:
            return client, str(found.experiment_id)
        location = (runtime.root().resolve() / "mlruns").as_uri() if uri.startswith("sqlite:") else None
        return client, str(client.create_experiment(experiment, artifact_location=location))


def _create_database(uri: str) -> None:
    """Make the local database under another name first: one that a kill left half made could never be opened."""
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    scratch = (runtime.WORK / "mlflow-new.db").absolute()
    scratch.unlink(missing_ok=True)
    SqlAlchemyStore(f"sqlite:///{scratch}", (runtime.root().resolve() / "mlruns").as_uri()).engine.dispose()
    scratch.rename(path)


def _metrics(points: Mapping[int, Mapping[str, float]]) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [
        Metric(_sanitised(name), float(value), now, step)
        for step, values in points.items()
        for name, value in values.items()
    ]


def _sanitised(name: str) -> str:
    """MLflow takes letters, digits, _ - . space and / in names."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def chart_link(experiment_id: str) -> str:
    """The address of the comparison's chart view; the UI opens on an empty page otherwise."""
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    base = server if server.startswith("http") else "http://127.0.0.1:5000"
    return f"{base}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&compareRunsMode=CHART"
