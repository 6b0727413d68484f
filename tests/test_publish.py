"""The rows of a finished run, from its tables."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import write_dataset

from data.dataset import Dataset
from models.restorers import build_restorer, save_restorer
from pipeline import publish
from pipeline.reporting.score_rows import GAINS, RESULTS
from pipeline.running.digests import data_digest
from pipeline.settings.params import Params, load_params
from pipeline.settings.retraining import RetrainedTask
from pipeline.statistics.verdicts import COLUMNS
from pipeline.tracking.comparison_rows import ComparisonTables, Folders, trainings
from pipeline.tracking.runs import Row
from pipeline.tracking.store import Store

ROOT = Path(__file__).parents[1]
SUM = "pixel + diffloss"
NEW = ["degraded-retrained", "clean-retrained", f"{SUM}-retrained", f"clean-restored-{SUM}"]
SCORES = {"clean": 0.5, "degraded": 0.1, "pixel": 0.3, SUM: 0.4, **dict.fromkeys(NEW, 0.45)}


def _params() -> Params:
    params = load_params(ROOT / "params.tiny.yaml")
    return params.model_copy(
        update={"degradations": ["fog", "haze"], "objectives": ["pixel", SUM], "tasks": ["detection"]}
    )


def _write_tables(folder: Path) -> None:
    (folder / "pictures").mkdir(parents=True)
    for name in ("fog-detection", f"best-fog-detection-{SUM}", "fog-dense-detection"):
        (folder / "pictures" / f"{name}.jpg").write_bytes(b"")
    (folder / "report.md").write_text("words")
    results, gains = [], []
    for degradation, variants in {"fog": list(SCORES), "haze": ["degraded", "pixel", SUM]}.items():
        for variant in variants:
            value = SCORES[variant]
            results.append(["detection", degradation, variant, "mAP50", value, value - 0.1, value + 0.1, 3])
            if degradation == "fog" and variant != "clean":  # real photos, like haze, have no clean counterparts
                results.append(["quality", degradation, variant, "PSNR", 20 * value, 0, 40, 3])
            recovered = (value - 0.1) / 0.4 if degradation == "fog" else None
            if variant != "degraded":
                gain = value - 0.1
                ends = [None, None] if recovered is None else [0.5, 0.9]
                end = [gain, gain - 0.1, gain + 0.1, 0.1, recovered, *ends]
                gains.append(["detection", degradation, variant, "degraded", "mAP50", *end])
        gain = SCORES[SUM] - SCORES["pixel"]
        gains.append(
            ["detection", degradation, SUM, "pixel", "mAP50", gain, gain - 0.1, gain + 0.1, 0.5, recovered, None, None]
        )
    costs = [
        {"stage": "train_restorer", "degradation": d, "variant": v, "parameters": 100, "gflops": 2.5}
        for d in ("fog", "haze")
        for v in ("pixel", SUM)
    ]
    pd.DataFrame(results, columns=RESULTS[:8]).to_csv(folder / "results.csv", index=False)
    table = pd.DataFrame(gains, columns=GAINS[:12])
    table.to_csv(folder / "gains.csv", index=False)
    verdicts = table.assign(metric="mAP50-95", verdict="helps", n_images=3, n_groups=3, n_trainings=1)
    verdicts.reindex(columns=COLUMNS).to_csv(folder / "verdicts.csv", index=False)
    pd.DataFrame([{"stage": "train_prior"}, *costs]).to_csv(folder / "costs.csv", index=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run. Tests do not change it."""
    root = tmp_path_factory.mktemp("finished")
    artifacts = root / "artifacts"
    _write_tables(artifacts / "report")
    made = {name: write_dataset(root, name) for name in ("clean", "fog")}
    made["haze"] = write_dataset(root, "haze", test=2)
    for name, dataset in made.items():
        to = artifacts / "clean" if name == "clean" else artifacts / "degraded" / name
        shutil.move(dataset.folder, to)
    for degradation in ("fog", "haze"):
        for objective in ("pixel", SUM):
            folder = artifacts / "restorers" / degradation / objective
            folder.mkdir(parents=True)
            (folder / "curve.csv").write_text("step,loss,validation\n1,0.5,\n2,0.25,30\n")
            torch.manual_seed(0)
            settings = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}
            save_restorer(folder / "restorer.safetensors", build_restorer("nafnet", settings))
    (artifacts / "prior").mkdir()
    (artifacts / "objectives").mkdir()
    for objective, prior in (("pixel", None), (SUM, "0123")):
        (artifacts / "objectives" / f"{objective}.json").write_text(json.dumps({"prior": prior}))
    (artifacts / "tasks" / "detection").mkdir(parents=True)
    (artifacts / "tasks" / "detection" / "curve.csv").write_text("step,box_loss\n1,2\n2,1\n")
    return root


