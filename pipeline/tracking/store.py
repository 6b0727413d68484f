"""Experiments and runs in MLflow, found again by an identity tag. Not a stage."""

import logging
import math
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from filelock import FileLock

from pipeline.running.atomic_outputs import WORK
from pipeline.running.entry import project_root
from pipeline.running.processes import is_dead, this_process

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

IDENTITY = "configuration"  # the tag that a run is found by
PROCESS = "process"  # host and process id of whoever keeps the run open
TRAINING = "training"  # which training a run's curves are of
CURVE = "training/"  # what the names of curves begin with
LOSS = f"{CURVE}loss"  # a restorer's, a segmenter's or a prior's training has it at every step
LONGEST_REASON = 160  # characters of MLflow's message
MAX_BATCH = 1000  # metrics in one call, MLflow's limit
TRAININGS = "-trainings"  # suffix of the experiment that holds curves of priors and tasks
NOISY = ("alembic", "mlflow.store.db.utils", "mlflow.store", "mlflow.system_metrics", "mlflow.pyfunc", "mlflow.utils")


class Point(NamedTuple):
    """What a training logged at one step, and when (milliseconds since 1970)."""

    when: int
    values: Mapping[str, float]


Points = dict[int, Point]


class TrackingError(ValueError):
    """MLflow cannot be written to; the text names its address."""


class Store:
    """An MLflow experiment, created when it is first needed."""

    def __init__(self, experiment: str) -> None:
        self.client, self.experiment_id = _open(experiment)

    def find(self, identity: str) -> "Run | None":
        """The run of an identity."""
        found = self.client.search_runs([self.experiment_id], f"tags.{IDENTITY} = '{identity}'", max_results=1)
        return found[0] if found else None

    def create(self, identity: str, name: str, tags: Mapping[str, str]) -> "Run":
        """A new run of an identity."""
        return self.client.create_run(
            self.experiment_id, run_name=name, tags={PROCESS: this_process(), **tags, IDENTITY: identity}
        )

    def close_dead_runs(self) -> None:
        """Mark runs as killed whose process on this machine is gone: MLflow would show them running for ever."""
        running = self.client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'")
        for run in running:
            if is_dead(run.data.tags.get(PROCESS, "")):
                self.client.set_terminated(run.info.run_id, "KILLED")

    def open_run(self, identity: str, name: str, tags: Mapping[str, str], training: str) -> tuple[str, int]:
        """Open a run for streaming; returns its id and the last step that it already has."""
        run = self.find(identity)
        if run is not None and run.data.tags.get(TRAINING) != training:
            self.client.delete_run(run.info.run_id)
            run = None
        run = run or self.create(identity, name, {**tags, TRAINING: training})
        id = str(run.info.run_id)
        self.client.set_tag(id, PROCESS, this_process())
        self.client.update_run(id, "RUNNING")
        return id, max(self.steps(id), default=0)

    def stream(self, run_id: str, points: Points) -> None:
        """Add points to a run's training curves. What is sent is taken out of `points`, also before a failure."""
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
        """The steps that a run's training curves have."""
        names = [name for name in self.client.get_run(run_id).data.metrics if name.startswith(CURVE)]
        names = [LOSS] if LOSS in names else names  # a detector's training has several losses, none of this name
        return {point.step for name in names for point in self.client.get_metric_history(run_id, name)}

    def continues(self, run_id: str, curve: Mapping[int, Mapping[str, float]]) -> bool:
        """Whether what a run has of a curve is the beginning of this one (which went through a text file)."""
        return all(
            point.step in curve and math.isclose(point.value, curve[point.step]["loss"], rel_tol=1e-4)
            for point in self.client.get_metric_history(run_id, LOSS)
        )


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or MLflow's own default: a database file in the project's root, no server."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root().resolve() / 'mlflow.db'}"


def shown_uri() -> str:
    """The address of MLflow without what must not be shown: user and password."""
    uri = tracking_uri()
    host = urlsplit(uri).netloc
    return uri.replace(host, host.rpartition("@")[2], 1) if "@" in host else uri


def reason(error: Exception) -> str:
    """Why a call failed, in one line of bearable length."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def to_metrics(values: Mapping[str, float], step: int = 0, when: int | None = None) -> "list[Metric]":
    """MLflow's objects for the values of one step."""
    from mlflow.entities import Metric

    when = now() if when is None else when
    return [Metric(sanitised(name), float(value), when, step) for name, value in values.items()]


def sanitised(name: str) -> str:
    """MLflow takes letters, digits, _ - . space and / in names."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def _open(experiment: str) -> "tuple[MlflowClient, str]":
    work = project_root() / WORK
    work.mkdir(parents=True, exist_ok=True)
    # Several processes that create the database at once would crash: MLflow has no lock of its own.
    with FileLock(work / "mlflow.lock"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        for name in NOISY:  # not "mlflow" itself: its own setting of levels below would win
            logging.getLogger(name).setLevel(logging.CRITICAL if name == "mlflow.system_metrics" else logging.ERROR)
        uri = tracking_uri()
        _create_database(uri)
        client = MlflowClient(tracking_uri=uri)
        return client, _experiment(client, uri, experiment)


def _experiment(client: "MlflowClient", uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = (project_root().resolve() / "mlruns").as_uri() if uri.startswith("sqlite:") else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another machine was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _create_database(uri: str) -> None:
    """Make the local database under another name first: one that a kill left half made could never be opened."""
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    scratch = (project_root() / WORK / "mlflow-new.db").absolute()
    scratch.unlink(missing_ok=True)
    SqlAlchemyStore(f"sqlite:///{scratch}", (project_root().resolve() / "mlruns").as_uri()).engine.dispose()
    scratch.rename(path)


def failures() -> tuple[type[Exception], ...]:
    """What a call of MLflow raises where it cannot be reached or written to."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    return MlflowException, RequestException, OSError
