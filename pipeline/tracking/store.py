"""MLflow experiments and their runs, which are found by the tag `configuration`."""

import logging
import math
import os
import socket
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit

from filelock import FileLock

from pipeline.running.atomic_outputs import WORK
from pipeline.running.entry import project_root

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

CONFIGURATION = "configuration"  # the tag that a run is found by
PROCESS = "process"  # the tag that names the process that writes to the run
TRAINING = "training"  # the tag with the digest of the training whose curve the run has
CURVE = "training/"  # prefix of the metrics of a curve
LOSS = f"{CURVE}loss"  # curves have it at every step, except those of YOLO networks
LONGEST_REASON = 700  # characters of MLflow's message, which often ends with the remedy
MAX_BATCH = 1000  # metrics in one call, MLflow's limit
TRAININGS = "-trainings"  # suffix of the experiment that holds curves of priors and tasks
NOISY = ("alembic", "mlflow.store.db.utils", "mlflow.store", "mlflow.system_metrics", "mlflow.pyfunc", "mlflow.utils")


# What to do about an error, by words of its message.
REMEDIES = {
    "file is not a database": "Move this file away: a new database is written",
    "malformed": "Move this file away: a new database is written",
    "is locked": "Close the other program that writes to it",
    "readonly database": "Make the file and its folder writable, or set MLFLOW_TRACKING_URI to another place",
    "unable to open database": "Make the file and its folder writable, or set MLFLOW_TRACKING_URI to another place",
    "out-of-date database schema": "Its address is {uri}. If a newer MLflow wrote it, use that version instead",
    "maintenance mode": "Or unset MLFLOW_TRACKING_URI, to use mlflow.db in the project",
    "max retries exceeded": "Start the server, or unset MLFLOW_TRACKING_URI, to use mlflow.db in the project",
    "no module named": "Install this module in the project's environment",
    "unsupported uri": "Correct MLFLOW_TRACKING_URI",
}


class Point(NamedTuple):
    """The values that a training logged at one step, and when (milliseconds since 1970)."""

    when: int
    values: Mapping[str, float]


Points = dict[int, Point]
Deleted = Literal["restore", "replace"]


class TrackingError(ValueError):
    """MLflow cannot be reached or written to. The text names its address."""


class Store:
    """An MLflow experiment, created when it is first needed.

    Args:
        experiment: its name.
        deleted: what happens if someone deleted it: "restore" brings it back with its runs; "replace" renames the
            deleted one and begins a new one.
    """

    def __init__(self, experiment: str, deleted: Deleted = "restore") -> None:
        self.client, self.experiment_id = _open(experiment, deleted)

    def find(self, configuration: str) -> "Run | None":
        """The run with this configuration."""
        runs = self.client.search_runs([self.experiment_id], f"tags.{CONFIGURATION} = '{configuration}'", max_results=1)
        return runs[0] if runs else None

    def create(self, configuration: str, name: str, tags: Mapping[str, str]) -> "Run":
        """A new run with this configuration."""
        return self.client.create_run(
            self.experiment_id, run_name=name, tags={PROCESS: _this_process(), **tags, CONFIGURATION: configuration}
        )

    def close_dead_runs(self) -> None:
        """Mark runs as killed if their process on this machine is gone. MLflow would show them as running forever."""
        running = self.client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'")
        for run in running:
            if _is_dead(run.data.tags.get(PROCESS, "")):
                self.client.set_terminated(run.info.run_id, "KILLED")

    def open_run(self, configuration: str, name: str, tags: Mapping[str, str], training: str) -> tuple[str, int]:
        """Open a run for streaming. Returns its id and the last step that it has; a new run has 0."""
        run = self.find(configuration)
        if run is not None and run.data.tags.get(TRAINING) != training:
            self.client.delete_run(run.info.run_id)
            run = None
        run = run or self.create(configuration, name, {**tags, TRAINING: training})
        run_id = str(run.info.run_id)
        self.client.set_tag(run_id, PROCESS, _this_process())
        self.client.update_run(run_id, "RUNNING")
        return run_id, max(self.steps(run_id), default=0)

    def stream(self, run_id: str, points: Points) -> None:
        """Add points to a run's curve. Points that were sent are removed from `points`, also if a later call fails."""
        while points:
            batch: list[Metric] = []
            sent: list[int] = []
            for step, point in sorted(points.items()):
                values = {f"{CURVE}{name}": value for name, value in point.values.items()}
                if sent and len(batch) + len(values) > MAX_BATCH:
                    break  # whole steps only: the last one that arrived is complete
                batch += to_metrics(values, step, point.when)
                sent.append(step)
            self.client.log_batch(run_id, metrics=batch)
            for step in sent:
                del points[step]

    def steps(self, run_id: str) -> set[int]:
        """The steps that a run's curve has."""
        return {point.step for point in self._points(run_id)}

    def continues(self, run_id: str, curve: Mapping[int, Mapping[str, float]]) -> bool:
        """Whether the points that a run has are on this curve, whose values are rounded by its file."""
        rounded = {
            (step, sanitised(CURVE + name)): value for step, values in curve.items() for name, value in values.items()
        }
        points = [point for point in self._points(run_id) if not math.isnan(point.value)]
        return all(math.isclose(rounded.get((p.step, p.key), math.nan), p.value, rel_tol=1e-4) for p in points)

    def complete(self, run_id: str, curve: Mapping[int, Mapping[str, float]]) -> None:
        """Send the steps of a curve that a run does not have yet."""
        moment, known = now(), self.steps(run_id)
        self.stream(run_id, {step: Point(moment, values) for step, values in curve.items() if step not in known})

    def _points(self, run_id: str) -> "list[Metric]":
        """The curve's points: those of the loss if there is one at every step, or of all metrics."""
        names = [name for name in self.client.get_run(run_id).data.metrics if name.startswith(CURVE)]
        names = [LOSS] if LOSS in names else names
        return [point for name in names for point in self.client.get_metric_history(run_id, name)]


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or MLflow's default: a database file in the project's folder, no server."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root().resolve() / 'mlflow.db'}"


