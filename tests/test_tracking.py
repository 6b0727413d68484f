import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import tracking, tracking_outbox, tracking_store
from pipeline.tracking import live
from pipeline.tracking_store import Store

ROOT = Path(__file__).parents[1]
NOWHERE = "http://127.0.0.1:9"
pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its database's own


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: it takes a second or more."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        Store("other")
    return path


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    shutil.copyfile(empty_database, "mlflow.db")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def _losses(store: Store) -> dict[int, float]:
    (run,) = store.client.search_runs([store.experiment_id])
    history = store.client.get_metric_history(run.info.run_id, "training/loss")
    assert len(history) == len({point.step for point in history}), "a step twice"
    return {point.step: point.value for point in history}


def _statuses(experiment: str = "toy") -> list[str]:
    store = Store(experiment)
    return [run.info.status for run in store.client.search_runs([store.experiment_id])]


def _soon(holds: Callable[[], bool]) -> None:
    for _ in range(300):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("not within half a minute")


def test_a_resumed_training_streams_no_step_twice() -> None:
    for steps in ((1, 2, 3), (2, 3, 4)):
        with live("toy", "a", {}, "abc", "first") as stream:
            for step in steps:
                stream(step, {"loss": 1.0 / step})
    assert _losses(Store("toy")) == {step: 1 / step for step in (1, 2, 3, 4)}
    assert _statuses() == ["FINISHED"]


def test_another_training_of_the_same_row_replaces_its_run() -> None:
    for training, loss in (("first", 0.9), ("second", 0.5)):
        with live("toy", "a", {}, "abc", training) as stream:
            stream(1, {"loss": loss})
    assert _losses(Store("toy")) == {1: 0.5}


def test_curves_of_stages_go_beside_the_comparison() -> None:
    with live("toy", "prior", {"stage": "train_prior"}, "abc", "first") as stream:
        stream(1, {"loss": 1.0})
    assert _losses(Store("toy-trainings")) == {1: 1.0}
    assert _statuses() == []


def test_the_training_does_not_wait_and_what_it_cost_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: Store, run_id: str, points: tracking_store.Points) -> None:
        time.sleep(0.3)
        sending(self, run_id, points)

    sending = Store.stream
    Store("toy")  # so that the database is there
    monkeypatch.setattr(Store, "stream", slow)
    monkeypatch.setattr(tracking, "STREAM_SECONDS", 0.05)
    with live("toy", "a", {}, "abc", "first") as stream:
        for step in range(1, 101):
            stream(step, {"loss": 1.0})
            time.sleep(0.01)
        waited = stream.waited  # type: ignore[attr-defined]
    assert waited < 0.1
    assert len(_losses(Store("toy"))) == 100
    store = Store("toy")
    (run,) = store.client.search_runs([store.experiment_id])
    costs = {name: run.data.metrics[f"tracking/{name}"] for name in ("waited_seconds", "thread_seconds", "share")}
    assert waited < costs["waited_seconds"] < 2  # with what the end waits for
    assert 0 < costs["thread_seconds"] < 3
    assert 0 < costs["share"] < 1


def test_no_random_number_of_a_training_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def states() -> tuple[object, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    for uri in ("", NOWHERE):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")  # as the stages set it
        with live("toy", "a", {}, "abc", "first") as stream:
            stream(1, {"loss": 1.0})
    assert states() == before


def test_many_points_are_sent_in_whole_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_store, "MAX_BATCH", 5)
    store = Store("toy")
    id, _ = store.open_run("abc", "a", {}, "first")
    points = {step: tracking_store.Point(step, {"loss": 1.0, "pixel": 2.0}) for step in range(1, 8)}
    batches: list[int] = []
    log_batch = store.client.log_batch

    def counted(run_id: str, metrics: list[object]) -> None:
        batches.append(len(metrics))
        log_batch(run_id, metrics=metrics)

    monkeypatch.setattr(store.client, "log_batch", counted)
    store.stream(id, points)
    assert batches == [4, 4, 4, 2] and not points
    assert store.steps(id) == set(range(1, 8))


def test_a_failing_training_is_marked_as_failed() -> None:
    with pytest.raises(RuntimeError), live("toy", "a", {}, "abc", "first"):
        raise RuntimeError
    assert _statuses() == ["FAILED"]


def test_a_stopped_training_is_marked_as_killed() -> None:
    with pytest.raises(SystemExit), live("toy", "a", {}, "abc", "first"):
        raise SystemExit
    assert _statuses() == ["KILLED"]


def test_a_run_whose_process_was_killed_does_not_stay_running() -> None:
    Store("toy")
    code = (
        "import os, signal, time\nfrom pipeline.tracking import live\n"
        "with live('toy', 'a', {}, 'abc', 'first') as stream:\n"
        "    while not stream._run_id: time.sleep(0.1)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert _statuses() == ["RUNNING"]
    Store("toy").close_dead_runs()
    assert _statuses() == ["KILLED"]


def test_a_living_process_keeps_its_run_open() -> None:
    with live("toy", "a", {}, "abc", "first"):
        _soon(lambda: _statuses() == ["RUNNING"])
        Store("toy").close_dead_runs()
        assert _statuses() == ["RUNNING"]


def test_system_metrics_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "SYSTEM_SECONDS", 0.2)
    for identity, wanted in (("with", True), ("without", False)):
        with live("toy", identity, {}, identity, "first", wanted) as stream:
            stream(1, {"loss": 1.0})
            _soon(lambda: bool(stream._run_id))  # type: ignore[attr-defined]
            time.sleep(1.5 * wanted)
    store = Store("toy")
    runs = {run.info.run_name: run.data.metrics for run in store.client.search_runs([store.experiment_id])}
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(runs["with"])
    assert not [name for name in runs["without"] if name.startswith("system/")]


