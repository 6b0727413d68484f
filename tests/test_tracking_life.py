"""What happens to MLflow's store in people's hands: one line each, with what to do."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.tracking.runs import Report, Row, TrackingError, publish
from pipeline.tracking.store import Store, failures, reason

pytestmark = pytest.mark.filterwarnings("ignore")
ROW = Row("c0", "fog · pixel", {}, {"seed": 0}, {"detection/mAP50": 0.5})


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_database: Path) -> Path:
    """A folder of its own with a copy of the empty database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copyfile(mlflow_database, "mlflow.db")
    return tmp_path


def _publish(folder: Path, deleted: str = "restore") -> str:
    (folder / "report").mkdir(exist_ok=True)
    (folder / "report" / "report.md").write_text("words")
    report = Report("r0", "report of scenes", {}, {}, folder / "report")
    return publish("scenes", [ROW], report, deleted=deleted).experiment  # type: ignore[arg-type]


def _runs(experiment: str) -> int:
    return len(Store("scenes").client.search_runs([experiment]))


def test_a_deleted_experiment_comes_back_with_its_runs(project: Path) -> None:
    experiment = _publish(project)
    store = Store("scenes")
    store.client.delete_experiment(experiment)
    assert _publish(project) == experiment and _runs(experiment) == 1


def test_a_deleted_experiment_is_replaced_if_the_setting_says_so(project: Path) -> None:
    experiment = _publish(project)
    for name in ("scenes", "scenes-report", "scenes-trainings"):
        client = Store(name).client
        found = client.get_experiment_by_name(name)
        assert found is not None
        client.delete_experiment(found.experiment_id)
    fresh = _publish(project, "replace")
    assert fresh != experiment and _runs(fresh) == 1
    old = Store("scenes").client.get_experiment(experiment)
    assert (old.name, old.lifecycle_stage) == (f"scenes-deleted-{experiment}", "deleted")


def test_a_database_in_a_new_folder_is_created(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///sub/mine.db")
    _publish(project)
    assert (project / "sub" / "mine.db").is_file()


def _no_database(project: Path) -> None:
    (project / "mlflow.db").write_bytes(b"no database" * 400)


def _other_schema(project: Path) -> None:
    _publish(project)
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = 'acf3f17fdcc7'")
    database.close()
    (project / "mlflow.db").rename(project / "older.db")  # MLflow checks a database once in a process
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{project / 'older.db'}"


def _file_store(project: Path) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = "file:./mlruns-files"


def _no_server(project: Path) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"


STATES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no database": (_no_database, "file is not a database. Move this file away: a new database is written"),
    "other schema": (_other_schema, "then run 'mlflow db upgrade <database_uri>'"),
    "file store": (_file_store, "`mlflow migrate-filestore`"),
    "no server": (_no_server, "Start the server, or unset MLFLOW_TRACKING_URI"),
}


@pytest.mark.parametrize("state", STATES)
def test_a_store_that_cannot_be_used_is_one_line_with_the_way_out(
    state: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    break_store, message = STATES[state]
    break_store(project)
    with pytest.raises(TrackingError) as caught:
        _publish(project)
    text = str(caught.value)
    assert text.startswith("MLflow at ") and message in text and "\n" not in text
    assert text.endswith(". Then run `uv run dvc repro publish`: the results are in files.")


def test_a_locked_and_a_readonly_database_are_named() -> None:
    from sqlalchemy.exc import OperationalError

    for words, remedy in (
        ("database is locked", "database is locked. Close the other program that writes to it"),
        ("attempt to write a readonly database", "Make the file and its folder writable, or set MLFLOW_TRACKING_URI"),
        ("unable to open database file", "Make the file and its folder writable"),
    ):
        error = OperationalError("SELECT 1", {}, sqlite3.OperationalError(words))
        assert isinstance(error, failures()) and remedy in reason(error) and "SELECT" not in reason(error)
    assert reason(ModuleNotFoundError("No module named 'psycopg'")).endswith(
        "Install this module in the project's environment"
    )
