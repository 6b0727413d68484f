import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow_project import enter_project

from models.restorers import build_restorer, save_restorer
from pipeline.tracking import view
from pipeline.tracking.logged_model import RestorerFile
from pipeline.tracking.runs import DataUsed, Report, Row, how_to_open, publish, publish_row
from pipeline.tracking.store import Store, TrackingError
from pipeline.tracking.streaming import live

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its database's own
DATA = DataUsed("toy-fog-test", "0123456789abcdef", "artifacts/degraded/fog/test", 3, "evaluation")


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_database: Path) -> None:
    enter_project(tmp_path, mlflow_database, monkeypatch)
    (tmp_path / "report" / "pictures").mkdir(parents=True)
    for name in ("report.md", "report.html", "results.csv", "pictures/fog-detection.jpg"):
        (tmp_path / "report" / name).write_text("words")


ROW = Row(
    configuration="abc",
    name="fog · pixel",
    tags={"degradation": "fog", "objective": "pixel"},
    params={"train_restorer.steps": 3},
    metrics={"detection/mAP50-95": 0.1},
    artifacts=(Path("report/report.md"),),
    curve={1: {"loss": 0.5}, 2: {"loss": 0.25}},
    data=(DATA,),
)
METRICS = dict.fromkeys(
    [
        *("cost/parameters", "quality/PSNR", "quality/SSIM", "recovered/detection_mAP50-95"),
        *("gain_over_pixel/detection_mAP50-95", "gain_over_degraded/detection_mAP50-95_low"),
        *("gain_over_degraded/detection_mAP50-95", "segmentation/mIoU", "detection/mAP50-95", "detection/mAP50"),
    ],
    0.5,
)
REPORT = Report("settings", "report of toy", {"dataset": "toy"}, {"seed": 0}, Path("report"))


def test_publishing_twice_gives_one_run() -> None:
    store = Store("toy")
    ids, ends = set(), set()
    for value in (0.1, 0.2, 0.2):
        ids.add(publish_row(store, replace(ROW, metrics={"detection/mAP50-95": value})))
        (run,) = store.client.search_runs([store.experiment_id])
        ends.add(run.info.end_time)
    assert len(ends) == 1
    assert ids == {run.info.run_id}
    assert run.data.metrics["detection/mAP50-95"] == 0.2
    assert len(store.client.get_metric_history(run.info.run_id, "detection/mAP50-95")) == 2
    assert run.data.params == {"train_restorer.steps": "3"}
    assert run.info.status == "FINISHED" and run.info.run_name == "fog · pixel"
    history = store.client.get_metric_history(run.info.run_id, "training/loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25)]
    assert [entry.path for entry in store.client.list_artifacts(run.info.run_id)] == ["report.md"]
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == (DATA.name, DATA.digest)
    assert json.loads(used.dataset.profile) == {"images": 3} and used.tags[0].value == "evaluation"


def test_a_streamed_training_is_the_run_that_is_published_and_holes_in_it_are_filled() -> None:
    with live("toy", "fog · pixel", {}, "abc", "first") as stream:
        stream(2, {"loss": 0.25})
    store = Store("toy")
    publish_row(store, ROW)
    (run,) = store.client.search_runs([store.experiment_id])
    history = store.client.get_metric_history(run.info.run_id, "training/loss")
    assert sorted(point.step for point in history) == [1, 2]


@pytest.mark.parametrize(
    "other",
    [replace(ROW, curve={1: {"loss": 0.7}}), replace(ROW, data=(replace(DATA, digest="fedcba9876543210"),))],
    ids=["another training", "other data"],
)
def test_a_row_of_something_else_replaces_the_run(other: Row) -> None:
    store = Store("toy")
    before = publish_row(store, ROW)
    after = publish_row(store, other)
    (run,) = store.client.search_runs([store.experiment_id])
    assert run.info.run_id == after != before
    losses = [point.value for point in store.client.get_metric_history(after, "training/loss")]
    assert losses == [values["loss"] for values in other.curve.values()]
    assert [used.dataset.digest for used in run.inputs.dataset_inputs] == [other.data[0].digest]


def test_the_report_is_a_run_beside_rows_that_stay_flat() -> None:
    for _ in range(2):
        published = publish("toy", [ROW, replace(ROW, configuration="clean", name="clean", curve={})], REPORT)
    store, reports = Store("toy"), Store("toy-report")
    rows = store.client.search_runs([store.experiment_id])
    (report,) = reports.client.search_runs([reports.experiment_id])
    assert {run.info.run_name for run in rows} == {"fog · pixel", "clean"}
    assert not [run for run in [*rows, report] if "mlflow.parentRunId" in run.data.tags]
    assert {run.data.tags["report"] for run in rows} == {report.info.run_id} == {published.report}
    assert len({run.data.tags["mlflow.runColor"] for run in rows}) == 2
    assert report.info.run_id in rows[0].data.tags["mlflow.note.content"]
    assert all(run.info.run_id in report.data.tags["mlflow.note.content"] for run in rows)
    assert report.info.status == "FINISHED"
    names = {entry.path for entry in reports.client.list_artifacts(report.info.run_id)}
    assert names == {"report.md", "report.html", "results.csv", "pictures"}
    experiment = store.client.get_experiment(store.experiment_id)
    assert report.info.run_id in experiment.tags["mlflow.note.content"]


def test_the_way_to_the_charts_leads_to_the_server_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    published = publish("toy", [ROW], REPORT)
    assert how_to_open(published.experiment).startswith("uv run mlflow ui, then http://127.0.0.1:5000/#/experiments/")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example/mlflow/")
    assert how_to_open("7").startswith("https://example/mlflow/#/experiments/7/runs?")


def test_rows_are_found_by_degradation_objective_and_task() -> None:
    store = Store("toy")
    publish_row(store, replace(ROW, tags={**ROW.tags, "task.detection": "yes"}))
    publish_row(store, replace(ROW, configuration="other", name="rain · diffloss", tags={"degradation": "rain"}))
    for condition in ("tags.degradation = 'fog'", "tags.objective = 'pixel'", "tags.\"task.detection\" = 'yes'"):
        (run,) = store.client.search_runs([store.experiment_id], condition)
        assert run.info.run_name == "fog · pixel"


def test_a_restorer_is_logged_once_and_replaced_when_it_is_another() -> None:
    torch.manual_seed(0)
    settings = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}
    save_restorer(Path("restorer.safetensors"), build_restorer("nafnet", settings))
    whole = RestorerFile(Path("restorer.safetensors"), "nafnet", None, 64)
    store, found = Store("toy"), []
    for restorer in (whole, whole, replace(whole, tile=32, overlap=8)):
        publish_row(store, replace(ROW, restorer=restorer))
        (model,) = store.client.search_logged_models([store.experiment_id])
        assert str(model.status) == "READY" and model.tags["objective"] == "pixel"
        found.append(model.model_id)
    assert found[0] == found[1] != found[2]
    folder = Path(model.artifact_location.removeprefix("file://"))
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "served_restorer.py", "input_example.json", "artifacts/restorer.safetensors"} <= files
    assert "code/models/restorers/nafnet.py" in files and not [
        name for name in files if name.endswith((".pkl", ".pyc"))
    ]
    assert sum(path.stat().st_size for path in folder.rglob("*.*")) < 300_000
    assert str(Path.cwd()) not in (folder / "MLmodel").read_text().replace(model.artifact_location, "")