def _folders(folder: Path) -> Folders:
    names = ("degraded", "report", "objectives", "restorers", "prior", "tasks")
    return Folders(**{name: folder / "artifacts" / name for name in names}, scratch=folder)


def _rows(finished: Path, params: Params) -> dict[str, Row]:
    tables = ComparisonTables(params, Dataset.open(finished / "artifacts" / "clean"), _folders(finished))
    return {row.name: row for row in tables.rows({"git.commit": "1234"})}


@pytest.fixture(scope="module")
def rows(finished: Path) -> dict[str, Row]:
    return _rows(finished, _params())


def test_every_variant_of_the_table_is_a_row(rows: dict[str, Row]) -> None:
    fog = ["degraded", "pixel", SUM, *NEW]
    haze = ["degraded", "pixel", SUM]
    assert list(rows) == ["clean", *(f"fog · {v}" for v in fog), *(f"haze · {v}" for v in haze)]
    assert len({row.configuration for row in rows.values()}) == len(rows)
    assert [name for name, row in rows.items() if row.restorer] == [
        f"{degradation} · {objective}" for degradation in ("fog", "haze") for objective in ("pixel", SUM)
    ]


def test_metrics_have_the_same_names_in_all_rows_of_a_degradation(rows: dict[str, Row]) -> None:
    names = {name: {m for m in row.metrics if "over_pixel" not in m} for name, row in rows.items()}
    assert all(names[f"fog · {v}"] == names["fog · pixel"] for v in ["degraded", SUM, *NEW])
    assert names["fog · pixel"] == {
        "detection/mAP50",
        "quality/PSNR",
        "gain_over_degraded/detection_mAP50",
        "gain_over_degraded/detection_mAP50_low",
        "gain_over_degraded/detection_mAP50_high",
        "recovered/detection_mAP50",
        "recovered/detection_mAP50_low",
        "recovered/detection_mAP50_high",
        "cost/parameters",
        "cost/gflops",
    }
    assert next(iter(rows["fog · pixel"].metrics)) == "detection/mAP50"  # a run's page keeps the order
    assert names["clean"] == {"detection/mAP50", "cost/parameters", "cost/gflops"}
    assert names["haze · degraded"] == names["haze · pixel"]
    assert not [name for name in names["haze · pixel"] if name.startswith(("quality/", "recovered/"))]


def test_the_numbers_are_those_of_the_tables(rows: dict[str, Row]) -> None:
    metrics = rows[f"fog · {SUM}"].metrics
    assert metrics["detection/mAP50"] == 0.4
    assert metrics["gain_over_degraded/detection_mAP50"] == pytest.approx(0.3)
    assert metrics["gain_over_degraded/detection_mAP50_low"] == pytest.approx(0.2)
    assert metrics["gain_over_pixel/detection_mAP50"] == pytest.approx(0.1)
    assert metrics["recovered/detection_mAP50"] == pytest.approx(0.75)
    assert metrics["recovered/detection_mAP50_low"] == 0.5 and metrics["recovered/detection_mAP50_high"] == 0.9
    assert metrics["cost/gflops"] == 2.5
    degraded = rows["fog · degraded"].metrics
    assert degraded["gain_over_degraded/detection_mAP50_high"] == degraded["recovered/detection_mAP50"] == 0
    assert degraded["cost/gflops"] == rows["fog · degraded-retrained"].metrics["cost/gflops"] == 0
    assert rows[f"fog · clean-restored-{SUM}"].metrics["cost/gflops"] == 2.5


def test_retrained_networks_have_the_settings_that_they_were_trained_with(finished: Path) -> None:
    shorter = _params().retraining.model_copy(update={"train_task": {"detection": RetrainedTask(epochs=77)}})
    rows = _rows(finished, _params().model_copy(update={"retraining": shorter}))
    epochs = {name: row.params["detection.epochs"] for name, row in rows.items()}
    assert epochs["fog · degraded-retrained"] == 77 != epochs["fog · degraded"]


