"""Where restoring starts and stops to help: crossovers against constructed gains, and sweeps of a setting."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from data.dataset import Dataset
from data.degradations import DegradationError, degrade, get_recipe
from data.degradations.records import degrade_and_record
from pipeline import code
from pipeline import degrade as stage
from pipeline.commands.redo_image import redo_image
from pipeline.datasets.manifests import read_manifest
from pipeline.datasets.recipes import has_copies, recipe_of, severities
from pipeline.metrics import MeanRecords
from pipeline.plan import check_names
from pipeline.reporting.severity_section import severity_curves
from pipeline.reporting.severity_tables import CROSSOVERS, SEVERITIES, crossover_overview, crossover_rows, severity_rows
from pipeline.settings.data import Degrade, RandomSeverity, Sweep
from pipeline.settings.params import ParamsError, load_params
from pipeline.statistics.comparison import TWO_TRAININGS, estimate
from pipeline.statistics.crossovers import helpful_range, interpolated, positive_range
from pipeline.statistics.resampling import Resamples
from pipeline.statistics.scores import Cells
from pipeline.statistics.systems import System

ROOT = Path(__file__).parents[1]
PARAMS = load_params(ROOT / "params.tiny.yaml")
MIST = Sweep(recipe="fog", setting="visibility_metres", values=(250.0, 110.0, 60.0, 30.0))
INF = math.inf


@pytest.mark.parametrize(
    ("gains", "starts", "stops"),
    [
        ([-1, 1, 1, -3], 0.5, 2.25),
        ([1, 1, 1], -INF, INF),
        ([-1, -2, -3], INF, -INF),
        ([2, -2, -1], -INF, 0.5),
        ([-1, 0, 1], 1.0, INF),
        ([0, 0, 0], INF, -INF),
        ([-1, 1, -1, 1, -1], 0.5, 3.5),  # the first and the last of several
    ],
)
def test_positions_by_hand(gains: list[float], starts: float, stops: float) -> None:
    measured, positions = np.array(gains, dtype=float), np.linspace(0, len(gains) - 1, 5 * (len(gains) - 1) + 1)
    for places in (np.arange(len(gains), dtype=float), positions):
        assert positive_range(places, interpolated(measured, places)) == pytest.approx((starts, stops))


def _cells(gain: Callable[[int], float], spread: float, trainings: int = 1, images: int = 40) -> Cells:
    """Degraded and restored images at four severities; the gain of an image varies around that of its severity."""
    resamples = Resamples.draw(np.arange(images), 500, 0)
    rng = np.random.default_rng(1)
    noise = rng.normal(0, spread, images)  # the same at every severity: what is hard stays hard

    def system(values: np.ndarray, trained: bool) -> System:
        tables = [
            MeanRecords.from_values({f"i{n:02}": {"mIoU": float(value)} for n, value in enumerate(row)})
            for row in values
        ]
        return System.from_tables(tables, resamples, trained)

    by_severity = {}
    for severity in (1, 2, 3, 4):
        degraded = np.full((1, images), 0.5)
        shift = rng.normal(0, 0.002, (trainings, 1)) if trainings > 1 else np.zeros((1, 1))
        by_severity[severity] = {
            "degraded": system(degraded, False),
            "pixel": system(degraded + gain(severity) + noise + shift, True),
        }
    whole = {name: System.mean([cell[name] for cell in by_severity.values()]) for name in ("degraded", "pixel")}
    return Cells(whole, by_severity)


def _row(cells: Cells, sweep: Sweep | None = None) -> dict[str, Any]:
    (row,) = crossover_rows("segmentation", "fog", cells, PARAMS.statistics, sweep)
    return row


def test_the_interval_holds_the_crossover_and_narrows_with_the_spread() -> None:
    def gain(severity: int) -> float:
        return 0.02 * (severity - 2.5)

    wide, narrow = (_row(_cells(gain, spread)) for spread in (0.03, 0.003))
    for row in (wide, narrow):
        assert row["starts_low"] <= row["starts"] <= row["starts_high"] and row["stops"] == INF
        assert row["starts_low"] < 2.5 < row["starts_high"]
        assert (row["mildest"], row["severest"], row["setting"], row["n_severities"]) == (1, 4, "severity", 4)
    assert wide["starts_high"] - wide["starts_low"] > 3 * (narrow["starts_high"] - narrow["starts_low"])


def test_a_gain_that_is_never_sure_has_an_open_interval() -> None:
    row = _row(_cells(lambda severity: 0.001, 0.05))
    assert row["starts_low"] == -INF and row["starts_high"] == INF


def test_the_ends_are_where_the_interval_of_the_gain_ends_at_zero() -> None:
    cells = _cells(lambda severity: 0.02 * (severity - 2.5), 0.03)
    gains = [cell["pixel"].minus(cell["degraded"]) for cell in cells.severities.values()]
    found = helpful_range(gains, "mIoU")
    intervals = [estimate(gain)["mIoU"] for gain in gains]
    excludes_a_gain = [n for n, interval in enumerate(intervals) if interval.high < 0]
    surely_helps = [n for n, interval in enumerate(intervals) if interval.low > 0]
    assert max(excludes_a_gain) < found.starts_low < found.starts < found.starts_high < min(surely_helps)
    # An interpolated gain has the variance of the two severities together, which share what is hard about an image.
    apart = [replace(g, resampled={"mIoU": np.roll(g.resampled["mIoU"], 7 * n, axis=1)}) for n, g in enumerate(gains)]
    independent = helpful_range(apart, "mIoU")
    assert independent.starts == found.starts
    assert independent.starts_high - independent.starts_low < found.starts_high - found.starts_low


def test_trainings() -> None:
    def gain(severity: int) -> float:
        return 0.02 * (severity - 2.5)

    two, five = (_row(_cells(gain, 0.003, trainings)) for trainings in (2, 5))
    assert (
        two["reason"] == TWO_TRAININGS
        and math.isnan(two["starts_low"])
        and two["starts"] == pytest.approx(2.5, abs=0.2)
    )
    assert five["reason"] == "" and five["n_trainings"] == 5
    single = _row(_cells(gain, 0.003))
    assert five["starts_high"] - five["starts_low"] > single["starts_high"] - single["starts_low"]


def test_the_values_of_a_sweep_are_the_scale() -> None:
    cells = _cells(lambda severity: 0.02 * (severity - 2.5), 0.003)
    row = _row(cells, MIST)
    assert row["setting"] == "visibility_metres" and row["starts"] == pytest.approx(85, abs=3)  # between 110 and 60
    assert (row["mildest"], row["severest"]) == (250, 30)
    rows = severity_rows("segmentation", "fog", cells, 0.95, MIST)
    assert [r["setting_value"] for r in rows if r["variant"] == "pixel"] == [250, 110, 60, 30]
    assert [
        r["setting_value"] for r in severity_rows("segmentation", "fog", cells, 0.95) if r["variant"] == "pixel"
    ] == [*(1, 2, 3, 4)]


def test_the_table_for_people_and_the_figure() -> None:
    cells = _cells(lambda severity: 0.02 * (severity - 2.5), 0.003)
    table = pd.DataFrame(crossover_rows("segmentation", "fog", cells, PARAMS.statistics, MIST), columns=CROSSOVERS)
    texts = table.map(lambda cell: f"{cell:.6g}" if isinstance(cell, float) else str(cell))
    (row,) = crossover_overview(texts).rows
    assert row[5].text == "250 to 30" and row[7].text == "still helps at the most severe"
    curves = pd.DataFrame(severity_rows("segmentation", "fog", cells, 0.95, MIST), columns=SEVERITIES)
    (figure,) = severity_curves(curves)
    assert "mIoU by visibility_metres" in figure.title and b"from mild to severe" in figure.svg
    assert "from 250 to 30" in figure.alt


def _with(**degrade_changes: Any) -> Any:
    return PARAMS.model_copy(update={"degrade": PARAMS.degrade.model_copy(update=degrade_changes)})


def test_a_sweep_is_the_recipe_with_one_setting_changed(make_dataset: Callable[..., Dataset]) -> None:
    settings = PARAMS.degrade.model_copy(update={"sweeps": {"mist": MIST}, "severity": RandomSeverity(random=(1, 5))})
    recipe = recipe_of(settings, "mist")
    assert (recipe.name, severities(settings, recipe), has_copies(settings, recipe)) == ("mist", (1, 2, 3, 4), True)
    image = make_dataset(train=1).split("train").image("train0")
    for level, value in enumerate(MIST.values, start=1):
        degraded = degrade_and_record(image, recipe, level, 7)
        assert degraded.parameters["visibility_metres"] == value
        plain = degrade_and_record(image, get_recipe("fog"), 3, 7)
        same = {**plain.parameters, "visibility_metres": value}
        assert degraded.parameters == same
    with pytest.raises(DegradationError, match="expected a whole number from 1 to 4, got 5"):
        degrade(image, recipe, 5, 7)


def test_a_setting_of_a_chain() -> None:
    chain = [{"effect": "noise"}, {"effect": "fog"}, {"effect": "noise"}]
    settings = PARAMS.degrade.model_copy(update={"recipes": {"both": chain}})
    recipe = recipe_of(settings, "both")
    key = next(key for key in recipe.steps[0].effect.settings)
    assert recipe.swept("visibility_metres", [50.0], 3).steps[1].rows[0]["visibility_metres"] == 50
    with pytest.raises(DegradationError, match=f"there is several settings '{key}'|several settings"):
        recipe.swept(key, [1.0], 3)
    with pytest.raises(DegradationError, match=r"there is no setting 'haze'\. Choose from 1-noise\."):
        recipe.swept("haze", [1.0], 3)
    with pytest.raises(DegradationError, match=r"visibility_metres: expected a number from 1 to 100000 .*, got -4"):
        recipe.swept("visibility_metres", [-4.0], 3)


def test_the_stage_makes_a_copy_for_each_value_that_can_be_made_again(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clean = make_dataset("clean", train=6, test=2)
    params = _with(sweeps={"mist": MIST})
    monkeypatch.setattr(stage, "load_params", lambda: params)
    monkeypatch.setattr("sys.argv", ["degrade", "--recipe", "mist", "--clean", str(clean.folder), "--out", "out"])
    stage.main()
    degraded = Dataset.open(Path("out"))
    assert degraded.evaluation_splits == ("test@1", "test@2", "test@3", "test@4")
    table = read_manifest(Path("out"))
    used = table[table.split == "test@3"].visibility_metres
    assert set(used) == {60.0} and set(table[table.split == "train"].severity) <= {1, 2, 3, 4}
    for row in table.to_dict("records"):
        stored = degraded.split(row["split"]).image(row["id"])
        assert np.array_equal(redo_image(clean, row), stored)


def test_its_code_and_settings_count() -> None:
    params = _with(sweeps={"mist": MIST})
    assert code.degradation_modules(params, "mist") == code.degradation_modules(params, "fog")
    assert params.degrade.only("mist")["sweeps"]["values"] == list(MIST.values)
    check_names(params.model_copy(update={"degradations": ["mist"]}))


def test_a_sweep_has_no_severity() -> None:
    content = {**PARAMS.degrade.model_dump(), "sweeps": {"mist": MIST.model_dump()}, "severity_of": {"mist": 2}}
    with pytest.raises(ValidationError, match="'mist' is a sweep, which has values instead"):
        Degrade.model_validate(content)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("{recipe: fog, setting: visibility_metres, values: [9, 30, 10]}", "values that only rise or only fall"),
        ("{recipe: fog, setting: visibility_metres, values: [9]}", "should have at least 2 items"),
        ("{recipe: mist, setting: visibility_metres, values: [9, 8]}", "sweeps.mist: 'mist' is no recipe. Choose"),
        ("{recipe: fog, setting: haze, values: [9, 8]}", "degrade.sweeps.mist: fog: there is no setting 'haze'"),
        ("{recipe: snow-fog, setting: x, values: [9, 8]}", "degrade.sweeps.mist: there is no recipe 'snow-fog'"),
    ],
)
def test_mistakes(sweep: str, message: str, tmp_path: Path) -> None:
    text = (ROOT / "params.tiny.yaml").read_text().replace("sweeps: {}", f"sweeps: {{mist: {sweep}}}")
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("degradations: [lowlight, fog]", "degradations: [mist]"))
    with pytest.raises(ParamsError) as caught:
        check_names(load_params(path))
    assert message in str(caught.value)
