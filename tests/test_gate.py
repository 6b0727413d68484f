"""Whether to restore an image: features, the fit, the curve, and the command on a finished run."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import finished_run
import numpy as np
import pandas as pd
import pytest

from data import images
from data.dataset import Dataset
from models.tasks.predictions import DetectionPrediction, Label
from pipeline.commands import gate, gate_report, gate_scores, photo_folders, restore_files
from pipeline.commands.completed_runs import CompletedRun
from pipeline.commands.gate_model import (
    ALWAYS,
    NEVER,
    Gate,
    GateError,
    choose_threshold,
    fit,
    image_features,
    output_features,
)
from pipeline.metrics import Metric, load_records, main_metric
from pipeline.running.artifacts import variant_folder
from pipeline.settings.params import ParamsError, load_params
from pipeline.statistics.resampling import Resamples

VARIANTS = ("clean", "degraded", "pixel")
FEATURES = ["brightness", "noise"]


def _cases(count: int, seed: int, gain: Callable[[np.ndarray], np.ndarray]) -> pd.DataFrame:
    """Cases whose gain depends on their brightness, and on chance."""
    rng = np.random.default_rng(seed)
    brightness, noise = rng.uniform(-1, 1, count), rng.normal(size=count)
    before = rng.uniform(0.3, 0.7, count)
    after = before + gain(brightness) + 0.05 * rng.normal(size=count)
    names = [f"{number:04}" for number in range(count)]
    columns = {"image": names, "group": names, "before": before, "after": after}
    return pd.DataFrame({**columns, "brightness": brightness, "noise": noise})


def _score(cases: pd.DataFrame, restored: np.ndarray) -> float:
    return float(np.where(restored, cases.after, cases.before).mean())


def test_images_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    photo = np.clip(rng.normal(128, 40, (64, 64, 3)), 0, 255).astype(np.uint8)
    smooth = np.asarray(cv2.GaussianBlur(photo, (0, 0), 3))
    found, dark, blurred = (image_features(image) for image in (photo, photo // 4, smooth))
    assert dark["brightness"] == pytest.approx(found["brightness"] / 4, abs=0.01)
    assert dark["contrast"] < found["contrast"] and blurred["sharpness"] < found["sharpness"] - 1
    grey = np.full((64, 64), 128.0)
    for sigma in (4, 12):
        noisy = np.clip(grey + rng.normal(0, sigma, grey.shape), 0, 255).round().astype(np.uint8)
        estimate = image_features(np.dstack([noisy] * 3))["noise"]
        assert estimate == pytest.approx(sigma / 255, rel=0.1)
    flat = image_features(np.full((40, 40, 3), 200, np.uint8))
    assert flat["entropy"] == 0 and flat["saturation"] == 0 and np.isfinite(list(flat.values())).all()
    assert flat["haze"] == pytest.approx(200 / 255)


def test_outputs_of_every_task() -> None:
    boxes = DetectionPrediction(np.zeros((4, 4)), np.array([0.9, 0.5, 0.1, 0.01]), np.zeros(4, np.int64))
    found = output_features(boxes)
    assert found["sure objects"] == pytest.approx(np.log(3)) and found["unsure objects"] == pytest.approx(np.log(2))
    assert found["best confidence"] == 0.9 and found["mean confidence"] == pytest.approx(0.15)
    nothing = output_features(DetectionPrediction(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64)))
    assert set(nothing) == set(found) and not any(nothing.values())
    mask = np.zeros((10, 10), np.uint8)
    assert output_features(mask) == {"class entropy": 0, "largest class": 1, "borders": 0}
    mask[:, 5:] = 1
    halves = output_features(mask)
    assert halves["class entropy"] == pytest.approx(np.log(2)) and halves["borders"] == pytest.approx(1 / 18)
    assert output_features(Label(3, 0.75)) == {"confidence": 0.75}
    with pytest.raises(GateError, match="no statistics of a str"):
        output_features("a caption")


def test_a_gate_learns_where_restoring_helps() -> None:
    cases = _cases(120, 0, lambda light: -0.3 * light)  # helps in the dark, hurts in the light
    fitted = fit(cases, FEATURES, seed=1)
    assert isinstance(fitted.gate.threshold, float) and abs(fitted.gate.threshold) < 0.1
    decided = fitted.gate.restores(fitted.predicted)
    assert _score(cases, decided) > max(cases.before.mean(), cases.after.mean()) + 0.05
    new = _cases(400, 7, lambda light: -0.3 * light)
    restored = fitted.gate.restores(fitted.gate.predict(new))
    assert _score(new, restored) > max(new.before.mean(), new.after.mean()) + 0.05
    assert _score(new, restored) <= np.maximum(new.before, new.after).mean()
    again = fit(cases, FEATURES, seed=1)
    assert again.gate == fitted.gate and np.array_equal(again.predicted, fitted.predicted)


@pytest.mark.parametrize("seed", range(12))
def test_a_gate_is_never_worse_than_a_constant_where_it_was_fitted(seed: int) -> None:
    shift = (-0.05, 0.0, 0.05)[seed % 3]
    cases = _cases(24, seed, lambda light: shift + 0.0 * light)  # nothing to learn
    fitted = fit(cases, FEATURES, seed)
    decided = fitted.gate.restores(fitted.predicted)
    assert _score(cases, decided) >= max(cases.before.mean(), cases.after.mean())
    if shift:
        assert fitted.gate.threshold == (ALWAYS if shift > 0 else NEVER)


def test_predictions_are_of_other_groups() -> None:
    cases = _cases(30, 3, lambda light: 0.0 * light)
    doubled = pd.concat([cases, cases], ignore_index=True)  # each frame twice: in one fold, or it would know itself
    doubled = doubled.assign(image=[f"{number:04}" for number in range(60)])
    gains = (doubled.after - doubled.before).to_numpy()
    wide = doubled.assign(**{f"x{n}": np.random.default_rng(n).normal(size=30)[np.arange(60) % 30] for n in range(29)})
    names = [name for name in wide if name.startswith("x")]
    fitted = fit(wide, names, seed=0)
    assert abs(np.corrcoef(fitted.predicted, gains)[0, 1]) < 0.5
    assert np.corrcoef(fitted.gate.predict(wide), gains)[0, 1] > np.corrcoef(fitted.predicted, gains)[0, 1]


def test_thresholds() -> None:
    names = np.array([str(n) for n in range(40)])
    predicted = np.linspace(-1, 1, 40)
    assert choose_threshold(predicted, np.where(predicted > 0.5, 0.2, -0.1), names) == pytest.approx(0.5, abs=0.06)
    assert choose_threshold(predicted, np.full(40, 0.1), names) == ALWAYS
    assert choose_threshold(predicted, np.full(40, -0.1), names) == NEVER
    assert choose_threshold(predicted, np.zeros(40), names) == NEVER
    assert choose_threshold(np.zeros(40), np.where(predicted > 0, 1, -0.5), names) == ALWAYS
    by_chance = np.full(40, -0.02)
    by_chance[-3:] = 0.3, -0.29, 0.3  # restoring these three is better than never, by less than a standard error
    assert choose_threshold(predicted, by_chance, names) == NEVER


def test_few_images_are_refused_and_constant_features_do_no_harm() -> None:
    with pytest.raises(GateError, match="needs at least 10 images to be fitted on, there are 9"):
        fit(_cases(9, 0, lambda light: light), FEATURES, 0)
    videos = _cases(20, 0, lambda light: light).assign(group=lambda cases: cases.index % 4)
    with pytest.raises(GateError, match=r"images of at least 5 groups \(videos, sites\) to be fitted on, there are 4"):
        fit(videos, FEATURES, 0)
    cases = _cases(20, 0, lambda light: light).assign(same=1.0)
    assert np.isfinite(fit(cases, [*FEATURES, "same"], 0).predicted).all()


def test_a_gate_is_read_back(tmp_path: Path) -> None:
    gate = fit(_cases(60, 0, lambda light: -light), FEATURES, 0).gate
    gate.save(tmp_path / "gate.json", {"task": "detection"})
    found, about = Gate.load(tmp_path / "gate.json")
    assert found == gate and about == {"task": "detection"}
    assert gate.decide({"brightness": -1, "noise": 0}) and not gate.decide({"brightness": 1, "noise": 0})
    for text in ("{", "[]", '{"of": {}}', '{"of": {}, "threshold": 1, "other": 2}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(GateError, match=r"bad.json: not a gate"):
            Gate.load(tmp_path / "bad.json")


def test_the_curve_by_hand() -> None:
    cases = pd.DataFrame({"image": list("abcd"), "before": [0.5] * 4, "after": [0.9, 0.7, 0.4, 0.1]})
    resamples = Resamples.draw(np.arange(4), 200, 0)
    rows = pd.DataFrame(gate_report.risk_coverage("val", cases, np.array([4.0, 1.0, 2.0, 3.0]), resamples, 0.95))
    at = rows.set_index(rows.coverage.round(2))
    assert at.score[0] == 0.5 and at.score[1] == pytest.approx(cases.after.mean())
    assert at.score[0.25] == pytest.approx(0.5 + 0.4 / 4) and at.risk[0.25] == 0
    assert at.score[0.5] == pytest.approx(0.5 + (0.4 - 0.4) / 4) and at.risk[0.5] == pytest.approx(0.4 / 2)
    assert at.oracle_score[0.5] == pytest.approx(0.5 + 0.6 / 4) and at.oracle_risk[0.5] == 0
    assert at.risk[1] == at.oracle_risk[1] == pytest.approx(0.5 / 4) and np.isnan(at.risk[0])
    assert at.random_score[0.5] == pytest.approx(0.5 + 0.025 / 2)
    assert at.threshold[0.5] == 3 and list(rows) == gate_report.CURVE_COLUMNS
    assert (rows.score_low <= rows.score + 1e-12).all() and (rows.score_high >= rows.score - 1e-12).all()
    equal = pd.DataFrame(gate_report.risk_coverage("val", cases, np.zeros(4), resamples, 0.95))
    assert equal.score.to_numpy() == pytest.approx(equal.random_score.to_numpy())  # no order: no choice


@pytest.fixture
def run(finished_run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs the command in a finished run; returns its tables."""
    shutil.copytree(finished_run_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def do(*words: str) -> dict[str, Any]:
        given = ["gate", "--task", "segmentation", "--degradation", "fog", "--objective", "pixel", *words]
        monkeypatch.setattr(sys, "argv", given)
        gate.main()
        folder = Path("deployed/gate-segmentation-fog-pixel")
        tables = {path.stem: pd.read_csv(path) for path in folder.glob("*.csv")}
        return {**tables, "files": {path.name: path.read_bytes() for path in folder.iterdir()}}

    return do


def _value(table: pd.DataFrame, split: str, policy: str, metric: str) -> float:
    own = table[(table.split == split) & (table.policy == policy) & (table.metric == metric)]
    return float(own.value.item())


def test_the_command_judges_by_the_reports_own_numbers(run: Callable[..., dict[str, Any]]) -> None:
    found = run("--with-clean")
    assert set(found["files"]) == {
        *("gate.json", "gate.md", "policies.csv", "risk_coverage.csv", "risk_coverage.svg", "cases.csv")
    }
    table = found["policies"]
    folders = {v: variant_folder(Path("artifacts/evaluations"), "segmentation", "fog", v, []) for v in VARIANTS}
    stored = {variant: load_records(folder / "test" / "records.npz") for variant, folder in folders.items()}
    never = (stored["degraded"].metrics()["mIoU"][0] + stored["clean"].metrics()["mIoU"][0]) / 2
    assert _value(table, "test", "never", "mIoU") == pytest.approx(never, rel=1e-5)
    own = {name: records.image_scores()["mIoU"].mean() for name, records in stored.items()}
    expected = (own["degraded"] + own["clean"]) / 2
    assert _value(table, "test", "never", "mean mIoU") == pytest.approx(expected, rel=1e-5)
    for metric in ("mean mIoU", "mIoU"):
        constants = [_value(table, "val", policy, metric) for policy in ("never", "always")]
        if metric == "mean mIoU" or 0 < float(table[table.policy == "gate"].restored.iloc[0]) < 1:
            assert _value(table, "val", "gate", metric) >= max(constants)
    for split in ("val", "test"):
        best = _value(table, split, "oracle", "mean mIoU")
        assert all(_value(table, split, p, "mean mIoU") <= best for p in ("never", "always", "gate"))
    cases = found["cases"]
    assert set(cases.part) == {"degraded/val", "clean/val", "degraded/test", "clean/test"}
    assert len(cases) == 2 * (12 + 11)
    always = cases[(cases.split == "test") & (cases.part == "degraded/test")].set_index("id").after
    scores = stored["pixel"].image_scores()["mIoU"]
    assert always.to_numpy() == pytest.approx(scores[np.argsort(stored["pixel"].image_ids)], rel=1e-4)
    again = run("--with-clean")
    assert again["files"] == found["files"]  # of predictions that were kept, byte for byte
    alone = run()
    assert len(alone["cases"]) == 12 + 11 and json.loads(alone["files"]["gate.json"])["of"]["fitted on"] == "val"


def test_a_gate_in_front_of_a_folder(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, folder = Path("photos"), Path("gate")
    for path in (photos, folder):
        path.mkdir()
    for name, light in (("dark", 20), ("light", 220)):
        images.write_image(photos / f"{name}.png", np.full((40, 48, 3), light, np.uint8))
    brightness = Gate(0.0, ("brightness",), (0.5,), (1.0,), (-1.0,), 0.0, 1.0)  # restores below one half
    words = ["--restorer", "artifacts/restorers/fog/pixel", "--input", "photos", "--gate", "gate"]
    network = ["--network", "artifacts/tasks/segmentation"]

    def restore(gate: Gate, *more: str) -> dict[str, bool]:
        gate.save(folder / "gate.json", {"task": "segmentation"})
        monkeypatch.setattr(sys, "argv", ["restore_files", *words, *more])
        restore_files.main()
        return {
            path.stem: not np.array_equal(images.read_image(path), images.read_image(photos / path.name))
            for path in Path(more[-1]).glob("*.png")
        }

    assert restore(brightness, *network, "--output", "one") == {"dark": True, "light": False}
    assert "the gate left 1 images unchanged" in capsys.readouterr().out
    never = Gate(NEVER, ("brightness",), (0.5,), (1.0,), (-1.0,), 0.0, 1.0)
    assert restore(never, *network, "--output", "two") == {"dark": False, "light": False}
    with pytest.raises(photo_folders.FilesError, match="made by another restorer or with other settings"):
        restore(never, *network, "--output", "one")
    with pytest.raises(photo_folders.FilesError, match="--gate: needs --network"):
        restore(never, "--output", "three")
    with pytest.raises(
        GateError, match=r"--network nowhere: no such folder. Give the folder of the network of segmentation"
    ):
        restore(never, "--network", "nowhere", "--output", "three")


def test_splits_to_fit_on(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run.make(tmp_path, make_dataset, train=11, val=3)
    monkeypatch.chdir(tmp_path)
    finished = CompletedRun(load_params(), "fog", "pixel")
    assert gate.split_to_fit(finished, None) == "train"  # val is what is reported
    with pytest.raises(GateError, match=r"--split: 'val' is the reported split. Choose one of train"):
        gate.split_to_fit(finished, "val")
    with pytest.raises(GateError, match=r"--split: the dataset has no split 'dev'. Choose one of train"):
        gate.split_to_fit(finished, "dev")
    text = gate.write_gate(finished, "segmentation", "train", False, Path("out"))
    assert "which the restorer and the task network have seen" in text
    assert "have seen" in Path("out/gate.md").read_text()


def test_a_task_that_the_run_does_not_have(run: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ParamsError, match=r"--task: 'depth' is not in params.yaml. Choose one of detection"):
        run("--task", "depth")


def test_the_tasks_own_metric_has_a_say() -> None:
    def rows(**values: float) -> list[dict[str, Any]]:
        own = [{"policy": policy, "metric": "mean F1", "value": 0.0} for policy in values]
        return [*own, *({"policy": policy, "metric": "mAP50-95", "value": v} for policy, v in values.items())]

    mean_ap = main_metric("detection")
    assert gate_scores.is_worse(rows(never=0.2, always=0.3, gate=0.29), mean_ap)
    assert not gate_scores.is_worse(rows(never=0.2, always=0.3, gate=0.3), mean_ap)
    error = Metric("mAP50-95", higher_is_better=False)
    assert not gate_scores.is_worse(rows(never=0.2, always=0.3, gate=0.19), error)
    assert gate_scores.is_worse(rows(never=0.2, always=0.3, gate=0.21), error)
