"""The formula of benchmarks/costs.py against made-up measurements that it must find again."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from benchmarks import costs
from benchmarks.costs import Line, Points, Size
from benchmarks.stages import StageCost
from pipeline.settings.params import Params

PARAMS: dict[str, Any] = YAML(typ="safe").load(Path(__file__).parents[1] / "benchmarks" / "coco.yaml")
DEGRADATIONS, OBJECTIVES, TASKS = 6, 4, 2


def _truth(kind: str) -> Line:
    """Some line for each kind of stage."""
    number = sum(map(ord, kind)) % 7 + 1
    return Line((float(number), 0.01 * number), (1000.0 * number, 10.0 * number))


def _made_up(params: dict[str, Any], run_size: Size, more_degradations: Any = ()) -> Points:
    points: Points = defaultdict(list)
    rows = [(kind, units, count) for kind, _, units, count in costs.stages(costs.sized(params, run_size), run_size)]
    for kind, units, count in [
        *rows,
        *((f"degrade {name}", run_size.train + run_size.test, 1) for name in more_degradations),
    ]:
        line = _truth(kind)
        seconds, written = (part[0] + part[1] * units * bool(units) for part in (line.seconds, line.bytes))
        points[kind] += [(units, StageCost(kind, seconds, seconds, 0.0, round(written)))] * count
    return points


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Line]:
    monkeypatch.setattr(costs, "measured", _made_up)
    return costs.fit(PARAMS)


def test_the_parameters_are_complete() -> None:
    params = Params.model_validate(PARAMS)
    assert [len(names) for names in (params.degradations, params.objectives, params.tasks)] == [6, 4, 2]
    Params.model_validate(costs.sized(PARAMS, Size(8, 6, 2)))


def test_a_small_run_is_small_for_every_objective() -> None:
    losses = {**PARAMS["losses"], "diffloss": {**PARAMS["losses"]["diffloss"], "from_step": 100}}
    longer = {**PARAMS, "losses": losses, "train_restorer": {**PARAMS["train_restorer"], "steps_of": {"pixel": 900}}}
    small = Params.model_validate(costs.sized(longer, Size(8, 6, 2)))
    assert small.train_restorer.of("pixel").steps == 2 and small.losses["diffloss"]["from_step"] == 0
    units = {kind: number for kind, _, number, _ in costs.stages(longer, costs.COCO)}
    assert units["train_restorer pixel"] == 900
    assert units["train_restorer diffloss"] == PARAMS["train_restorer"]["steps"]


def test_the_lines_are_found_again(lines: dict[str, Line]) -> None:
    for kind, line in lines.items():
        expected = _truth(kind)
        assert line.seconds[0] == pytest.approx(expected.seconds[0]), kind
        if line.seconds[1]:
            assert line.seconds[1] == pytest.approx(expected.seconds[1]), kind
            assert line.bytes[1] == pytest.approx(expected.bytes[1], rel=0.01), kind
    assert {kind for kind, line in lines.items() if not line.seconds[1]} == {
        *("code", "plan", "publish", "objective", "train_mixture")
    }


def test_all_stages_of_a_large_run_are_added_up(lines: dict[str, Line]) -> None:
    found = {kind: (seconds, written) for kind, seconds, written in costs.predict(lines, PARAMS, costs.COCO)}
    images = 118287 + 5000
    for kind, units, count in (
        ("prepare", images, 1),
        ("degrade fog", images, 1),
        ("train_prior", 50000, 1),
        ("train_task detection", 100 * 118287, 1),
        ("train_task segmentation", 90000, 1),
        ("objective", 0, OBJECTIVES),
        ("train_mixture", 0, OBJECTIVES),
        ("train_restorer diffloss", 20000, DEGRADATIONS),
        ("restore", 5000, DEGRADATIONS * OBJECTIVES),
        ("quality", 5000 * (1 + OBJECTIVES), DEGRADATIONS),
        ("evaluate_clean segmentation", 5000, 1),
        ("evaluate segmentation", 5000 * (1 + OBJECTIVES), DEGRADATIONS),
        ("report", 5000 * DEGRADATIONS, 1),
    ):
        fixed, each = _truth(kind).seconds
        assert found[kind][0] == pytest.approx(count * (fixed + each * units)), kind
    stages = sum(count for *_, count in costs.stages(PARAMS, costs.COCO))
    matrix = DEGRADATIONS * (1 + 2 * OBJECTIVES + 1 + TASKS)
    assert stages == 6 + 2 * TASKS + 2 * OBJECTIVES + matrix  # code, plan, prepare, train_prior, report, publish
    rows = list(costs.table(lines, PARAMS, costs.COCO))
    assert rows[-1].startswith("| all ") and len(rows) == 3 + len(found)


def test_a_true_formula_has_no_error(lines: dict[str, Line]) -> None:
    for row in list(costs.check(lines, PARAMS))[2:]:
        assert row.count("0.0%") == 2, row


def test_gpus_take_over_the_networks_alone() -> None:
    totals = [("train_restorer pixel", 7200.0, 0.0), ("prepare", 3600.0, 0.0)]
    assert costs.gpu_hours(totals, 2.0) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("stage", "kind"),
    [
        ("degrade@fog", "degrade fog"),
        ("train_restorer@fog-pixel", "train_restorer pixel"),
        ("evaluate_clean@segmentation", "evaluate_clean segmentation"),
        ("evaluate@segmentation-fog", "evaluate segmentation"),
        ("restore@fog-pixel", "restore"),
        ("quality@fog", "quality"),
        ("train_task@detection", "train_task detection"),
        ("objective@pixel", "objective"),
        ("train_mixture@pixel", "train_mixture"),
        ("train_prior", "train_prior"),
    ],
)
def test_kinds_of_stages(stage: str, kind: str) -> None:
    assert costs.kind_of(stage, "fog") == kind