def test_tags_to_filter_by(rows: dict[str, Row]) -> None:
    kinds = {name: (row.tags["kind"], row.tags["objective"]) for name, row in rows.items()}
    assert kinds["clean"] == ("clean", "none")
    assert kinds["fog · degraded"] == ("degraded", "none")
    assert kinds[f"fog · {SUM}"] == ("restored", SUM)
    assert [kinds[f"fog · {variant}"] for variant in NEW] == [
        ("retrained", "none"),
        ("retrained", "none"),
        ("retrained", SUM),
        ("clean-restored", SUM),
    ]
    assert all(row.tags["task.detection"] == "yes" and row.tags["git.commit"] == "1234" for row in rows.values())


def test_data_are_named_with_the_digest_of_their_files(rows: dict[str, Row], finished: Path, tmp_path: Path) -> None:
    used = {name: [(data.name, data.use, data.images) for data in row.data] for name, row in rows.items()}
    assert used["clean"] == [("clean-test", "evaluation", 3)]
    assert used["fog · degraded"] == [("fog-fog-test", "evaluation", 3)]
    assert used["fog · pixel"] == [("fog-fog-test", "evaluation", 3), ("fog-fog-train", "training", 5)]
    assert used["fog · clean-retrained"] == [("fog-fog-test", "evaluation", 3), ("clean-train", "training", 5)]
    assert used["haze · pixel"] == [("haze-haze-test", "evaluation", 2)]
    assert used[f"fog · clean-restored-{SUM}"][0] == ("clean-test", "evaluation", 3)
    folder = finished / "artifacts" / "degraded" / "fog" / "test"
    expected = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        expected.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    assert rows["fog · degraded"].data[0].digest == expected.hexdigest()[:16]
    changed = shutil.copytree(folder, tmp_path / "changed")
    assert data_digest(changed) == expected.hexdigest()[:16]
    label = next((changed / "labels").iterdir())
    label.write_text(label.read_text() + "0 0.5 0.5 0.1 0.1\n")
    data_digest.cache_clear()
    assert data_digest(changed) != expected.hexdigest()[:16]


def test_pictures_of_the_own_degradation_and_variant(rows: dict[str, Row]) -> None:
    names = {name: [path.name for path in row.artifacts] for name, row in rows.items()}
    assert names["clean"] == ["report.md"]
    assert names["fog · pixel"] == ["report.md", "fog-detection.jpg", "curve-fog-pixel.png"]
    assert f"best-fog-detection-{SUM}.jpg" in names[f"fog · {SUM}"]
    assert rows["fog · pixel"].curve == {1: {"loss": 0.5}, 2: {"loss": 0.25, "validation": 30.0}}


def test_curves_of_the_prior_and_the_tasks(finished: Path) -> None:
    curves = {training.name: training for training in trainings(_params(), _folders(finished))}
    assert list(curves) == ["detection"]  # this prior was not trained here
    assert curves["detection"].tags == {"stage": "train_task"}
    assert curves["detection"].curve == {1: {"box_loss": 2.0}, 2: {"box_loss": 1.0}}


@pytest.mark.filterwarnings("ignore")
def test_the_stage_writes_where_its_runs_are(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "artifacts", tmp_path / "artifacts")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(publish, "load_params", _params)
    names = ("clean", "degraded", "report", "objectives", "restorers", "prior", "tasks")
    options = [word for name in names for word in (f"--{name}", f"artifacts/{name}")]
    monkeypatch.setattr(sys, "argv", ["publish", *options, "--out", "artifacts/published.json"])
    publish.main()
    first = (tmp_path / "artifacts" / "published.json").read_text()
    publish.main()
    assert (tmp_path / "artifacts" / "published.json").read_text() == first
    text = capsys.readouterr().out
    assert "detection, fog: restoring helps: mAP50-95 +0.300" in text
    assert "\nReport: artifacts/report/report.html\nMLflow: uv run mlflow ui, then http://127.0.0.1:5000/#/exp" in text
    (training,) = (store := Store("clean-trainings")).client.search_runs([store.experiment_id])
    assert training.info.status == "FINISHED" and store.steps(training.info.run_id) == {1, 2}
    store = Store("clean")
    runs = {run.info.run_name: run for run in store.client.search_runs([store.experiment_id])}
    assert len(runs) == 11
    assert len(store.client.search_logged_models([store.experiment_id])) == 4
    assert runs[f"fog · {SUM}"].data.metrics["gain_over_pixel/detection_mAP50"] == pytest.approx(0.1)
