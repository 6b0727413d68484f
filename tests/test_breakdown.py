"""The breakdown of gains on six made images, whose numbers are worked out by hand."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.dataset import Dataset
from models.tasks.predictions import DetectionPrediction
from pipeline.metrics import MeanRecords
from pipeline.metrics.classification import ClassificationRecords
from pipeline.metrics.detection import Boxes, DetectionScoring, match_detections
from pipeline.metrics.object_changes import ObjectRuns
from pipeline.metrics.segmentation import SegmentationRecords, count_segmentation
from pipeline.reporting import breakdown, prediction_pictures, score_rows
from pipeline.reporting.prediction_pictures import PredictionPainter, choose_extremes, draw_extremes
from pipeline.reporting.scatter_plots import draw_scatter_plots
from pipeline.reporting.tables import RunFolders
from pipeline.running.artifacts import DIFFLOSS_FILE, RECORDS_FILE, variant_folder
from pipeline.settings.params import Params, load_params
from pipeline.statistics import correlations
from pipeline.statistics.scores import OF_CLASS, ScoresWithClasses, class_objects, read_cells

ROOT = Path(__file__).parents[1]
OBJECT, ELSEWHERE = [8.0, 10, 28, 30], [40.0, 5, 60, 20]  # the fixture's images have one object, of class 0
ALL = range(6)
FOUND = {  # variant: images where the object is found, images with a wrong box elsewhere
    "clean": (ALL, []),
    "degraded": ([0, 1], [5]),
    "pixel": ([0, 2, 3, 4, 5], [2]),
    "diffloss": (ALL, [5]),
    "clean-restored-pixel": ([1, 2, 3, 4, 5], [0, 1]),
}


@pytest.fixture
def params() -> Params:
    return load_params(ROOT / "params.yaml").model_copy(update={"tasks": ["detection"], "degradations": ["fog"]})


@pytest.fixture
def clean(make_dataset: Callable[..., Dataset]) -> Dataset:
    make_dataset("fog", test=6)
    return make_dataset("clean", test=6)


@pytest.fixture
def folders(clean: Dataset, tmp_path: Path) -> dict[str, Path]:
    for variant, (found, wrong) in FOUND.items():
        folder = variant_folder(_run(tmp_path).evaluations, "detection", "fog", variant, [])
        _store(folder / "test", {f"test{n}": _seen(n in found, n in wrong) for n in ALL})
    return {variant: variant_folder(_run(tmp_path).evaluations, "detection", "fog", variant, []) for variant in FOUND}


def _run(folder: Path) -> RunFolders:
    names = ("restored", "restorers", "quality", "evaluations", "costs")
    return RunFolders(folder, *(folder / name for name in names))


def _seen(found: bool, wrong: bool) -> DetectionPrediction:
    rows = [OBJECT] * found + [ELSEWHERE] * wrong
    return DetectionPrediction(np.array(rows).reshape(-1, 4), np.full(len(rows), 0.9), np.zeros(len(rows), int))


def _store(folder: Path, found: Mapping[str, DetectionPrediction]) -> None:
    (folder / "predictions").mkdir(parents=True)
    with DetectionScoring.writer(folder / "predictions") as writer:
        for id, prediction in found.items():
            writer.write(id, prediction)
    truth = {id: Boxes(np.array([OBJECT]), np.array([0])) for id in found}
    match_detections(found, truth, ("square", "bar"), dict.fromkeys(found, (48, 64))).save(folder / RECORDS_FILE)


def _class_table(params: Params, task: str, folders: Mapping[str, Path]) -> pd.DataFrame:
    cells = read_cells(params, folders, load=ScoresWithClasses.load)
    assert all(OF_CLASS not in name for system in cells.whole.values() for name in system.values)
    rows = score_rows.class_rows(task, "fog", cells.classes, 0.95, class_objects(folders["degraded"]))
    return pd.DataFrame(rows).set_index(["class", "variant"])


@pytest.fixture
def runs(clean: Dataset, tmp_path: Path) -> ObjectRuns:
    return ObjectRuns(DetectionScoring, "detection", clean, Dataset.open(tmp_path / "fog"))


def test_the_only_class_and_size_gain_what_the_task_gains(
    params: Params, folders: dict[str, Path], runs: ObjectRuns
) -> None:
    cell = read_cells(params, folders).whole
    whole = pd.DataFrame(score_rows.gain_rows("detection", "fog", cell, 0.95)).set_index(
        ["variant", "versus", "metric"]
    )
    classes = _class_table(params, "detection", folders)
    sizes = pd.DataFrame(breakdown.size_rows(params, "detection", "fog", folders)).set_index(["size", "variant"])
    wanted = whole.loc[("pixel", "degraded", "mAP50")]
    for own in (classes.loc[("square", "pixel")], sizes.loc[("small", "pixel")]):
        row = own[own.metric.str.endswith("AP50")].iloc[0]
        assert (row.gain, row.gain_low, row.gain_high) == pytest.approx((wanted.gain, wanted.ci_low, wanted.ci_high))
        assert row.n_objects == 6
    assert (
        classes.ci_low.isna().all() and sizes.ci_low.isna().all()
    )  # 6 objects are too few for the interval of a score
    assert classes.loc[("bar", "pixel")].value.isna().all() and (classes.loc["bar"].n_objects == 0).all()
    assert sizes.loc[("large", "pixel")].value.isna().all()
    assert classes.loc[("square", "degraded")].gain.isna().all()


def test_objects_worked_out_by_hand(params: Params, folders: dict[str, Path], runs: ObjectRuns) -> None:
    rows = pd.DataFrame(breakdown.object_rows(params, "detection", "fog", folders, runs)).set_index("variant")
    counts = rows[["invented", "cleared", "lost", "found_again", "n_objects", "n_images"]]
    assert counts.loc["pixel"].tolist() == [1, 1, 1, 4, 6, 6]
    assert counts.loc["diffloss"].tolist() == [0, 0, 0, 4, 6, 6]  # the box in the last image was there before
    assert counts.loc["clean-restored-pixel"].tolist() == [2, 0, 1, 0, 6, 6]  # against the clean images
    assert list(rows.index) == ["pixel", "diffloss", "clean-restored-pixel"]
    assert rows.loc["pixel"].found_again_low < 4 < rows.loc["pixel"].found_again_high


def test_photos_without_clean_counterparts_have_objects_too(
    params: Params, folders: dict[str, Path], runs: ObjectRuns
) -> None:
    some = {name: folders[name] for name in ("degraded", "pixel", "clean-restored-pixel")}
    rows = breakdown.object_rows(params, "detection", "fog", some, runs)
    assert [row["variant"] for row in rows] == ["pixel"]
    assert rows[0]["invented"] == 1


def test_scores_of_images_are_means_over_trainings(folders: dict[str, Path], tmp_path: Path) -> None:
    _store(folders["pixel"] / "test~2", {f"test{n}": _seen(False, False) for n in ALL})
    rows = pd.DataFrame(breakdown.image_rows("detection", "fog", folders)).set_index(["variant", "id"]).score
    assert rows["degraded", "test5"] == 0 and rows["degraded", "test0"] == 1
    assert rows["pixel", "test2"] == pytest.approx((2 / 3 + 0) / 2)


def test_copies_of_a_split_and_terms_of_some_images(tmp_path: Path) -> None:
    for variant, splits in {"clean": ["test"], "degraded": ["test-1", "test-3"], "pixel": ["test-1", "test-3"]}.items():
        for split in splits:
            values = {f"i{n}": {"PSNR": 20.0 + n} for n in range(3)}
            (tmp_path / variant / split).mkdir(parents=True)
            MeanRecords.from_values(values).save(tmp_path / variant / split / RECORDS_FILE)
    MeanRecords.from_values({"i1": {"natural": 0.5}}).save(tmp_path / "pixel" / "test-3" / DIFFLOSS_FILE)
    names = {v: tmp_path / v for v in ("clean", "degraded", "pixel")}
    rows = pd.DataFrame(breakdown.image_rows("quality", "fog", names))
    assert len(rows) == 3 * 2 * 3 + 1
    assert not rows.duplicated(["variant", "id", "metric"]).any()
    assert rows[rows.metric == "natural"][["id", "score"]].values.tolist() == [["test-3/i1", 0.5]]
    gains = correlations.image_gains(rows, ["pixel"])
    assert set(gains.metric) == {"PSNR"} and (gains.gain == 0).all() and len(gains) == 6


def test_most_gained_and_lost_are_drawn_with_scores(
    params: Params, clean: Dataset, folders: dict[str, Path], runs: ObjectRuns, tmp_path: Path
) -> None:
    for objective in params.objectives:
        target = tmp_path / "restored" / "fog" / objective / "test"
        target.parent.mkdir(parents=True)
        target.symlink_to(clean.folder / "test" / "images")
    table = pd.DataFrame(breakdown.image_rows("detection", "fog", folders))
    chosen = choose_extremes(correlations.image_gains(table, ["pixel"]), 3, "test")
    assert [image.image_id for image in chosen["best"]] == ["test3", "test4", "test5"]  # test2 gained only 2/3
    assert [(image.image_id, image.before, image.after) for image in chosen["worst"]] == [("test1", 1, 0)]
    painter = PredictionPainter("detection", clean, runs.degraded, tmp_path / "restored" / "fog", folders)
    columns = prediction_pictures._extreme_columns(painter, "pixel", chosen["best"])
    assert list(columns) == ["degraded", "pixel", "clean", "labels"]
    assert {len(column) for column in columns.values()} == {3}
    drawn = draw_extremes(params, clean, _run(tmp_path), table, tmp_path)
    assert [picture.file for picture in drawn] == [
        "best-fog-detection-pixel.jpg",
        "worst-fog-detection-pixel.jpg",
        "best-fog-detection-diffloss.jpg",  # nothing lost by it
    ]
    assert drawn[1].title == "fog, detection, pixel: images that lost most"
    assert all((tmp_path / picture.file).exists() and picture.uri for picture in drawn)
    few = draw_extremes(params, clean, _run(tmp_path), table, tmp_path, budget=len(drawn[0].uri))
    assert [bool(picture.uri) for picture in few] == [True, False, False]


def test_all_tables_and_plots(params: Params, clean: Dataset, folders: dict[str, Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    run = _run(tmp_path)
    for variant in ("degraded", "pixel", "diffloss"):
        folder = run.quality / "fog" / variant / "test"
        folder.mkdir(parents=True)
        records = MeanRecords.from_values({f"test{n}": {"PSNR": 20 + rng.random()} for n in ALL})
        records.save(folder / RECORDS_FILE)
    gains = pd.DataFrame(score_rows.gain_rows("detection", "fog", read_cells(params, folders).whole, 0.95))
    written = breakdown.write_breakdown(params, clean, run, {"fog": {}}, gains, tmp_path)
    for name, columns in {**breakdown.COLUMNS, "correlations": correlations.COLUMNS}.items():
        assert (tmp_path / f"{name}.csv").read_text().splitlines()[0] == ",".join(columns)
        assert len(written[name])
    (quality,) = draw_scatter_plots(params, written["images"], tmp_path)
    assert quality.file == "quality-detection.png" and (tmp_path / quality.file).exists()


def test_classes_of_masks_are_numpys(params: Params, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ("sky", "road", "car")
    truth = rng.integers(0, 3, (5, 12, 16), dtype=np.uint8)
    shares = {"degraded": 0.5, "pixel": 0.8}
    seen = {v: np.where(rng.random(truth.shape) < p, truth, 0).astype(np.uint8) for v, p in shares.items()}
    for variant, masks in seen.items():
        counts = [count_segmentation(mask, true, 3) for mask, true in zip(masks, truth, strict=True)]
        (tmp_path / variant / "test").mkdir(parents=True)
        records = SegmentationRecords.stack([f"i{n}" for n in range(5)], counts, names)
        records.save(tmp_path / variant / "test" / RECORDS_FILE)
    found = _class_table(params, "segmentation", {v: tmp_path / v for v in seen})
    for index, name in enumerate(names):
        true = truth == index
        iou = {v: ((m == index) & true).sum() / ((m == index) | true).sum() for v, m in seen.items()}
        row = found.loc[(name, "pixel")]
        assert (row.metric, row.value) == ("IoU", pytest.approx(iou["pixel"]))
        assert row.gain == pytest.approx(iou["pixel"] - iou["degraded"])
        assert row.ci_low < row.value < row.ci_high
    assert found.n_objects.isna().all()


def test_classes_of_images_are_recalls(params: Params, tmp_path: Path) -> None:
    truth = {"a": 0, "b": 0, "c": 1, "d": 1}
    for variant, seen in {"degraded": (0, 1, 1, 0), "pixel": (0, 0, 1, 0)}.items():
        (tmp_path / variant / "test").mkdir(parents=True)
        records = ClassificationRecords.gather(truth, dict(zip("abcd", seen, strict=True)), ("day", "night"))
        records.save(tmp_path / variant / "test" / RECORDS_FILE)
    folders = {v: tmp_path / v for v in ("degraded", "pixel")}
    found = _class_table(params, "classification", folders)
    assert found.loc[("day", "pixel")][["metric", "value", "gain", "n_objects"]].tolist() == ["recall", 1, 0.5, 2]
    assert found.loc[("night", "pixel")][["metric", "value", "gain", "n_objects"]].tolist() == ["recall", 0.5, 0, 2]
    images = pd.DataFrame(breakdown.image_rows("classification", "fog", folders))
    assert images[images.variant == "pixel"].score.tolist() == [1, 1, 1, 0]
