"""clean_harm.csv: a known harm on clean images is stated beside the gain on degraded ones."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.dataset import Dataset, DatasetInfo
from pipeline.metrics import MeanRecords
from pipeline.reporting.clean_harm import COLUMNS, clean_harm_section, write_clean_harm
from pipeline.reporting.score_rows import GAINS
from pipeline.reporting.table_views import read_texts
from pipeline.reporting.tables import RunFolders
from pipeline.running.artifacts import ON_CLEAN_FOLDER, RECORDS_FILE
from pipeline.settings.params import load_params

ROOT = Path(__file__).parents[1]
ARMS = ["degraded-retrained", "pixel-retrained", "pixel-joint", "clean-restored-pixel"]
IDS = [f"i{n:02}" for n in range(40)]
DIFFICULTY = np.random.default_rng(0).normal(0, 0.1, 40)
HARMS = {"degraded-retrained": -0.3, "pixel-retrained": -0.1, "pixel-joint": 0.0, "clean-restored-pixel": -0.05}
GAIN = {"gain": 0.2, "ci_low": 0.1, "ci_high": 0.3}


def _save(folder: Path, mean: float, metric: str = "mIoU") -> None:
    """Scores that differ between images far more than between variants."""
    wobble = 0.01 * np.sin(np.arange(40) + 10 * mean)
    scores = mean + DIFFICULTY + (wobble if mean else 0 - DIFFICULTY)
    folder.mkdir(parents=True)
    MeanRecords(tuple(IDS), {metric: scores}).save(folder / RECORDS_FILE)


def _written(folder: Path, clean: float = 0.7, arms: list[str] = ARMS, groups: Any = None) -> pd.DataFrame:
    evaluations = folder / "evaluations"
    _save(evaluations / "clean" / "segmentation" / "test", clean)
    for arm in arms:
        inside = ON_CLEAN_FOLDER if arm != "clean-restored-pixel" else ""
        _save(evaluations / "segmentation" / "fog" / arm / inside / "test", clean + HARMS[arm] if clean else 0)
    keys = {"task": "segmentation", "degradation": "fog", "versus": "degraded", "metric": "mIoU"}
    gains = [{**keys, "variant": variant, **GAIN} for variant in ("pixel", "pixel-joint", "degraded-retrained")]
    params = load_params(ROOT / "params.tiny.yaml")
    changes = {"tasks": ["segmentation"], "degradations": ["fog"], "objectives": ["pixel"], "arms": arms}
    names = {name: folder / name for name in ("degraded", "restored", "restorers", "quality", "costs")}
    dataset = Dataset(folder, DatasetInfo("c", {}, {"test": 40}, {}, groups=groups or {}))
    folders = RunFolders(evaluations=evaluations, **names)
    write_clean_harm(params.model_copy(update=changes), dataset, folders, pd.DataFrame(gains, columns=GAINS), folder)
    return pd.read_csv(folder / "clean_harm.csv").set_index("variant")


def test_the_harm_is_paired_with_the_clean_trained_network(tmp_path: Path) -> None:
    table = _written(tmp_path)
    assert list(table.reset_index().columns) == sorted(COLUMNS, key=["variant", *COLUMNS].index)
    assert list(table.index) == ARMS
    assert table.clean.to_numpy() == pytest.approx(np.full(4, 0.7 + DIFFICULTY.mean()), abs=0.01)
    for arm, harm in HARMS.items():
        row = table.loc[arm]
        assert row.gain == pytest.approx(row.score - row.clean, abs=1e-5) and row.gain == pytest.approx(harm, abs=0.01)
        # What is hard about an image (0.1) cancels: unpaired, the interval would be about 0.09 wide.
        assert row.ci_low <= row.gain <= row.ci_high and row.ci_high - row.ci_low < 0.02
    assert (table.n_images == 40).all() and table.reason.isna().all()


def test_the_gain_on_degraded_images_stands_beside_it(tmp_path: Path) -> None:
    table = _written(tmp_path)
    for arm in ("degraded-retrained", "pixel-joint", "clean-restored-pixel"):  # the last one by its objective
        assert tuple(table.loc[arm, [c for c in table if c.startswith("gain_on_degraded")]]) == tuple(GAIN.values())
    assert math.isnan(table.loc["pixel-retrained"].gain_on_degraded)


def test_whole_groups_of_clean_images_are_resampled(tmp_path: Path) -> None:
    groups = {"test": {image_id: f"site{n % 10}" for n, image_id in enumerate(IDS)}}
    assert set(_written(tmp_path, groups=groups).n_groups) == {10}


def test_a_network_that_is_never_right_is_no_baseline(tmp_path: Path) -> None:
    table = _written(tmp_path, clean=0.0)
    assert table.ci_low.isna().all() and "scores 0 on the clean images" in table.reason.iloc[0]


def test_the_section(tmp_path: Path) -> None:
    _written(tmp_path)
    section = clean_harm_section(read_texts(tmp_path), 1)
    assert section is not None
    table: Any = section.blocks[1]
    assert table.header[:8] == [
        "task",
        "degradation",
        "variant",
        "metric",
        "clean",
        "score",
        "gain",
        "gain on degraded",
    ]
    (row,) = (row for row in table.rows if row[2].text == "degraded-retrained")
    assert row[6].text.startswith("\N{MINUS SIGN}0.3") and " to " in row[6].interval
    assert (row[7].text, row[7].interval) == ("+0.2000", "+0.1000 to +0.3000")


def test_without_arms_there_is_an_empty_table_and_no_section(tmp_path: Path) -> None:
    assert len(_written(tmp_path, arms=[])) == 0
    assert clean_harm_section(read_texts(tmp_path), 1) is None