def test_publishing_to_nowhere_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:9: .*dvc repro publish"):
        publish("toy", [], REPORT)


def _state(tag: str) -> dict[str, Any]:
    """The state of a saved view, as the UI reads it."""
    saved = json.loads(tag)
    assert saved["name"] == "Does restoring help?" and isinstance(saved["createdAt"], int)
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(saved["state"].removeprefix("deflate;"))))
    return state


def test_the_view_has_columns_and_charts_in_reading_order() -> None:
    publish("toy", [ROW, replace(ROW, configuration="other", name="b", metrics=METRICS)], REPORT)
    store = Store("toy")
    tag = store.client.get_experiment(store.experiment_id).tags[view.TAG]
    assert len(tag) < 5000
    state = _state(tag)
    assert state["selectedColumns"] == [
        *("params.`degradation`", "params.`variant`"),
        *("metrics.`detection/mAP50-95`", "metrics.`segmentation/mIoU`"),
        *("metrics.`gain_over_degraded/detection_mAP50-95`", "metrics.`gain_over_pixel/detection_mAP50-95`"),
        *("metrics.`recovered/detection_mAP50-95`", "metrics.`quality/PSNR`", "metrics.`quality/SSIM`"),
    ]
    sections = state["compareRunSections"]
    assert [section["name"] for section in sections if section["display"]] == [
        *("Scores", "Gain over degraded", "Recovered share", "Gain over pixel", "Image quality", "All rows at once")
    ]
    assert [section["name"] for section in sections if not section["display"]] == [
        "cost",
        "gain_over_degraded",
        "detection",
    ]
    charts = state["compareRunCharts"]
    assert [chart["type"] for chart in charts] == [*["BAR"] * 7, *["SCATTER"] * 4, "PARALLEL"]
    assert [chart["metricKey"] for chart in charts[:7]] == [
        *("detection/mAP50-95", "segmentation/mIoU", "gain_over_degraded/detection_mAP50-95"),
        *("recovered/detection_mAP50-95", "gain_over_pixel/detection_mAP50-95", "quality/PSNR", "quality/SSIM"),
    ]
    assert {chart["metricSectionId"] for chart in charts} <= {section["uuid"] for section in sections}
    assert charts[-1]["metricSectionId"] == "All rows at once"


def test_the_view_lists_rows_as_the_tables_do() -> None:
    rows = [replace(ROW, configuration=name, name=name) for name in ("fog", "clean", "dusk")]
    publish("toy", rows, REPORT)  # whatever was trained first
    publish("toy", [rows[1], rows[0], rows[2]], REPORT)
    store = Store("toy")
    state = _state(store.client.get_experiment(store.experiment_id).tags[view.TAG])
    order = f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"
    assert [run.info.run_name for run in store.client.search_runs([store.experiment_id], order_by=[order])] == [
        *("clean", "fog", "dusk")
    ]


def test_metrics_can_be_searched_and_sorted_by_their_names() -> None:
    name = view.gain_metric("degraded", "detection", "mAP50-95")
    store = Store("toy")
    for number, gain in enumerate((0.1, 0.3, -0.1)):
        publish_row(store, replace(ROW, configuration=str(number), name=str(gain), metrics={name: gain}))
    found = store.client.search_runs(
        [store.experiment_id], f'metrics."{name}" > 0', order_by=[f"metrics.`{name}` DESC"]
    )
    assert [run.info.run_name for run in found] == ["0.3", "0.1"]
    assert view.recovered_metric("detection", "mAP50-95", "low") == "recovered/detection_mAP50-95_low"
    assert " " not in name