def shown_uri() -> str:
    """MLflow's address without user and password."""
    uri = tracking_uri()
    host = urlsplit(uri).netloc
    return uri.replace(host, host.rpartition("@")[2], 1) if "@" in host else uri


def reason(error: Exception) -> str:
    """An error's message in one line, with what to do about it if that is known."""
    cause = getattr(error, "orig", None) or error  # of SQLAlchemy, whose own message has the statement
    text = " ".join(str(cause).split()) or type(cause).__name__
    remedy = next((advice for words, advice in REMEDIES.items() if words in text.lower()), "")
    text = text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
    return ". ".join(part.rstrip(".") for part in (text, remedy.format(uri=shown_uri())) if part)


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def to_metrics(values: Mapping[str, float], step: int = 0, when: int | None = None) -> "list[Metric]":
    """MLflow's objects for the values of one step."""
    from mlflow.entities import Metric

    when = now() if when is None else when
    return [Metric(sanitised(name), float(value), when, step) for name, value in values.items()]


def sanitised(name: str) -> str:
    """A metric's name with `_` for characters that MLflow rejects. It takes letters, digits, _ - . space and /."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def _open(experiment: str, deleted: Deleted) -> "tuple[MlflowClient, str]":
    work = project_root() / WORK
    work.mkdir(parents=True, exist_ok=True)
    # MLflow has no lock: several processes that create the database at once would crash.
    with FileLock(work / "mlflow.lock"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        for name in NOISY:  # not "mlflow" itself: MLflow sets the levels below it again
            logging.getLogger(name).setLevel(logging.CRITICAL if name == "mlflow.system_metrics" else logging.ERROR)
        uri = tracking_uri()
        _create_database(uri)
        client = MlflowClient(tracking_uri=uri)
        return client, _experiment(client, uri, experiment, deleted)


def _experiment(client: "MlflowClient", uri: str, name: str, deleted: Deleted) -> str:
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is not None and known.lifecycle_stage == "deleted":
        client.restore_experiment(known.experiment_id)
        if deleted == "replace":  # a name stays taken by the experiment that was deleted
            client.rename_experiment(known.experiment_id, f"{name}-deleted-{known.experiment_id}")
            client.delete_experiment(known.experiment_id)
            known = None
    if known is None:
        location = (project_root().resolve() / "mlruns").as_uri() if uri.startswith("sqlite:") else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another machine was first
            known = client.get_experiment_by_name(name)
            if known is None:
                raise
    return str(known.experiment_id)


def _create_database(uri: str) -> None:
    """Make the local database under another name first: a kill must not leave half a database."""
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    scratch = (project_root() / WORK / "mlflow-new.db").absolute()
    scratch.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    SqlAlchemyStore(f"sqlite:///{scratch}", (project_root().resolve() / "mlruns").as_uri()).engine.dispose()
    scratch.rename(path)


def _this_process() -> str:
    """A name of this process that no other process has: host, process id and start time."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start_time(os.getpid())}"


def _is_dead(process: str) -> bool:
    """Whether a process of this machine, by its name, is gone. Nothing is known of other machines' processes."""
    host, _, rest = process.partition(":")
    pid, _, started = rest.partition(":")
    return host == socket.gethostname() and pid.isdigit() and _start_time(int(pid)) != started


def _start_time(pid: int) -> str:
    """When a process started, which tells it from a later one with the same id; empty if it is gone."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def failures() -> tuple[type[Exception], ...]:
    """The errors that MLflow raises if it cannot be reached or written to."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, RequestException, SQLAlchemyError, OSError, ImportError
