import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.metrics import MeanRecords
from pipeline.reporting import score_rows, tables
from pipeline.running.artifacts import RECORDS_FILE
from pipeline.settings.params import load_params
from pipeline.statistics.scores import Cell, read_cells

ROOT = Path(__file__).parents[1]
VALUES = {"clean": 0.9, "degraded": 0.3, "pixel": 0.6, "diffloss": 0.75}


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 0.2, 50)
    for variant, mean in VALUES.items():
        scores = mean + difficulty - difficulty.mean() + 0.01 * np.sin(np.arange(50) + mean)
        records = MeanRecords.from_values({f"i{n:02}": {"score": float(v)} for n, v in enumerate(scores)})
        _save(records, tmp_path / "fog" / variant / "test")
    return read_cells(load_params(ROOT / "params.yaml"), {v: tmp_path / "fog" / v for v in VALUES}).whole


def _save(records: MeanRecords, folder: Path) -> None:
    folder.mkdir(parents=True)
    records.save(folder / RECORDS_FILE)


def test_results_have_every_variant_with_its_interval(cell: Cell) -> None:
    rows = pd.DataFrame(score_rows.result_rows("detection", "fog", cell, 0.95))
    assert list(rows.columns) == score_rows.RESULTS
    assert list(rows.variant) == list(VALUES)
    assert ((rows.ci_low < rows.value) & (rows.value < rows.ci_high)).all()
    assert (rows.n_images == 50).all()


def test_gains_are_paired_and_recovered_is_the_formula(cell: Cell) -> None:
    rows = pd.DataFrame(score_rows.gain_rows("detection", "fog", cell, 0.95)).set_index(["variant", "versus"])
    assert set(rows.index) == {
        ("clean", "degraded"),
        ("pixel", "degraded"),
        ("diffloss", "degraded"),
        ("diffloss", "pixel"),
    }
    row = rows.loc[("pixel", "degraded")]
    assert row.gain == pytest.approx(0.3, abs=0.01)
    assert row.recovered == pytest.approx(0.5, abs=0.02)
    # The difficulty of images (0.2) cancels in a paired gain: unpaired, the interval would be about 0.15 wide.
    assert row.ci_high - row.ci_low < 0.02


def test_written_tables_are_tidy_and_the_same_twice(cell: Cell, tmp_path: Path) -> None:
    rows = score_rows.gain_rows("detection", "fog", cell, 0.95)
    for name in ("a.csv", "b.csv"):
        tables.write_table(rows, score_rows.GAINS, tmp_path / name)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == ",".join(score_rows.GAINS)


def test_quality_has_no_clean_and_no_recovered(tmp_path: Path) -> None:
    for variant in ("degraded", "pixel"):
        records = MeanRecords.from_values({f"i{n}": {"PSNR": 20.0 + n} for n in range(4)})
        _save(records, tmp_path / variant / "test")
    cell = read_cells(load_params(ROOT / "params.yaml"), {v: tmp_path / v for v in ("degraded", "pixel")}).whole
    rows = score_rows.gain_rows("quality", "fog", cell, 0.95)
    assert len(rows) == 1 and np.isnan(rows[0]["recovered"])
    json.dumps([row["gain"] for row in rows])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """metrics.json and the tables that it is made from."""
    row = {"task": "detection", "degradation": "fog", "variant": "pixel", "metric": "mAP50"}
    results = [{**row, "value": 1 / 3}, {**row, "variant": "degraded", "value": 0.25}, {**row, "metric": "mAP75"}]
    gain = {**row, "versus": "degraded", "gain": 1 / 12, "ci_low": 0.01, "ci_high": 0.1}
    gains = [gain, {**gain, "versus": "degraded-retrained", "gain": 9.0}, {**gain, "metric": "mAP75", "gain": None}]
    folder = tmp_path / "artifacts" / "report"
    folder.mkdir(parents=True)
    frames = [
        tables.write_table(results, score_rows.RESULTS, folder / "results.csv"),
        tables.write_table(gains, score_rows.GAINS, folder / "gains.csv"),
    ]
    tables.write_metrics(*frames, folder)
    return folder


def test_metrics_are_the_numbers_of_the_tables(written: Path) -> None:
    found = json.loads((written / "metrics.json").read_text())
    assert found == {
        "fog": {
            "pixel": {"detection/mAP50": 0.333333, "gain in detection/mAP50": 0.0833333},
            "degraded": {"detection/mAP50": 0.25},
        }
    }
    value = pd.read_csv(written / "results.csv").value[0]
    assert found["fog"]["pixel"]["detection/mAP50"] == value


def test_curves_of_objectives_in_one_table(tmp_path: Path) -> None:
    curve = "step,loss,pixel,natural_ratio\n1,0.5,0.5,2.1\n2,0.25,0.25,\n"
    for name, text in (("pixel", curve), ("frozen", "step\n")):  # as the stage writes it: no step was done
        folder = tmp_path / "restorers" / "fog" / name
        folder.mkdir(parents=True)
        (folder / "curve.csv").write_text(text)
    tables.write_curves(tmp_path / "restorers", ["fog"], ["pixel", "frozen"], tmp_path)
    assert (tmp_path / "curves.csv").read_text() == "degradation,variant,step,loss\nfog,pixel,1,0.5\nfog,pixel,2,0.25\n"
    ratios = "degradation,variant,step,component,ratio\nfog,pixel,1,natural,2.1\n"
    assert (tmp_path / "gradient_ratios.csv").read_text() == ratios


def test_dvc_shows_the_metrics_and_plots_that_its_file_declares(written: Path) -> None:
    project = written.parents[1]
    tables.write_curves(project, [], [], written)
    (written / "curves.csv").write_text("degradation,variant,step,loss\nfog,pixel,1,0.5\n")
    lines = (ROOT / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(lines[lines.index("\nmetrics:") :])

    def dvc(*arguments: str) -> str:
        done = subprocess.run(["dvc", *arguments], cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    dvc("init", "--no-scm", "-q")
    for template in (ROOT / ".dvc" / "plots").glob("*.json"):
        (project / ".dvc" / "plots").mkdir(exist_ok=True)
        (project / ".dvc" / "plots" / template.name).write_text(template.read_text())
    shown = json.loads(dvc("metrics", "show", "--json"))
    data = shown[""]["data"]["artifacts/report/metrics.json"]["data"]
    assert data["fog"]["pixel"]["gain in detection/mAP50"] == 0.0833333
    plots = json.loads(dvc("plots", "show", "--json"))["data"]
    (gains,), (curves,) = plots["artifacts/report/gains.csv"], plots["artifacts/report/curves.csv"]
    values = gains["content"]["data"]["values"]
    assert [row["gain"] for row in values][:1] == ["0.0833333"]
    assert curves["content"]["spec"]["encoding"]["y"]["field"] == "loss"
    assert "<DVC_METRIC" not in json.dumps(plots)
