"""What a run prints at its end: at most 15 lines, whatever was run."""

from pathlib import Path

import pytest
from test_answers import HELPS, table, verdict, withheld

from pipeline.reporting.terminal import MOST_LINES, WIDTH, terminal_answer, terminal_links
from pipeline.settings.params import Params, load_params

ROOT = Path(__file__).parents[1]
REPORT = Path("artifacts/report")
CHARTS = "uv run mlflow ui, then http://127.0.0.1:5000/#/experiments/1/runs"


def _params(objectives: list[str], repeats: int = 1) -> Params:
    params = load_params(ROOT / "params.tiny.yaml")
    restorer = params.train_restorer.model_copy(update={"repeats": repeats})
    return params.model_copy(update={"objectives": objectives, "train_restorer": restorer})


def _lines(params: Params, verdicts: object) -> list[str]:
    text = f"{terminal_answer(params, 'scenes', verdicts)}\n{terminal_links(params, REPORT, verdicts, CHARTS)}"  # type: ignore[arg-type]
    return text.splitlines()


def test_a_default_run_has_a_sentence_for_each_cell_and_three_links() -> None:
    cells = [(task, name) for task in ("detection", "segmentation") for name in ("lowlight", "fog")]
    rows = []
    for task, name in cells:
        place = {"task": task, "degradation": name, "metric": "mIoU" if task == "segmentation" else "mAP50-95"}
        rows += [HELPS | place | {"n_trainings": 1}, HELPS | place | {"variant": "diffloss", "n_trainings": 1}]
        rows.append(withheld("diffloss", 0.02, versus="pixel", n_trainings=1) | place)
    lines = _lines(_params(["pixel", "diffloss"]), table(*rows))
    assert len(lines) <= MOST_LINES and max(map(len, lines)) <= WIDTH
    assert lines[0] == "Does restoring help on scenes? Intervals: 95 %."
    for task, name in cells:
        assert sum(line.startswith(f"- {task}, {name}: restoring helps: ") for line in lines) == 1
    assert sum("Each restorer was trained once" in line for line in lines) == 1
    assert lines[-4:-1] == ["", "Report: artifacts/report/report.html", f"MLflow: {CHARTS}"]
    assert lines[-1].startswith("Next: uv run dvc exp run -S train_restorer.repeats=5")


def test_advice_without_git_needs_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    advice = _lines(_params(["pixel"]), table(HELPS | {"n_trainings": 1}))[-1]
    assert advice == "Next: train_restorer.repeats: 5 in params.yaml, for verdicts that hold for other seeds"


@pytest.mark.parametrize(("repeats", "advice"), [(1, "remove what prevents"), (3, "repeats=5"), (5, "remove what")])
def test_more_trainings_are_no_remedy_for_labels_that_lack_something(repeats: int, advice: str) -> None:
    row = withheld("pixel", 0.0, n_trainings=repeats) | {"reason": "split test: no object is labelled"}
    assert advice in _lines(_params(["pixel"], repeats), table(row))[-1]


@pytest.mark.parametrize("degradations", [6, 40])
def test_many_cells_are_summed_up(degradations: int) -> None:
    tasks = ("detection", "segmentation", "classification", "instance-segmentation")
    metrics = ("mAP50-95", "mIoU", "accuracy", "mAP50-95")
    rows = []
    for number in range(degradations):
        for task, metric in zip(tasks, metrics, strict=True):
            place = {"task": task, "metric": metric, "degradation": f"a_degradation_with_a_long_name_{number}"}
            rows.append((verdict("pixel", -0.1, -0.2, -0.1, "hurts") if number % 3 else HELPS) | place)
    lines = _lines(_params(["pixel"]), table(*rows))
    assert len(lines) <= MOST_LINES
    assert any("restoring helps" in line for line in lines) and any("it hurts" in line for line in lines)


@pytest.mark.parametrize(
    ("row", "repeats", "suggestion"),
    [
        (HELPS, 5, "your own data"),
        (verdict("pixel", 0.02, -0.02, 0.06, "can't tell"), 5, "more test images"),
        (HELPS, 3, "train_restorer.repeats=5"),
    ],
)
def test_what_to_try_next(row: dict[str, object], repeats: int, suggestion: str) -> None:
    assert suggestion in _lines(_params(["pixel"], repeats), table(row))[-1]


@pytest.mark.parametrize(
    ("repeats", "keys"),
    [
        (3, "-S train_restorer.repeats=5 -S retraining.repeats=5,"),
        (5, "dvc exp run -S retraining.repeats=5,"),
    ],
)
def test_retrained_networks_need_as_many_trainings(repeats: int, keys: str) -> None:
    params = _params(["pixel"], repeats).model_copy(update={"arms": ["degraded-retrained"]})
    assert keys in _lines(params, table(HELPS))[-1]
