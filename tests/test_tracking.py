import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import tracking
from pipeline.tracking import Row, Store, TrackingError, live, publish

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its database's own


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def _row(artifact: Path, **metrics: float) -> Row:
    return Row(
        identity="abc",
        name="fog · pixel",
        tags={"degradation": "fog"},
        params={"train_restorer.steps": 3},
        metrics=metrics,
        artifacts=(artifact,),
        curve={1: {"loss": 0.5}, 2: {"loss": 0.25}},
    )


def test_publishing_twice_gives_one_run(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("words")
    store = Store("toy")
    ids = {store.publish(_row(tmp_path / "report.md", **{"detection/mAP50-95": value})) for value in (0.1, 0.2)}
    runs = store.client.search_runs([store.experiment_id])
    assert len(ids) == len(runs) == 1
    run = runs[0]
    assert run.data.metrics["detection/mAP50-95"] == 0.2
    assert run.data.params == {"train_restorer.steps": "3"}
    assert run.info.status == "FINISHED" and run.info.run_name == "fog · pixel"
    history = store.client.get_metric_history(run.info.run_id, "training/loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25)]
    assert [entry.path for entry in store.client.list_artifacts(run.info.run_id)] == ["report.md"]


def test_a_streamed_training_is_the_run_that_is_published(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("words")
    with live("toy", "fog · pixel", {}, "abc", "first") as stream:
        stream(1, {"loss": 0.5})
    store = Store("toy")
    store.publish(_row(tmp_path / "report.md"))
    (run,) = store.client.search_runs([store.experiment_id])
    history = store.client.get_metric_history(run.info.run_id, "training/loss")
    assert [point.step for point in history] == [1, 2]


def test_a_resumed_training_streams_no_step_twice() -> None:
    for steps in ((1, 2, 3), (2, 3, 4)):
        with live("toy", "a", {}, "abc", "first") as stream:
            for step in steps:
                stream(step, {"loss": 1.0 / step})
    store = Store("toy")
    (run,) = store.client.search_runs([store.experiment_id])
    assert [p.step for p in store.client.get_metric_history(run.info.run_id, "training/loss")] == [1, 2, 3, 4]


def test_another_training_of_the_same_row_replaces_its_run(tmp_path: Path) -> None:
    with live("toy", "a", {}, "abc", "first") as stream:
        stream(1, {"loss": 0.9})
    with live("toy", "a", {}, "abc", "second") as stream:
        stream(1, {"loss": 0.5})
    store = Store("toy")
    (run,) = store.client.search_runs([store.experiment_id])
    assert [p.value for p in store.client.get_metric_history(run.info.run_id, "training/loss")] == [0.5]
    (tmp_path / "report.md").write_text("words")
    row = _row(tmp_path / "report.md")
    store.publish(replace(row, curve={1: {"loss": 0.7}}))
    (run,) = store.client.search_runs([store.experiment_id])
    assert [p.value for p in store.client.get_metric_history(run.info.run_id, "training/loss")] == [0.7]


def test_the_same_scores_twice_are_one_point(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("words")
    store = Store("toy")
    for _ in range(2):
        id = store.publish(_row(tmp_path / "report.md", **{"detection/mAP50": 0.5}))
    assert len(store.client.get_metric_history(id, "detection/mAP50")) == 1


def test_publishing_to_nowhere_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:9: .*dvc repro publish"):
        publish("toy", [])


def test_a_failing_training_is_marked_as_failed() -> None:
    with pytest.raises(RuntimeError), live("toy", "a", {}, "abc", "first"):
        raise RuntimeError
    (run,) = Store("toy").client.search_runs([Store("toy").experiment_id])
    assert run.info.status == "FAILED"


def test_a_run_whose_process_was_killed_does_not_stay_running() -> None:
    code = (
        "import os, signal\nfrom pipeline.tracking import live\n"
        "with live('toy', 'a', {}, 'abc', 'first'):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    store = Store("toy")
    assert [run.info.status for run in store.client.search_runs([store.experiment_id])] == ["RUNNING"]
    store.close_dead_runs()
    assert [run.info.status for run in store.client.search_runs([store.experiment_id])] == ["KILLED"]


def test_a_living_process_keeps_its_run_open() -> None:
    with live("toy", "a", {}, "abc", "first"):
        store = Store("toy")
        store.close_dead_runs()
        assert [run.info.status for run in store.client.search_runs([store.experiment_id])] == ["RUNNING"]


def test_an_unreachable_server_is_a_warning_and_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING), live("toy", "a", {}, "abc", "first") as stream:
        stream(1, {"loss": 1.0})
        stream(2, {"loss": 0.5})
    assert sum("the training goes on" in record.message for record in caplog.records) == 1


def test_the_store_is_mlflows_default_in_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking.tracking_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("DVC_ROOT", "/somewhere")
    assert tracking.tracking_uri() == "sqlite:////somewhere/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example")
    assert tracking.tracking_uri() == "http://example"


def test_several_processes_can_create_the_store_at_once() -> None:
    code = "from pipeline.tracking import Store\nStore('toy')\n"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=env) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]


def test_names_that_mlflow_refuses() -> None:
    assert tracking._sanitised("mAP@50(B) a/b-c.d_e") == "mAP_50_B_ a/b-c.d_e"
