import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow_project import NOWHERE, enter_project, losses, statuses

from pipeline.tracking import streaming as tracking
from pipeline.tracking.runs import Training, publish_training
from pipeline.tracking.store import Point, Points, Store, sanitised, shown_uri, tracking_uri
from pipeline.tracking.streaming import live

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its database's own


@pytest.fixture(autouse=True)
def _own_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_database: Path) -> None:
    enter_project(tmp_path, mlflow_database, monkeypatch)


def _soon(holds: Callable[[], bool]) -> None:
    for _ in range(300):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("not within half a minute")


def test_a_short_training_opens_no_run_and_imports_no_mlflow() -> None:
    code = (
        "import sys\nfrom pipeline.tracking.streaming import live\n"
        "with live('toy', 'a', {}, 'abc', 'first', live_after=60.0) as stream:\n"
        "    stream(1, {'loss': 1.0})\n"
        "sys.exit('mlflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert statuses() == []


def test_a_longer_training_is_live_and_has_its_first_steps() -> None:
    with live("toy", "a", {}, "abc", "first", live_after=0.2) as stream:
        stream(1, {"loss": 1.0})
        _soon(lambda: statuses() == ["RUNNING"])
        stream(2, {"loss": 0.5})
    assert losses(Store("toy")) == {1: 1.0, 2: 0.5}
    assert statuses() == ["FINISHED"]


def test_a_resumed_training_streams_no_step_twice() -> None:
    for steps in ((1, 2, 3), (2, 3, 4)):
        with live("toy", "a", {}, "abc", "first") as stream:
            for step in steps:
                stream(step, {"loss": 1.0 / step})
    assert losses(Store("toy")) == {step: 1 / step for step in (1, 2, 3, 4)}
    assert statuses() == ["FINISHED"]


def test_a_resumed_training_with_losses_of_other_names_streams_no_step_twice() -> None:
    for steps in ((1, 2), (1, 2, 3)):  # a YOLO training tells its whole curve again
        with live("toy", "a", {}, "abc", "first") as stream:
            for step in steps:
                stream(step, {"box_loss": 1.0 / step, "cls_loss": 1.0})
    store = Store("toy")
    (run,) = store.client.search_runs([store.experiment_id])
    history = store.client.get_metric_history(run.info.run_id, "training/box_loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_another_training_of_the_same_row_replaces_its_run() -> None:
    for training, loss in (("first", 0.9), ("second", 0.5)):
        with live("toy", "a", {}, "abc", training) as stream:
            stream(1, {"loss": loss})
    assert losses(Store("toy")) == {1: 0.5}


def test_curves_of_stages_go_beside_the_comparison() -> None:
    with live("toy", "prior", {"stage": "train_prior"}, "abc", "first") as stream:
        stream(1, {"loss": 1.0})
    assert losses(Store("toy-trainings")) == {1: 1.0}
    assert statuses() == []


def test_the_training_does_not_wait_and_what_it_cost_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: Store, run_id: str, points: Points) -> None:
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
    assert len(losses(Store("toy"))) == 100
    store = Store("toy")
    (run,) = store.client.search_runs([store.experiment_id])
    costs = {name: run.data.metrics[f"tracking/{name}"] for name in ("waited_seconds", "thread_seconds", "share")}
    assert waited < costs["waited_seconds"] < 2  # with what the end waits for
    assert 0 < costs["thread_seconds"] < 3
    assert 0 < costs["share"] < 1


def test_an_unreachable_server_is_one_warning_and_the_next_process_completes_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    with caplog.at_level(logging.WARNING), live("toy", "a", {}, "abc", "first") as stream:
        stream(1, {"loss": 1.0})
        stream(2, {"loss": 0.5})
    assert sum("The training continues" in record.message for record in caplog.records) == len(caplog.records) == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with live("toy", "a", {}, "abc", "first") as stream:
        stream(3, {"loss": 0.25})
    curve = {1: {"loss": 1.0}, 2: {"loss": 0.5}, 3: {"loss": 0.25}}
    for _ in range(2):
        publish_training(Store("toy"), Training("abc", "a", {}, curve))
        assert losses(Store("toy")) == {step: values["loss"] for step, values in curve.items()}
    assert statuses() == ["FINISHED"]


def test_points_wait_for_a_server_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "STREAM_SECONDS", 0.05)
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    with live("toy", "a", {}, "abc", "first") as stream:
        stream(1, {"loss": 1.0})
        _soon(lambda: stream._failed is not None)  # type: ignore[attr-defined]
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        _soon(lambda: bool(stream._run_id))  # type: ignore[attr-defined]
        stream(2, {"loss": 0.5})
    assert losses(Store("toy")) == {1: 1.0, 2: 0.5}


