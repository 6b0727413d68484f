"""dvc.yaml against the code: DVC does not track imports, so that its lists are compared with the real ones."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from data.sources import SOURCES
from models.losses import LOSSES
from models.restorers import CHECKPOINT, RESTORERS
from models.tasks import TASKS
from pipeline.plan import check_complete
from pipeline.running.digests import closure
from pipeline.settings.params import ELSEWHERE, Params, ParamsError
from pipeline.settings.training import TrainRestorer

ROOT = Path(__file__).parents[1]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
TASKS_FOLDER = "models/tasks"  # which `plan` watches whole
MADE_OF = "artifacts/plan/tasks"  # where `plan` writes the digests of each task's own code
RESTORERS_FOLDER = "models/restorers"  # the same for restorers
RESTORER = "artifacts/plan/restorer.json"


def _files(*modules: str) -> set[str]:
    found = set().union(*(closure(module, ROOT) for module in modules))
    return {path.relative_to(ROOT).as_posix() for path in found if path.stat().st_size}


def _task_code() -> set[str]:
    return _files(*(entry.split(":")[0] for entry in TASKS.values()))


def _losses() -> set[str]:
    """What the objective stage digests for each objective: not repeated in train_restorer's list."""
    return _files(*(spec.module for spec in LOSSES.values())) | _task_code()


def _expected(stage: str) -> set[str]:
    files = _files(f"pipeline.{stage}")
    if stage in ("prepare", "degrade"):
        return files | _files(*(entry.split(":")[0] for name, entry in SOURCES.items() if name != "scenes"))
    if stage == "plan":
        return {file for file in files if not file.startswith((TASKS_FOLDER, RESTORERS_FOLDER))}
    if stage == "objective":
        return files | (_losses() - _task_code())
    if stage == "publish":  # which logs these with each restorer
        return files | _files("pipeline.tracking.served_restorer")
    if stage in ("train_restorer", "restore", "arm_images"):
        files = {file for file in files if not file.startswith(RESTORERS_FOLDER)}
    return files - _losses() if stage == "train_restorer" else files


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_imports(stage: str) -> None:
    listed = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert listed == _expected(stage)


@pytest.mark.parametrize(
    ("stage", "dependency"),
    [
        ("plan", TASKS_FOLDER),
        ("train_task", MADE_OF + "/${item.task}.json"),
        ("evaluate", MADE_OF + "/${item.task}.json"),
        ("arm", MADE_OF + "/${item.task}.json"),
        ("objective", MADE_OF),
        ("report", MADE_OF),
    ],
)
def test_the_code_of_a_task_is_a_dependency_through_the_plan(stage: str, dependency: str) -> None:
    assert dependency in STAGES[stage]["deps"]
    assert all(file.startswith(TASKS_FOLDER) for file in _task_code())


@pytest.mark.parametrize(
    ("stage", "dependency"), [("plan", RESTORERS_FOLDER), ("train_restorer", RESTORER), ("restore", RESTORER)]
)
def test_the_code_of_the_restorer_is_a_dependency_through_the_plan(stage: str, dependency: str) -> None:
    assert dependency in STAGES[stage]["deps"]


@pytest.mark.parametrize("stage", STAGES)
def test_stage_is_module_with_a_description(stage: str) -> None:
    assert (ROOT / "pipeline" / f"{stage}.py").exists()
    assert f"python -m pipeline.{stage} " in STAGES[stage]["cmd"]
    assert STAGES[stage]["desc"]


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_exist(stage: str) -> None:
    for name in STAGES[stage].get("params", []):
        section = name.split(".")[0]
        assert section in Params.model_fields, name


def test_a_restorer_is_trained_again_for_every_parameter_but_those_of_other_restorers() -> None:
    listed = set(STAGES["train_restorer"]["params"]) - {"seed"}
    networks = {*RESTORERS, CHECKPOINT}
    names = {f"train_restorer.{name}" for name in TrainRestorer.model_fields if name not in networks}
    # An objective's own steps stand in its description, so that those of one alone can change.
    steps = {"train_restorer.steps", "train_restorer.steps_of"}
    assert listed == names - steps | {"train_restorer.${train_restorer.restorer}"}
    assert steps < set(STAGES["objective"]["params"])


@pytest.mark.parametrize("file", [*ROOT.glob("params*.yaml"), ROOT / "benchmarks" / "coco.yaml"])
def test_every_params_file_has_all_that_dvc_asks_for(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(file.read_text())
    check_complete(STAGES)
    Path("params.yaml").write_text(file.read_text().replace("  steps_of:", "  step_of:"))
    with pytest.raises(ParamsError, match=r"params\.yaml: train_restorer\.steps_of is missing; take it over from"):
        check_complete(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_of_the_command_is_declared(stage: str) -> None:
    entry = STAGES[stage]
    outs = [next(iter(out)) if isinstance(out, dict) else out for out in entry["outs"]]
    paths = [word.strip('"') for word in entry["cmd"].split() if word.strip('"').startswith("artifacts/")]
    undeclared = {path for path in paths if path not in outs and path not in entry["deps"]}
    # Prior and task network are dependencies by their digests, which the objective's file carries for those in need.
    assert undeclared <= ({"artifacts/prior", "artifacts/tasks"} if stage == "train_restorer" else set())


def test_a_module_that_is_imported_deep_down_is_found(tmp_path: Path) -> None:
    for name, text in {
        "pipeline/__init__.py": "",
        "pipeline/stage.py": "from pipeline import helper\n",
        "pipeline/helper.py": "def f():\n    import data.deep\n",
        "data/__init__.py": "",
        "data/deep.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import models.never\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    names = {path.relative_to(tmp_path).as_posix() for path in closure("pipeline.stage", tmp_path)}
    assert names == {
        "pipeline/__init__.py",
        "pipeline/stage.py",
        "pipeline/helper.py",
        "data/__init__.py",
        "data/deep.py",
    }


def test_the_report_is_written_again_for_every_setting_that_it_shows() -> None:
    assert set(STAGES["report"]["params"]) == set(Params.model_fields) - ELSEWHERE