def test_an_unreachable_server_is_one_warning_and_a_file_that_is_sent_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    with caplog.at_level(logging.WARNING), live("toy", "a", {"degradation": "fog"}, "abc", "first") as stream:
        stream(1, {"loss": 1.0})
        stream(2, {"loss": 0.5})
    assert sum("the training goes on" in record.message for record in caplog.records) == 1
    assert len(caplog.records) == 1
    (kept,) = tracking_outbox.waiting()
    assert {step: point.values for step, point in kept.points.items()} == {1: {"loss": 1.0}, 2: {"loss": 0.5}}
    assert kept.status == "FINISHED"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert list(tracking_outbox.send_all()) == [] and tracking_outbox.elsewhere() == {NOWHERE: 1}
    content = kept.path.read_text().replace(NOWHERE, tracking_store.shown_uri())
    for _ in range(2):  # the second time as if the first had been stopped before it removed the file
        kept.path.write_text(content)
        assert list(tracking_outbox.send_all()) == ["a"]
        assert _losses(Store("toy")) == {1: 1.0, 2: 0.5} and _statuses() == ["FINISHED"]
    assert tracking_outbox.waiting() == []


def test_a_resumed_training_takes_what_was_not_sent_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    with pytest.raises(SystemExit), live("toy", "a", {}, "abc", "first") as stream:
        stream(1, {"loss": 1.0})
        raise SystemExit
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with live("toy", "a", {}, "abc", "first") as stream:
        stream(2, {"loss": 0.5})
    assert _losses(Store("toy")) == {1: 1.0, 2: 0.5}
    assert not list((tmp_path / "work" / "unsent").iterdir())


def test_what_another_training_left_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    for training, step in (("zeroth", 8), ("first", 7)):
        with live("toy", "a", {}, "abc", training) as stream:
            stream(step, {"loss": 1.0})
    (kept,) = tracking_outbox.waiting()
    assert list(kept.points) == [7]
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with live("toy", "a", {}, "abc", "second") as stream:
        stream(1, {"loss": 0.5})
    assert _losses(Store("toy")) == {1: 0.5} and tracking_outbox.waiting() == []


def test_a_line_that_a_kill_cut_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    with live("toy", "a", {}, "abc", "first") as stream:
        stream(1, {"loss": 1.0})
    (kept,) = tracking_outbox.waiting()
    about, *points = [line for line in kept.path.read_text().splitlines() if "status" not in line and line]
    header = {**json.loads(about), "process": "elsewhere:1:1"}
    kept.path.write_text("\n".join([json.dumps(header), *points, '{"step": 2, "wh']))
    (cut,) = tracking_outbox.waiting()
    assert list(cut.points) == [1] and cut.status == ""
    with live("toy", "a", {}, "abc", "first") as stream:
        stream(2, {"loss": 1.0})
        assert not [one for one in tracking_outbox.waiting() if one.status]
    (whole,) = tracking_outbox.waiting()
    assert list(whole.points) == [1, 2] and whole.status == "FINISHED"


def test_the_store_is_mlflows_default_in_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_store.tracking_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("DVC_ROOT", "/somewhere")
    assert tracking_store.tracking_uri() == "sqlite:////somewhere/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example/mlflow")
    assert tracking_store.tracking_uri() == "https://me:secret@example/mlflow"
    assert tracking_store.shown_uri() == "https://example/mlflow"


def test_two_stages_that_begin_and_write_at_once_lose_nothing(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").unlink()
    code = (
        "import sys, time\nfrom pipeline import tracking\ntracking.STREAM_SECONDS = 0.01\n"
        "with tracking.live('toy', sys.argv[1], {}, sys.argv[1], 'first') as stream:\n"
        "    for step in range(1, 301):\n"
        "        stream(step, {'loss': 1 / step, 'pixel': 2.0})\n        time.sleep(0.01)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    names = ["a", "b"]
    processes = [
        subprocess.Popen([sys.executable, "-c", code, name], env=env, stderr=subprocess.PIPE, text=True)
        for name in names
    ]
    assert ["cannot be reached" in process.communicate()[1] for process in processes] == [False, False]
    assert [process.returncode for process in processes] == [0, 0]
    store = Store("toy")
    runs = store.client.search_runs([store.experiment_id])
    assert sorted(run.info.run_name for run in runs) == names
    for run in runs:
        history = store.client.get_metric_history(run.info.run_id, "training/loss")
        assert [(point.step, point.value) for point in history] == [(step, 1 / step) for step in range(1, 301)]


def test_names_that_mlflow_refuses() -> None:
    assert tracking_store.sanitised("mAP@50(B) a/b-c.d_e") == "mAP_50_B_ a/b-c.d_e"
