"""Curves that could not be sent: kept in files, sent later, once."""

import json
import logging
import socket
import time
from pathlib import Path

import pytest
from mlflow_project import NOWHERE, enter_project, losses, make_database, statuses

from pipeline.tracking import outbox, store
from pipeline.tracking import streaming as tracking
from pipeline.tracking.store import Store
from pipeline.tracking.streaming import live

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its database's own


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("database"))


@pytest.fixture(autouse=True)
def _own_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Path) -> None:
    enter_project(tmp_path, database, monkeypatch)


def test_an_unreachable_server_is_one_warning_and_a_file_that_is_sent_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    with caplog.at_level(logging.WARNING), live("toy", "a", {"degradation": "fog"}, "abc", "first") as stream:
        stream(1, {"loss": 1.0})
        stream(2, {"loss": 0.5})
    assert sum("the training goes on" in record.message for record in caplog.records) == 1
    assert len(caplog.records) == 1
    (kept,) = outbox.waiting()
    assert {step: point.values for step, point in kept.points.items()} == {1: {"loss": 1.0}, 2: {"loss": 0.5}}
    assert kept.status == "FINISHED"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert list(outbox.send_all()) == [] and outbox.elsewhere() == {NOWHERE: 1}
    content = kept.path.read_text().replace(NOWHERE, store.shown_uri())
    for _ in range(2):  # the second time as if the first had been stopped before it removed the file
        kept.path.write_text(content)
        assert list(outbox.send_all()) == ["a"]
        assert losses(Store("toy")) == {1: 1.0, 2: 0.5} and statuses() == ["FINISHED"]
    assert outbox.waiting() == []


def test_a_resumed_training_takes_what_was_not_sent_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    with pytest.raises(SystemExit), live("toy", "a", {}, "abc", "first") as stream:
        stream(1, {"loss": 1.0})
        raise SystemExit
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with live("toy", "a", {}, "abc", "first") as stream:
        stream(2, {"loss": 0.5})
    assert losses(Store("toy")) == {1: 1.0, 2: 0.5}
    assert not list((tmp_path / "work" / "unsent").iterdir())


def test_what_another_training_left_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    for training, step in (("zeroth", 8), ("first", 7)):
        with live("toy", "a", {}, "abc", training) as stream:
            stream(step, {"loss": 1.0})
    (kept,) = outbox.waiting()
    assert list(kept.points) == [7]
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with live("toy", "a", {}, "abc", "second") as stream:
        stream(1, {"loss": 0.5})
    assert losses(Store("toy")) == {1: 0.5} and outbox.waiting() == []


def test_a_line_that_a_kill_cut_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    with live("toy", "a", {}, "abc", "first") as stream:
        stream(1, {"loss": 1.0})
    (kept,) = outbox.waiting()
    about, *points = [line for line in kept.path.read_text().splitlines() if "status" not in line and line]
    header = {**json.loads(about), "process": "elsewhere:1:1"}
    kept.path.write_text("\n".join([json.dumps(header), *points, '{"step": 2, "wh']))
    (cut,) = outbox.waiting()
    assert list(cut.points) == [1] and cut.status == ""
    with live("toy", "a", {}, "abc", "first") as stream:
        stream(2, {"loss": 1.0})
        assert not [one for one in outbox.waiting() if one.status]
    (whole,) = outbox.waiting()
    assert list(whole.points) == [1, 2] and whole.status == "FINISHED"


def test_an_address_that_never_answers_costs_no_more_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections and says nothing
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        monkeypatch.setattr(tracking, "CLOSE_SECONDS", 0.5)
        started = time.monotonic()
        with live("toy", "a", {}, "abc", "first") as stream:
            stream(1, {"loss": 1.0})
        assert time.monotonic() - started < 5
        (kept,) = outbox.waiting()
        assert list(kept.points) == [1] and kept.status == "FINISHED"
