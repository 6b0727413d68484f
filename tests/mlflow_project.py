"""A project of its own with an empty MLflow database, for tests, and what is read from it."""

import shutil
from pathlib import Path

import pytest

from pipeline.tracking.store import Store

NOWHERE = "http://127.0.0.1:9"


def make_database(folder: Path) -> Path:
    """A new database, with an experiment that no test uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        Store("other")
    return folder / "mlflow.db"


def enter_project(folder: Path, database: Path, patch: pytest.MonkeyPatch) -> None:
    """Make a folder the project's root, with a copy of the database."""
    patch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        patch.delenv(name, raising=False)
    patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    shutil.copyfile(database, "mlflow.db")


def losses(store: Store) -> dict[int, float]:
    """The curve of the only run."""
    (run,) = store.client.search_runs([store.experiment_id])
    history = store.client.get_metric_history(run.info.run_id, "training/loss")
    assert len(history) == len({point.step for point in history}), "a step twice"
    return {point.step: point.value for point in history}


def statuses(experiment: str = "toy") -> list[str]:
    """Of all runs."""
    store = Store(experiment)
    return [run.info.status for run in store.client.search_runs([store.experiment_id])]
