"""The real pipeline on tiny parameters, in a temporary clone: dvc repro, as a user runs it."""

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from clones import ROOT, TABLES, clone, dvc, edit, environment
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.metrics.image_quality import ImageQuality
from pipeline.reporting.score_rows import GAINS, RESULTS, TRAININGS
from pipeline.statistics.comparison import ONE_TRAINING

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
    """A clone in which `dvc repro` has run once."""
    folder = clone(tmp_path_factory.mktemp("smoke") / "project", "params.tiny.yaml")
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
    assert set(results.degradation) == {"lowlight", "fog"}
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
    cells = {f"{d}-{t}" for d in ("lowlight", "fog") for t in ("detection", "segmentation")}
    assert {f"{cell}.jpg" for cell in cells} <= names
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
    assert page.count('type="range"') == 8 and len(page) < 2_000_000
    assert (report / "metrics.json").exists()


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
    assert sorted(run["name"] for run in runs) == sorted(
        ["clean", *(f"{d} · {v}" for d in ("lowlight", "fog") for v in ("degraded", "pixel", "diffloss"))]
    )
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
        {"objective@pixel", "objective@diffloss", "quality@lowlight", "quality@fog"}
        | {"code", "plan", "report", "publish"},
    ),
    ("severity: 3", "severity: 4", {"code", "degrade@lowlight", "degrade@fog", "plan", "report", "publish"}),
    (
        "encoder: tu-mobilenetv3_small_050",
        "encoder: tu-mobilenetv3_small_075",
        {"train_task@segmentation", "plan", "report", "publish"},
    ),
    ("unet: {channels: [4,", "unet: {channels: [6,", {"plan", "report", "publish"}),
    (
        "overlap: 64",
        "overlap: 32",
        {"restore@lowlight-pixel", "restore@lowlight-diffloss", "restore@fog-pixel", "restore@fog-diffloss"}
        | {"plan", "report", "publish"},
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


def test_the_code_of_one_task_concerns_that_task_only(finished: Path) -> None:
    path = finished / "models" / "tasks" / "segmentation.py"
    before = path.read_text()
    try:
        path.write_text(before + "CHANGED = True\n")
        assert _would_run(finished) == {"code"}
        assert dvc(finished, "repro", "code").returncode == 0
        assert _would_run(finished) == {
            "train_task@segmentation",
            "evaluate_clean@segmentation",
            *(f"evaluate@segmentation-{degradation}" for degradation in ("lowlight", "fog")),
            *(f"objective@{objective}" for objective in ("pixel", "diffloss")),  # which write what they wrote before
        }
    finally:
        path.write_text(before)
        dvc(finished, "repro", "code")


def test_a_single_stage_after_a_change_in_its_code(finished: Path) -> None:
    path = finished / "pipeline" / "reporting" / "tables.py"
    before = path.read_text()
    try:
        path.write_text(before + "CHANGED = True\n")
        done = dvc(finished, "repro", "-s", "-f", "report")
        assert done.returncode != 0
        assert "error: artifacts/code/stages/report: the code has changed since this file was written" in done.stderr
        assert dvc(finished, "repro", "-s", "code").returncode == 0
        done = dvc(finished, "repro", "-s", "report")
        assert done.returncode == 0 and _ran(done) == {"report"}
    finally:
        path.write_text(before)
        dvc(finished, "repro")


def test_a_loss_weight_retrains_its_restorers_only_and_mlflow_is_complete_from_the_cache(finished: Path) -> None:
    before = (finished / "params.yaml").read_text()
    edit(finished, "strength: 0.5", "strength: 0.7")
    done = dvc(finished, "repro")
    assert done.returncode == 0, done.stderr[-2000:]
    ran = _ran(done)
    assert {"train_restorer@lowlight-diffloss", "train_restorer@fog-diffloss"} <= ran
    assert (
        not {"train_restorer@lowlight-pixel", "train_restorer@fog-pixel", "train_prior", "train_task@detection"} & ran
    )
    rows = _runs(finished)
    assert len(rows) == 9  # the two changed rows are new, the other seven stand
    (finished / "params.yaml").write_text(before)
    for path in ("mlflow.db", "mlruns", "artifacts"):
        shutil.rmtree(finished / path) if (finished / path).is_dir() else (finished / path).unlink()
    done = dvc(finished, "repro")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Running stage 'train_restorer@fog-pixel'" not in done.stdout
    rows = _runs(finished)
    assert len(rows) == 7 and all(row["metrics"] for row in rows)
    assert next(row for row in rows if row["name"] == "fog · pixel")["history"] == [1, 2, 3, 4]


def test_a_wrong_name_stops_before_any_work(finished: Path) -> None:
    before = (finished / "params.yaml").read_text()
    try:
        edit(finished, "[lowlight, fog]", "[lowlight, smog]")
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


def _runs(folder: Path) -> list[dict[str, object]]:
    """The runs of the comparison, read in a process of its own: MLflow keeps global state."""
    code = (
        "import json, sys\nfrom mlflow import MlflowClient\nc = MlflowClient(tracking_uri='sqlite:///mlflow.db')\n"
        "e = c.get_experiment_by_name('scenes')\nout = []\n"
        "for r in c.search_runs([e.experiment_id]):\n"
        "    i = r.info.run_id\n"
        "    out.append(dict(name=r.info.run_name, status=r.info.status, metrics=r.data.metrics,\n"
        "        configuration=r.data.tags['configuration'],\n"
        "        history=[m.step for m in c.get_metric_history(i, 'training/loss')],\n"
        "        datasets=[d.dataset.digest for d in r.inputs.dataset_inputs],\n"
        "        models=[m.model_id for m in r.outputs.model_outputs] if r.outputs else [],\n"
        "        artifacts=[a.path for a in c.list_artifacts(i)]))\n"
        "print(json.dumps(out))\n"
    )
    done = subprocess.run(["python", "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    rows: list[dict[str, object]] = YAML(typ="safe").load(done.stdout.splitlines()[-1])
    return rows
