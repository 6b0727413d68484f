"""Severity as an axis: rows for each severity, mPC and rPC, against the formulas computed by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.metrics import MeanRecords
from pipeline.reporting import score_rows, severity_tables
from pipeline.running.artifacts import RECORDS_FILE
from pipeline.settings.params import Params, load_params
from pipeline.statistics.scores import read_cells
from pipeline.statistics.systems import System

ROOT = Path(__file__).parents[1]
IDS = [f"i{n:02}" for n in range(20)]


@pytest.fixture
def params() -> Params:
    return load_params(ROOT / "params.yaml")


def _write(folder: Path, variant: str, split: str, values: np.ndarray) -> None:
    target = folder / variant / split
    target.mkdir(parents=True)
    records = MeanRecords.from_values({id: {"score": float(v)} for id, v in zip(IDS, values, strict=True)})
    records.save(target / RECORDS_FILE)


def _folders(folder: Path) -> dict[str, Path]:
    order = ("clean", "degraded", "pixel", "diffloss")
    return {name: folder / name for name in order if (folder / name).is_dir()}


def _scores(seed: int, mean: float) -> np.ndarray:
    return mean + np.random.default_rng(seed).normal(0, 0.05, len(IDS))


def test_copies_for_each_severity_are_averaged_and_listed(params: Params, tmp_path: Path) -> None:
    values = {("clean", "test"): _scores(0, 0.9)}
    values |= {("degraded", f"test@{s}"): _scores(s, 0.8 - 0.1 * s) for s in (1, 3, 5)}
    values |= {("pixel", f"test@{s}"): _scores(9 + s, 0.8 - 0.05 * s) for s in (1, 3, 5)}
    for (variant, split), scores in values.items():
        _write(tmp_path, variant, split, scores)
    levels = {f"test@{s}": dict.fromkeys(IDS, s) for s in (1, 3, 5)}
    cells = read_cells(params, _folders(tmp_path), levels)
    rows = {(r["variant"], r["severity"]): r for r in severity_tables.severity_rows("t", "fog", cells, 0.95)}
    for severity in (1, 3, 5):
        expected = values["pixel", f"test@{severity}"].mean()
        row = rows["pixel", severity]
        assert row["value"] == pytest.approx(expected)
        assert row["gain"] == pytest.approx(expected - values["degraded", f"test@{severity}"].mean())
        assert row["gain_low"] < row["gain"] < row["gain_high"] and row["n_images"] == 20
        assert rows["clean", severity]["value"] == pytest.approx(values["clean", "test"].mean())
    whole = {r["variant"]: r for r in score_rows.result_rows("t", "fog", cells.whole, 0.95)}
    mean = np.mean([values["degraded", f"test@{s}"].mean() for s in (1, 3, 5)])
    assert whole["degraded"]["value"] == pytest.approx(mean)


def test_clean_images_are_scored_once_for_all_copies_and_degradations(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for degradation in ("fog", "rain"):
        _write(tmp_path / degradation, "clean", "test", _scores(0, 0.9))
        for severity in (1, 3):
            _write(tmp_path / degradation, "degraded", f"test@{severity}", _scores(severity, 0.5))
    levels = {f"test@{s}": dict.fromkeys(IDS, s) for s in (1, 3)}
    scored: list[float] = []
    from_tables = System.from_tables

    def counted(tables: Any, *args: Any, **options: Any) -> System:
        system = from_tables(tables, *args, **options)
        scored.append(round(float(next(iter(system.values.values()))[0]), 1))
        return system

    monkeypatch.setattr(System, "from_tables", counted)
    clean: dict[Any, System] = {}
    cells = [read_cells(params, _folders(tmp_path / d), levels, clean=clean) for d in ("fog", "rain")]
    assert scored.count(0.9) == 1 and scored.count(0.5) == 4
    read_cells(params, _folders(tmp_path / "fog"), levels, groups={id: id[-1] for id in IDS}, clean=clean)
    assert scored.count(0.9) == 2  # other groups have other resamples
    monkeypatch.undo()
    alone = read_cells(params, _folders(tmp_path / "rain"), levels)
    for metric, values in alone.whole["clean"].resampled.items():
        np.testing.assert_array_equal(values, cells[1].whole["clean"].resampled[metric])


def test_a_severity_drawn_for_each_image_splits_the_images(params: Params, tmp_path: Path) -> None:
    scores = {"clean": _scores(0, 0.9), "degraded": _scores(1, 0.5)}
    for variant, values in scores.items():
        _write(tmp_path, variant, "test", values)
    levels = {id: 1 if n < 8 else 4 for n, id in enumerate(IDS)}
    cells = read_cells(params, _folders(tmp_path), {"test": levels})
    rows = {(r["variant"], r["severity"]): r for r in severity_tables.severity_rows("t", "fog", cells, 0.95)}
    assert rows["degraded", 1]["value"] == pytest.approx(scores["degraded"][:8].mean())
    assert rows["degraded", 4]["value"] == pytest.approx(scores["degraded"][8:].mean())
    assert (rows["degraded", 1]["n_images"], rows["degraded", 4]["n_images"]) == (8, 12)
    assert rows["degraded", 1]["ci_low"] < rows["degraded", 1]["value"] < rows["degraded", 1]["ci_high"]
    assert cells.whole["degraded"].values["score"] == pytest.approx(scores["degraded"].mean())


def test_mpc_and_rpc_are_the_published_formulas(params: Params, tmp_path: Path) -> None:
    clean, means = _scores(0, 0.9), {"fog": {2: 0.6, 4: 0.4}, "noise": {2: 0.8, 4: 0.7}}
    values = {(d, s): _scores(s, m) for d, own in means.items() for s, m in own.items()}
    cells = []
    for degradation, own in means.items():
        _write(tmp_path / degradation, "clean", "test", clean)
        for severity in own:
            _write(tmp_path / degradation, "degraded", f"test@{severity}", values[degradation, severity])
        levels = {f"test@{s}": dict.fromkeys(IDS, s) for s in own}
        cells.append(read_cells(params, _folders(tmp_path / degradation), levels))
    (row,) = score_rows.robustness_rows("t", cells, 0.95)
    mpc = np.mean([[values[d, s].mean() for s in (2, 4)] for d in means])
    assert row["mPC"] == pytest.approx(mpc)
    assert row["rPC"] == pytest.approx(mpc / clean.mean())
    assert row["mPC_low"] < mpc < row["mPC_high"] and row["rPC_low"] < row["rPC"] < row["rPC_high"]
    assert (row["variant"], row["n_degradations"], row["n_severities"], row["n_images"]) == ("degraded", 2, 4, 20)


def test_real_photos_without_clean_images_are_not_in_mpc(params: Params, tmp_path: Path) -> None:
    _write(tmp_path, "degraded", "test", _scores(1, 0.5))
    cells = read_cells(params, _folders(tmp_path))
    assert score_rows.robustness_rows("t", [cells], 0.95) == []
    assert list(cells.severities) == [None]


def test_scores_of_several_trainings_are_averaged_and_their_variance_counts(params: Params, tmp_path: Path) -> None:
    runs = {"pixel": [0.5, 0.6, 0.7], "diffloss": [0.55, 0.65, 0.75]}
    _write(tmp_path, "degraded", "test", _scores(0, 0.3))
    for variant, means in runs.items():
        for number, mean in enumerate(means, start=1):
            split = "test" if number == 1 else f"test~{number}"
            _write(tmp_path, variant, split, mean + _scores(3, 0.0))
    whole = read_cells(params, _folders(tmp_path)).whole
    rows = {row["variant"]: row for row in score_rows.result_rows("t", "fog", whole, 0.95)}
    assert rows["pixel"]["value"] == pytest.approx(0.6 + _scores(3, 0.0).mean())
    assert (rows["pixel"]["n_trainings"], rows["degraded"]["n_trainings"]) == (3, 1)
    # Images alone would give a standard error of 0.05 / sqrt(20) = 0.011; three trainings 0.1 apart add 0.058, with
    # 1.6 degrees of freedom.
    assert 0.5 < rows["pixel"]["ci_high"] - rows["pixel"]["ci_low"] < 1
    gains = {(row["variant"], row["versus"]): row for row in score_rows.gain_rows("t", "fog", whole, 0.95)}
    gain = gains["diffloss", "pixel"]
    assert gain["gain"] == pytest.approx(0.05) and gain["ci_high"] - gain["ci_low"] < 1e-9, "paired by training"
    trainings = score_rows.training_rows("t", "fog", whole)
    assert [(row["variant"], row["training"]) for row in trainings] == [
        (v, k) for v in ("pixel", "diffloss") for k in (1, 2, 3)
    ]
    assert np.mean([row["value"] for row in trainings[:3]]) == pytest.approx(rows["pixel"]["value"])


def test_groups_are_resampled_whole_and_shared_by_the_copies_of_a_split(params: Params, tmp_path: Path) -> None:
    """Each image occurs four times: as groups of four they say no more than the five different ones."""
    for severity in (1, 3):
        for variant, mean in (("degraded", 0.5), ("pixel", 0.6)):
            values = np.repeat(_scores(severity, mean)[:5] + 0.01 * np.arange(5) * mean, 4)
            _write(tmp_path, variant, f"test@{severity}", values)
    groups = {id: f"g{n // 4}" for n, id in enumerate(IDS)}
    levels = {f"test@{s}": dict.fromkeys(IDS, s) for s in (1, 3)}
    (row,) = score_rows.gain_rows("t", "fog", read_cells(params, _folders(tmp_path), levels, groups=groups).whole, 0.95)
    (alone,) = score_rows.gain_rows("t", "fog", read_cells(params, _folders(tmp_path), levels).whole, 0.95)
    assert (row["n_groups"], alone["n_groups"], row["gain"]) == (5, 20, pytest.approx(alone["gain"]))
    assert row["ci_high"] - row["ci_low"] > 2 * (alone["ci_high"] - alone["ci_low"])
    cells = read_cells(params, _folders(tmp_path), levels, groups=groups)
    assert {r["n_groups"] for r in severity_tables.severity_rows("t", "fog", cells, 0.95)} == {5}
