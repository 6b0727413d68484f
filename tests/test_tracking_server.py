"""A remote MLflow, by MLFLOW_TRACKING_URI alone: curves, rows, artifacts and models; and its loss."""

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow_server import Server

from data import images
from models.restorers import build_restorer, load_restorer, save_restorer
from pipeline.tracking import streaming as tracking
from pipeline.tracking.logged_model import RestorerFile
from pipeline.tracking.runs import Report, Row, Training, publish
from pipeline.tracking.store import Store, TrackingError
from pipeline.tracking.streaming import live

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its database's own


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("server"))
    found.start()
    yield found
    found.kill()


@pytest.fixture(autouse=True)
def _environment_alone(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def _row(folder: Path) -> Row:
    (folder / "words.md").write_text("words")
    torch.manual_seed(0)
    settings = {"width": 8, "encoder_blocks": [1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1]}
    save_restorer(folder / "restorer.safetensors", build_restorer("nafnet", settings))
    return Row(
        configuration="abc",
        name="fog · pixel",
        tags={"degradation": "fog"},
        params={"train_restorer.steps": 2},
        metrics={"detection/mAP50-95": 0.25},
        artifacts=(folder / "words.md",),
        curve={1: {"loss": 0.5}, 2: {"loss": 0.25}},
        restorer=RestorerFile(folder / "restorer.safetensors", "nafnet", None, 64),
    )


def _report(folder: Path) -> Report:
    (folder / "report").mkdir(exist_ok=True)
    (folder / "report" / "report.md").write_text("# Words\n")
    return Report("report", "report of toy", {}, {}, folder / "report")


def _losses(experiment: str) -> dict[int, float]:
    store = Store(experiment)
    (run,) = store.client.search_runs([store.experiment_id])
    history = store.client.get_metric_history(run.info.run_id, "training/loss")
    assert len(history) == len({point.step for point in history}), "a step twice"
    return {point.step: point.value for point in history}


def test_curves_rows_artifacts_and_models_arrive(tmp_path: Path) -> None:
    with live("toy", "fog · pixel", {}, "abc", "first") as stream:
        stream(1, {"loss": 0.5})
    published = publish("toy", [_row(tmp_path)], _report(tmp_path))
    assert _losses("toy") == {1: 0.5, 2: 0.25}
    store = Store("toy")
    (run,) = store.client.search_runs([store.experiment_id])
    assert run.info.run_id == published.runs["fog · pixel"]
    assert run.data.metrics["detection/mAP50-95"] == 0.25
    assert Path(store.client.download_artifacts(run.info.run_id, "words.md", str(tmp_path))).read_text() == "words"
    assert not (tmp_path / "mlflow.db").exists() and not (tmp_path / "mlruns").exists()
    _loads_without_this_project(run.info.run_id, tmp_path)


def _loads_without_this_project(run_id: str, folder: Path) -> None:
    """In a fresh process, elsewhere: the pixels must be those of the restorer here."""
    code = (
        "import sys, numpy as np, mlflow.pyfunc\n"
        "model = mlflow.pyfunc.load_model(f'runs:/{sys.argv[1]}/restorer')\n"
        "np.save('restored.npy', model.predict(np.load('images.npy')))\n"
        "assert model.metadata.signature.inputs.inputs[0].type == np.uint8\n"
        "assert model.predict(model.input_example).shape == (1, 32, 32, 3)\n"
    )
    batch = np.random.default_rng(0).integers(0, 256, (2, 33, 47, 3), dtype=np.uint8)
    np.save("images.npy", batch)
    subprocess.run([sys.executable, "-c", code, run_id], cwd=folder, check=True, capture_output=True)
    restorer = load_restorer(folder / "restorer.safetensors")
    with torch.inference_mode():
        here = np.stack([images.to_uint8(restorer(images.to_tensor(one)[None])[0]) for one in batch])
    assert np.load("restored.npy").tobytes() == here.tobytes()


def test_its_loss_in_the_middle_costs_no_training_and_publish_completes_the_curve(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "STREAM_SECONDS", 0.05)
    tags = {"stage": "train_prior"}
    curve = {step: {"loss": 1.0 / step} for step in range(1, 52)}
    with caplog.at_level(logging.WARNING), live("lost", "prior", tags, "xyz", "first") as stream:
        stream(1, curve[1])
        _wait_for_the_first_step()
        server.kill()
        for step in range(2, 52):
            stream(step, curve[step])
            time.sleep(0.01)
        assert stream.waited < 0.1  # type: ignore[attr-defined]
    assert [record.name for record in caplog.records] == ["pipeline.tracking.streaming"]
    assert "The training continues; the stage `publish` sends its whole curve later." in caplog.text
    with pytest.raises(TrackingError, match=f"MLflow at {server.uri}: .*dvc repro publish"):
        publish("lost", [], _report(tmp_path))
    server.start()
    for _ in range(2):  # the second time changes nothing
        publish("lost", [], _report(tmp_path), [Training("xyz", "prior", tags, curve)])
        assert _losses("lost-trainings") == {step: 1.0 / step for step in range(1, 52)}
        store = Store("lost-trainings")
        (run,) = store.client.search_runs([store.experiment_id])
        assert run.info.status == "FINISHED"


def _wait_for_the_first_step() -> None:
    for _ in range(300):
        store = Store("lost-trainings")
        runs = store.client.search_runs([store.experiment_id])
        if runs and store.steps(runs[0].info.run_id):
            return
        time.sleep(0.1)
    raise TimeoutError
