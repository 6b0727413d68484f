"""Labels and predictions as COCO JSON: another evaluator computes the same scores from the files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from data.dataset import Dataset
from models.tasks.predictions import DetectionPrediction
from pipeline.commands import export_coco
from pipeline.commands.completed_runs import CompletedRunError
from pipeline.metrics import get_scoring
from pipeline.running.atomic_outputs import OutputError
from pipeline.settings.params import Params, ParamsError, load_params

ROOT = Path(__file__).parents[1]


def _params(**changes: object) -> Params:
    params = load_params(ROOT / "params.tiny.yaml")
    return params.model_copy(update={"tasks": ["segmentation", "detection"], "degradations": ["fog"], **changes})


def _predictions(dataset: Dataset, seed: int) -> dict[str, DetectionPrediction]:
    """The true boxes, moved and with random confidence."""
    rng, split, scoring = np.random.default_rng(seed), dataset.split("test"), get_scoring("detection")
    predictions = {}
    for image_id in split.ids:
        truth = scoring.truth(split, image_id)
        moved = truth.boxes + rng.normal(0, 2, truth.boxes.shape)
        predictions[image_id] = DetectionPrediction(moved, rng.uniform(0.1, 1, len(moved)), truth.classes)
    return predictions


def _score(labels: Path, results: Path) -> float:
    truth = COCO(str(labels))
    evaluation = COCOeval_faster(truth, truth.loadRes(str(results)), "bbox")
    evaluation.run()
    return float(evaluation.stats[0])


def test_another_evaluator_finds_the_same_scores(
    make_dataset: Callable[..., Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    scoring = get_scoring("detection")
    (tmp_path / "artifacts" / "degraded").mkdir(parents=True)
    made = make_dataset("fog", train=1, test=12)
    made.folder.rename("artifacts/degraded/fog")
    dataset, records = Dataset.open(Path("artifacts/degraded/fog")), {}
    for seed, (variant, split) in enumerate((("degraded", "test"), ("pixel", "test"), ("pixel", "test~2"))):
        stored = Path("artifacts/evaluations/detection/fog/clean-trained", variant, split, "predictions")
        stored.mkdir(parents=True)
        predictions = _predictions(dataset, seed)
        with scoring.writer(stored) as writer:
            for image_id, prediction in predictions.items():
                writer.write(image_id, prediction)
        classes = dataset.info.classes["detection"]
        records[variant, split] = scoring.score(scoring.read(stored), dataset.split("test"), classes)
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    monkeypatch.setattr(export_coco, "load_params", _params)
    monkeypatch.setattr("sys.argv", ["export_coco", "--out", "exported"])
    export_coco.main()
    folder = Path("exported/detection/fog")
    assert "exported: 4 files" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == {
        *("labels-test.json", "degraded-test.json", "pixel-test.json", "pixel-test~2.json")
    }
    for (variant, split), expected in records.items():
        found = _score(folder / "labels-test.json", folder / f"{variant}-{split}.json")
        assert 0 < found < 1 and found == pytest.approx(float(expected.metrics()["mAP50-95"][0]), abs=1e-6)
    labels = json.loads((folder / "labels-test.json").read_text())
    assert [category["name"] for category in labels["categories"]] == dataset.info.classes["detection"]
    files = [Path(labels["info"]["images"], image["file_name"]) for image in labels["images"]]
    assert len(files) == 12 and all(file.is_file() for file in files)
    export_coco.main()  # replaces its own folder
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    monkeypatch.setattr("sys.argv", ["export_coco", "--out", "mine"])
    with pytest.raises(OutputError, match="--out mine: has other files in it"):
        export_coco.main()
    assert Path("mine/thesis.txt").read_text() == "years of work"


def test_mistakes(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    make_dataset("fog", test=1)
    with pytest.raises(ParamsError, match=r"none of segmentation predicts objects\. Add detection"):
        export_coco.export(_params(tasks=["segmentation"]), tmp_path, tmp_path, tmp_path / "out")
    with pytest.raises(CompletedRunError, match=r"there are no predictions\. Run `uv run dvc repro` first"):
        export_coco.export(_params(), tmp_path, tmp_path / "none", tmp_path / "out")
