import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from pipeline.reporting import dvc_metrics, tables
from pipeline.reporting.tables import GAINS, RESULTS

ROOT = Path(__file__).parents[1]


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
        tables.write_table(results, RESULTS, folder / "results.csv"),
        tables.write_table(gains, GAINS, folder / "gains.csv"),
    ]
    dvc_metrics.write_metrics(*frames, folder)
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
    for name, text in (("pixel", "step,loss,pixel\n1,0.5,0.5\n2,0.25,0.25\n"), ("frozen", None)):
        folder = tmp_path / "restorers" / "fog" / name
        folder.mkdir(parents=True)
        if text:
            (folder / "curve.csv").write_text(text)
    dvc_metrics.write_curves(tmp_path / "restorers", ["fog"], ["pixel", "frozen"], tmp_path)
    assert (tmp_path / "curves.csv").read_text() == "degradation,variant,step,loss\nfog,pixel,1,0.5\nfog,pixel,2,0.25\n"


def test_dvc_shows_the_metrics_and_plots_that_its_file_declares(written: Path) -> None:
    project = written.parents[1]
    dvc_metrics.write_curves(project, [], [], written)
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