def test_publishing_the_curve_of_another_training_replaces_the_run() -> None:
    store = Store("toy")
    for value in (1.0, 2.0):
        publish_training(store, Training("abc", "detection", {}, {1: {"box_loss": value, "mAP50(B)": 0.1}}))
    (run,) = store.client.search_runs([store.experiment_id])
    history = store.client.get_metric_history(run.info.run_id, "training/box_loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0)]


def test_an_address_that_never_answers_costs_no_more_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts connections and never answers
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        monkeypatch.setattr(tracking, "CLOSE_SECONDS", 0.5)
        started = time.monotonic()
        with live("toy", "a", {}, "abc", "first") as stream:
            stream(1, {"loss": 1.0})
        assert time.monotonic() - started < 5


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
    monkeypatch.setattr("pipeline.tracking.store.MAX_BATCH", 5)
    store = Store("toy")
    id, _ = store.open_run("abc", "a", {}, "first")
    points = {step: Point(step, {"loss": 1.0, "pixel": 2.0}) for step in range(1, 8)}
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
    assert statuses() == ["FAILED"]


def test_a_stopped_training_is_marked_as_killed() -> None:
    with pytest.raises(SystemExit), live("toy", "a", {}, "abc", "first"):
        raise SystemExit
    assert statuses() == ["KILLED"]


def test_a_run_whose_process_was_killed_does_not_stay_running() -> None:
    Store("toy")
    code = (
        "import os, signal, time\nfrom pipeline.tracking.streaming import live\n"
        "with live('toy', 'a', {}, 'abc', 'first') as stream:\n"
        "    while not stream._run_id: time.sleep(0.1)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert statuses() == ["RUNNING"]
    Store("toy").close_dead_runs()
    assert statuses() == ["KILLED"]


def test_a_living_process_keeps_its_run_open() -> None:
    with live("toy", "a", {}, "abc", "first"):
        _soon(lambda: statuses() == ["RUNNING"])
        Store("toy").close_dead_runs()
        assert statuses() == ["RUNNING"]


def test_system_metrics_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "SYSTEM_SECONDS", 0.2)
    for name, wanted in (("with", True), ("without", False)):
        with live("toy", name, {}, name, "first", wanted) as stream:
            stream(1, {"loss": 1.0})
            _soon(lambda: bool(stream._run_id))  # type: ignore[attr-defined]
            time.sleep(1.5 * wanted)
    store = Store("toy")
    runs = {run.info.run_name: run.data.metrics for run in store.client.search_runs([store.experiment_id])}
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(runs["with"])
    assert not [name for name in runs["without"] if name.startswith("system/")]


def test_the_store_is_mlflows_default_in_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("DVC_ROOT", "/somewhere")
    assert tracking_uri() == "sqlite:////somewhere/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example/mlflow")
    assert tracking_uri() == "https://me:secret@example/mlflow"
    assert shown_uri() == "https://example/mlflow"


def test_two_stages_that_begin_and_write_at_once_lose_nothing(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").unlink()
    code = (
        "import sys, time\nfrom pipeline.tracking import streaming\nstreaming.STREAM_SECONDS = 0.05\n"
        "with streaming.live('toy', sys.argv[1], {}, sys.argv[1], 'first') as stream:\n"
        "    for step in range(1, 151):\n"
        "        stream(step, {'loss': 1 / step, 'pixel': 2.0})\n        time.sleep(0.01)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    names = ["a", "b"]
    processes = [
        subprocess.Popen([sys.executable, "-c", code, name], env=env, stderr=subprocess.PIPE, text=True)
        for name in names
    ]
    warnings = [process.communicate()[1] for process in processes]
    assert not [text for text in warnings if "cannot be reached" in text], warnings
    assert [process.returncode for process in processes] == [0, 0]
    store = Store("toy")
    runs = store.client.search_runs([store.experiment_id])
    assert sorted(run.info.run_name for run in runs) == names
    for run in runs:
        history = store.client.get_metric_history(run.info.run_id, "training/loss")
        assert [(point.step, point.value) for point in history] == [(step, 1 / step) for step in range(1, 151)]


def test_names_that_mlflow_refuses() -> None:
    assert sanitised("mAP@50(B) a/b-c.d_e") == "mAP_50_B_ a/b-c.d_e"
