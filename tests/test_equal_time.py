"""Steps for equal training times: exact with a clock that counts work, and without any file written."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from test_prior import tiny_prior

from pipeline.commands import equal_time
from pipeline.commands.completed_runs import CompletedRunError
from pipeline.commands.equal_time import StepTimes, Trainee, equal_steps, measure, phase_losses
from pipeline.objective import describe
from pipeline.settings.params import ParamsError, load_params

OBJECTIVES = ["pixel", "diffloss", "late + task"]
LOSSES = {
    "pixel": {"kind": "l1"},
    "diffloss": {"timesteps": [5, 300]},
    "late": {"base": "diffloss", "from_step": 2, "every": 2, "calibrate_every": 5},
    "task": {"network": "segmentation", "from_step": 2},
}


class Clock:
    """Seconds that pass only when somebody works."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def run(finished_run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs the command where the stages before train_restorer have run. Every step has a price.

    It is 1 second, 2 more with DiffLoss, and 4 more with a measurement of its gradient norms.
    """
    shutil.copytree(finished_run_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    _change_params(objectives=OBJECTIVES, losses=LOSSES, tasks=["segmentation"], degradations=["fog", "snow"])
    tiny_prior().save(tmp_path / "artifacts" / "prior")
    for name in [*(f"objectives/{name}" for name in OBJECTIVES), "tasks/segmentation"]:
        path = tmp_path / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0123\n")
    folders = Path("artifacts/prior"), Path("artifacts/tasks"), Path("code"), Path("artifacts/degraded")
    for name in OBJECTIVES:
        Path(f"artifacts/objectives/{name}.json").write_text(json.dumps(describe(name, load_params(), *folders)))
    clock, train_step, step_times = Clock(), equal_time.train_step, equal_time.step_times

    def priced(*arguments: Any) -> dict[str, float]:
        values = train_step(*arguments)
        clock.seconds += 1 + 2 * ("natural" in values) + 4 * ("natural_ratio" in values)
        return values

    monkeypatch.setattr(equal_time, "train_step", priced)
    monkeypatch.setattr(equal_time, "step_times", lambda *arguments: step_times(*arguments, clock=clock))

    def command(capsys: pytest.CaptureFixture[str], *words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["equal_time", "--rounds", "1", *words])
        equal_time.main()
        return capsys.readouterr().out

    return command


def _change_params(**changes: Any) -> None:
    yaml = YAML()
    content = yaml.load(Path("params.yaml"))
    yaml.dump({**content, **changes, "train_restorer": {**content["train_restorer"], "steps": 10}}, Path("params.yaml"))


def _files() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def test_the_steps_of_a_run(run: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    before = _files()
    text = run(capsys)
    assert _files() == before and not Path("work").exists()
    # diffloss: 10 evaluations and 1 measurement in 10 steps. late: 5 and 1, from the third step on.
    # 34 seconds are 34 steps of the pixel loss; 2 steps of 1 second and 13.3 of 2.4 seconds.
    assert text == (
        "objective    seconds of a step  ratio to pixel  steps for equal time\n"
        "pixel        1.0000             1.00            34\n"
        "diffloss     3.4000             3.40            10\n"
        "late + task  2.1200             2.12            15\n"
        "Means over 10 steps: some losses start later (from_step); steps before that take less time.\n"
        "\n"
        "For trainings that take as long as that of the slowest objective, put this into params.yaml.\n"
        "It has numbers of steps, not seconds, so that runs stay deterministic.\n"
        "\n"
        "train_restorer:\n"
        "  steps_of: {pixel: 34, diffloss: 10, late + task: 15}\n"
    )
    printed = YAML(typ="safe").load(text[text.index("train_restorer:") :])
    assert printed["train_restorer"]["steps_of"] == {"pixel": 34, "diffloss": 10, "late + task": 15}


def test_objectives_can_be_chosen(run: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "--degradation", "fog", "--objectives", "late + task", "diffloss")
    assert "ratio to late + task" in text and "steps_of: {late + task: 15, diffloss: 10}" in text


def test_what_is_missing_or_outdated_is_named(run: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    advice = r"Run `uv run dvc repro objective degrade@fog` first\."
    with pytest.raises(
        ParamsError, match=r"--objectives: 'frozen' is not trained by params.yaml\. Choose one of pixel"
    ):
        run(capsys, "--objectives", "frozen")
    with pytest.raises(ParamsError, match=r"--degradation: 'rain' is not .*\. Choose one of fog, snow\."):
        run(capsys, "--degradation", "rain")
    with pytest.raises(CompletedRunError, match=r"artifacts/degraded/snow: does not exist\. .*degrade@snow"):
        run(capsys, "--degradation", "snow")
    Path("artifacts/prior").rename("elsewhere")
    with pytest.raises(CompletedRunError, match=rf"^artifacts/prior: does not exist\. {advice}$"):
        run(capsys)
    _change_params(losses={**LOSSES, "pixel": {"kind": "l2"}})
    with pytest.raises(CompletedRunError, match=rf"losses.pixel has changed since this run\. {advice}$"):
        run(capsys)
    Path("artifacts/objectives/pixel.json").unlink()
    with pytest.raises(CompletedRunError, match=rf"^artifacts/objectives/pixel.json: does not exist\. {advice}$"):
        run(capsys)
    _change_params(processes=2)
    with pytest.raises(ParamsError, match="processes: 2, but the steps of one process are measured"):
        run(capsys)


def test_blocks_take_turns_and_the_median_counts() -> None:
    clock, order = Clock(), []
    prices = {"a": iter([100, 1, 9, 2]), "b": iter([100, 8, 4, 16])}

    def trainee(name: str, warm_up: int, block: int) -> Trainee:
        def run(count: int) -> None:
            order.append((name, count))
            clock.seconds += count * next(prices[name])

        return Trainee(run, warm_up, block)

    seconds = measure({"a": trainee("a", 5, 10), "b": trainee("b", 7, 12)}, 3, clock)
    assert seconds == {"a": 2, "b": 8}
    assert order == [("a", 5), ("b", 7), *[("a", 10), ("b", 12)] * 3]


def test_seconds_and_steps_with_phases() -> None:
    times = StepTimes({0: 1.0, 10: 3.0, 20: 5.0})
    for steps, seconds in ((4, 4), (10, 10), (12, 16), (20, 40), (25, 65)):
        assert times.training_seconds(steps) == seconds and times.steps_within(seconds) == steps
    assert times.steps_within(17) == 12 and times.steps_within(0.1) == 1


def test_the_slowest_keeps_its_number_of_steps() -> None:
    times = {"pixel": StepTimes({0: 1.0}), "diffloss": StepTimes({0: 2.5}), "late": StepTimes({0: 1.0, 50: 2.5})}
    steps_of = {"pixel": 900, "diffloss": 80, "late": 100}
    assert equal_steps(times, 100, steps_of) == {"pixel": 200, "diffloss": 80, "late": 110}


def test_phases_begin_where_losses_do() -> None:
    settings = {"pixel": {"weight": 2.0}, "natural": {"from_step": 5}, "frequency": {}}
    losses = {name: {"kind": name, "settings": section} for name, section in settings.items()}
    phases = phase_losses(losses)
    assert list(phases) == [0, 5]
    assert phases[0] == {name: losses[name] for name in ("pixel", "frequency")}
    assert phases[5] == losses | {"natural": {"kind": "natural", "settings": {}}}
