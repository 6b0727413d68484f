"""The real pipeline on tiny parameters, in a temporary clone: dvc repro, as a user runs it."""

import json
import shutil
import subprocess
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from clones import ROOT, TABLES, clone, dvc, edit, environment
from dvc.repo import Repo
from ruamel.yaml import YAML

from data.dataset import Dataset
from pipeline.metrics.image_quality import ImageQuality
from pipeline.report import FOLDERS, write_report
from pipeline.reporting.score_rows import GAINS, RESULTS, TRAININGS
from pipeline.reporting.tables import RunFolders
from pipeline.settings.params import load_params
from pipeline.statistics.comparison import ONE_TRAINING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

OBJECTIVES = ("pixel", "diffloss")
CAMVID = ROOT.parent / "shared" / "camvid"


def _would_run(folder: Path) -> set[str]:
    """The stages that DVC would run now, by `dvc status` in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", environment(folder)["DVC_SITE_CACHE_DIR"])
        patch.chdir(folder)  # stages are named from here
        with Repo() as repo:
            return set(repo.status())


def _ran(done: "subprocess.CompletedProcess[str]") -> set[str]:
    """The stages that `dvc repro` has run."""
    return {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `dvc repro` has run once. One degradation is enough here: the slow tests run two."""
    folder = clone(tmp_path_factory.mktemp("smoke") / "project", "params.tiny.yaml")
    edit(folder, "[lowlight, fog]", "[fog]")
    done = dvc(folder, "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def test_the_tables_are_complete_and_tidy(finished: Path) -> None:
    report = finished / "artifacts" / "report"
    results, gains = (pd.read_csv(report / name) for name in TABLES)
    assert list(results.columns) == RESULTS and list(gains.columns) == GAINS
    tasks = results[results.task != "quality"]
    assert set(zip(tasks.task, tasks.metric, strict=True)) == {
        ("detection", "mAP50-95"),
        ("detection", "mAP50"),
        ("segmentation", "mIoU"),
    }
    assert set(tasks.variant) == {"clean", "degraded", "pixel", "diffloss"}
    assert set(results[results.task == "quality"].metric) == set(ImageQuality.measures) >= {"PSNR", "SSIM", "blur"}
    assert set(results.degradation) == {"fog"}
    assert (results.n_images == 8).all()
    assert {("diffloss", "pixel"), ("pixel", "degraded")} <= set(zip(gains.variant, gains.versus, strict=True))
    assert not results.duplicated(RESULTS[:4]).any()
    assert (results.n_groups == 8).all() and (results.n_trainings == 1).all()
    between = gains[gains.versus == "pixel"]
    assert between.p_value.isna().all()
    undecided = between.reason.str.startswith("the task network scores 0") | (between.reason == ONE_TRAINING)
    assert undecided.all() and (between.reason == ONE_TRAINING).any()
    verdicts = pd.read_csv(report / "verdicts.csv")
    assert set(verdicts[verdicts.versus == "pixel"].verdict) == {"no verdict"}
    trainings = pd.read_csv(report / "trainings.csv")
    assert list(trainings.columns) == TRAININGS and set(trainings.variant) == {"pixel", "diffloss"}


def test_report_and_pictures(finished: Path) -> None:
    report = finished / "artifacts" / "report"
    text = (report / "report.md").read_text()
    assert "Does restoring help on scenes?" in text and "split test" in text
    names = {path.name for path in (report / "pictures").iterdir()}
    assert {"fog-detection.jpg", "fog-segmentation.jpg"} <= names
    for name in (
        "classes",
        "sizes",
        "objects",
        "images",
        "correlations",
        "severities",
        "robustness",
        "verdicts",
        "planning",
    ):
        assert (report / f"{name}.csv").exists(), name
    assert (finished / "artifacts" / "prior" / "samples.png").exists()
    page = (report / "report.html").read_text()
    assert page.count('type="range"') == 4 and len(page) < 2_000_000
    assert (report / "metrics.json").exists()


def test_a_report_on_two_degradations_has_the_rows_and_pictures_of_both(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is a copy of the first, so that its scores are known."""
    shutil.copytree(finished / "artifacts", tmp_path / "artifacts")
    for path in [path for path in (tmp_path / "artifacts").rglob("fog") if path.is_dir()]:
        shutil.copytree(path, path.with_name("copy"))
    shutil.copyfile(finished / "params.yaml", tmp_path / "params.yaml")
    edit(tmp_path, "degradations: [fog]", "degradations: [fog, copy]")
    monkeypatch.chdir(tmp_path)
    artifacts, out = Path("artifacts"), tmp_path / "report"
    out.mkdir()
    folders = RunFolders(**{name: artifacts / name for name in FOLDERS})
    write_report(load_params(), Dataset.open(artifacts / "clean"), folders, out)
    results = pd.read_csv(out / "results.csv")
    first, second = (results[results.degradation == name].drop(columns="degradation") for name in ("fog", "copy"))
    assert len(first) + len(second) == len(results)
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True))
    assert {"fog-detection.jpg", "copy-detection.jpg"} <= {path.name for path in (out / "pictures").iterdir()}


def test_nothing_is_left_lying_about(finished: Path) -> None:
    known = {path.name for path in ROOT.iterdir()} | {
        "artifacts",
        "work",
        "mlruns",
        "mlflow.db",
        "dvc.lock",
        ".cache",
        ".git",
    }
    assert {path.name for path in finished.iterdir()} <= known
    assert not [
        path
        for path in (finished / "work").rglob("*")
        if path.is_file() and path.suffix not in (".lock", ".json") and "yolo" not in path.parts
    ]
    assert not list((finished / "artifacts").rglob("*.cache"))


def test_mlflow_has_one_run_for_each_row(finished: Path) -> None:
    runs = _runs(finished)
    names = ["clean", *(f"fog · {variant}" for variant in ("degraded", "pixel", "diffloss"))]
    assert sorted(run["name"] for run in runs) == sorted(names)
    row = next(run for run in runs if run["name"] == "fog · diffloss")
    assert {"detection/mAP50-95", "segmentation/mIoU", "quality/PSNR", "cost/seconds_per_step"} <= set(row["metrics"])
    assert row["history"] == [1, 2, 3, 4]
    assert {"report.md", "fog-detection.jpg", "curve-fog-diffloss.png"} <= set(row["artifacts"])
    assert len(row["models"]) == 1 and len(row["datasets"]) == 2
    assert all(run["status"] == "FINISHED" for run in runs)
    receipt = json.loads((finished / "artifacts" / "published.json").read_text())
    assert receipt["experiment"] == "scenes"
    assert receipt["configuration"]["rows"] == {run["name"]: run["configuration"] for run in runs}


def test_a_second_run_does_nothing(finished: Path) -> None:
    done = dvc(finished, "repro")
    assert done.returncode == 0
    assert "Running stage" not in done.stdout + done.stderr


CHANGES = [
    (
        "strength: 0.5",
        "strength: 0.7",
        {"objective@pixel", "objective@diffloss", "quality@fog", "code", "plan", "report", "publish"},
    ),
    ("severity: 3", "severity: 4", {"code", "degrade@fog", "plan", "report", "publish"}),
    (
        "degradations: [fog]",
        "degradations: [fog, lowlight]",
        {"degrade@lowlight", "quality@lowlight", "evaluate@detection-lowlight", "evaluate@segmentation-lowlight"}
        | {f"{stage}@lowlight-{objective}" for stage in ("train_restorer", "restore") for objective in OBJECTIVES}
        | {"code", "plan", "report", "publish"},
    ),
    (
        "encoder: tu-mobilenetv3_small_050",
        "encoder: tu-mobilenetv3_small_075",
        {"train_task@segmentation", "plan", "report", "publish"},
    ),
    ("unet: {channels: [4,", "unet: {channels: [6,", {"plan", "report", "publish"}),
    (
        "overlap: 64",
        "overlap: 32",
        {"restore@fog-pixel", "restore@fog-diffloss", "plan", "report", "publish"},
    ),
    ("pictures: 2", "pictures: 1", {"plan", "report"}),
    ("resamples: 100", "resamples: 200", {"plan", "report", "publish"}),
]


@pytest.mark.parametrize(("old", "new", "expected"), CHANGES, ids=[new for _, new, _ in CHANGES])
def test_a_change_reaches_what_depends_on_it(finished: Path, old: str, new: str, expected: set[str]) -> None:
    before = (finished / "params.yaml").read_text()
    try:
        edit(finished, old, new)
        assert _would_run(finished) == expected
    finally:
        (finished / "params.yaml").write_text(before)


def test_a_docstring_runs_only_the_stage_code(finished: Path) -> None:
    path = finished / "models" / "restorers" / "nafnet.py"
    before = path.read_text()
    try:
        path.write_text(before.replace('"""', '"""Other words. ', 1))
        assert _would_run(finished) == {"code"}
        done = dvc(finished, "repro")
        assert done.returncode == 0 and _ran(done) == {"code"}
    finally:
        path.write_text(before)


def test_a_single_stage_after_a_change_in_its_code(finished: Path) -> None:
    paths = [finished / "pipeline" / "reporting" / "tables.py", finished / "models" / "tasks" / "segmentation.py"]
    before = {path: path.read_text() for path in paths}
    try:
        for path, text in before.items():
            path.write_text(text + "CHANGED = True\n")
        assert _would_run(finished) == {"code"}
        done = dvc(finished, "repro", "-s", "-f", "report")
        assert done.returncode != 0
        assert "error: artifacts/code/stages/report: the code has changed since this file was written" in done.stderr
        assert dvc(finished, "repro", "-s", "code").returncode == 0
        assert _would_run(finished) == {
            *("report", "publish"),
            "train_task@segmentation",  # the task's code concerns that task only
            "evaluate_clean@segmentation",
            "evaluate@segmentation-fog",
            *(f"objective@{objective}" for objective in OBJECTIVES),  # which write what they wrote before
        }
        done = dvc(finished, "repro", "-s", "report")
        assert done.returncode == 0 and _ran(done) == {"report"}
    finally:
        for path, text in before.items():
            path.write_text(text)
        dvc(finished, "repro", "-s", "code")


def test_a_loss_weight_retrains_its_restorers_only_and_mlflow_is_complete_from_the_cache(finished: Path) -> None:
    before = (finished / "params.yaml").read_text()
    edit(finished, "strength: 0.5", "strength: 0.7")
    done = dvc(finished, "repro")
    assert done.returncode == 0, done.stderr[-2000:]
    ran = _ran(done)
    assert "train_restorer@fog-diffloss" in ran
    assert not {"train_restorer@fog-pixel", "train_prior", "train_task@detection"} & ran
    rows = _runs(finished)
    assert len(rows) == 5  # the changed row is new, the other four stand
    (finished / "params.yaml").write_text(before)
    for path in ("mlflow.db", "mlruns", "artifacts"):
        shutil.rmtree(finished / path) if (finished / path).is_dir() else (finished / path).unlink()
    done = dvc(finished, "repro")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Running stage 'train_restorer@fog-pixel'" not in done.stdout
    rows = _runs(finished)
    assert len(rows) == 4 and all(row["metrics"] for row in rows)
    assert next(row for row in rows if row["name"] == "fog · pixel")["history"] == [1, 2, 3, 4]


def test_a_wrong_name_stops_before_any_work(finished: Path) -> None:
    before = (finished / "params.yaml").read_text()
    try:
        edit(finished, "degradations: [fog]", "degradations: [fog, smog]")
        done = dvc(finished, "repro")
    finally:
        (finished / "params.yaml").write_text(before)
    assert done.returncode != 0
    assert "error: params.yaml: degradations: there is no recipe 'smog'. Choose from" in done.stderr
    assert "Traceback" not in done.stderr and "Running stage 'degrade" not in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not CAMVID.is_dir(), reason="../shared/camvid is not here")
def test_a_few_real_photos(tmp_path: Path) -> None:
    folder = clone(tmp_path / "project", "params.tiny.yaml")
    yaml = YAML()
    tiny, camvid = (yaml.load(ROOT / name) for name in ("params.tiny.yaml", "params.camvid.yaml"))
    tiny["data"] = camvid["data"]
    tiny["data"]["root"] = str(CAMVID)
    tiny["data"]["masks"]["limit"] = {"train": 12, "val": 6, "test": 6}
    yaml.dump(tiny, folder / "params.yaml")
    done = dvc(folder, "repro")
    assert done.returncode == 0, done.stderr[-2000:]
    results = pd.read_csv(folder / "artifacts" / "report" / "results.csv")
    assert set(results.n_images) == {6}
    split = "test" if (CAMVID / "test").is_dir() else "val"
    assert f"Data: camvid, split {split}, 6 images" in (folder / "artifacts" / "report" / "report.md").read_text()


def _runs(folder: Path) -> list[dict[str, Any]]:
    """The runs of the comparison, from a copy of the database: MLflow keeps its connections to a file."""
    with TemporaryDirectory() as scratch, warnings.catch_warnings(action="ignore"):
        from mlflow import MlflowClient

        database = shutil.copy(folder / "mlflow.db", scratch)
        client = MlflowClient(tracking_uri=f"sqlite:///{database}")
        experiment = client.get_experiment_by_name("scenes")
        assert experiment is not None
        return [_described(client, run) for run in client.search_runs([experiment.experiment_id])]


def _described(client: "MlflowClient", run: "Run") -> dict[str, Any]:
    run_id = run.info.run_id
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "metrics": run.data.metrics,
        "configuration": run.data.tags["configuration"],
        "history": [metric.step for metric in client.get_metric_history(run_id, "training/loss")],
        "datasets": [data.dataset.digest for data in run.inputs.dataset_inputs],
        "models": [model.model_id for model in run.outputs.model_outputs] if run.outputs else [],
        "artifacts": [artifact.path for artifact in client.list_artifacts(run_id)],
    }
