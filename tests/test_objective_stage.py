"""What makes a restorer train again: its own objective's settings, code and networks, and nothing else."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.objective import describe, main
from pipeline.running.atomic_outputs import StageFileError
from pipeline.settings.params import Params, ParamsError, load_params

ROOT = Path(__file__).parents[1]
Folders = tuple[Path, Path, Path, Path]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Those of the prior, of the task networks, of the digests of code, and of the degraded datasets."""
    (tmp_path / "prior").mkdir()
    (tmp_path / "prior" / "weights").write_text("one")
    for task in ("detection", "segmentation"):
        (tmp_path / "tasks" / task).mkdir(parents=True)
        (tmp_path / "tasks" / task / "weights").write_text(task)
    for name in ("objectives/pixel", "objectives/diffloss", "objectives/task", "objectives/pixel + task"):
        _write_digest(tmp_path / "code" / name)
    for name in ("objectives/recognition", "objectives/task + recognition"):
        _write_digest(tmp_path / "code" / name)
    for name in ("objectives/late", "tasks/detection", "tasks/segmentation"):
        _write_digest(tmp_path / "code" / name)
    return tmp_path / "prior", tmp_path / "tasks", tmp_path / "code", tmp_path / "degraded"


def _write_digest(path: Path, text: str = "0123") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def _params(**losses: object) -> Params:
    params = load_params(ROOT / "params.yaml")
    return params.model_copy(update={"losses": {**params.losses, **losses}})


def test_only_those_who_need_the_prior_depend_on_it(folders: Folders) -> None:
    before = {name: describe(name, _params(), *folders) for name in ("pixel", "diffloss", "task")}
    (folders[0] / "weights").write_text("another")
    after = {name: describe(name, _params(), *folders) for name in before}
    assert before["pixel"] == after["pixel"] and before["task"] == after["task"]
    assert before["diffloss"] != after["diffloss"]


def test_only_the_losses_of_the_objective_count(folders: Folders) -> None:
    before, after = _params(), _params(diffloss={"strength": 0.9})
    assert describe("pixel", before, *folders) == describe("pixel", after, *folders)
    assert describe("diffloss", before, *folders) != describe("diffloss", after, *folders)
    everyone = _params(pixel={"kind": "l2"})
    assert describe("diffloss", before, *folders) != describe("diffloss", everyone, *folders)


def test_only_an_objective_with_steps_of_its_own_changes_with_them(folders: Folders) -> None:
    params = _params()
    restorer = params.train_restorer.model_copy(update={"steps_of": {"pixel": 9}})
    longer = params.model_copy(update={"train_restorer": restorer})
    assert describe("pixel", longer, *folders) != describe("pixel", params, *folders)
    assert describe("diffloss", longer, *folders) == describe("diffloss", params, *folders)


def test_a_variant_is_described_with_all_its_settings(folders: Folders) -> None:
    params = _params(late={"base": "diffloss", "timesteps": [400, 900]})
    description = describe("late", params, *folders)
    settings = {**params.losses["diffloss"], "timesteps": [400, 900]}
    assert description["losses"] == {
        "pixel": {"kind": "pixel", "settings": {"kind": "l1"}},
        "late": {"kind": "diffloss", "settings": settings},
    }
    assert description["prior"] and description["network"] is None
    assert describe("late", _params(late={"base": "task", "network": "segmentation"}), *folders)["network"] == (
        "segmentation"
    )


def test_the_task_objective_depends_on_its_network(folders: Folders) -> None:
    before = describe("pixel + task", _params(), *folders)
    assert before["network"] == "detection"
    (folders[1] / "segmentation" / "weights").write_text("another")
    assert describe("pixel + task", _params(), *folders) == before
    (folders[1] / "detection" / "weights").write_text("another")
    assert describe("pixel + task", _params(), *folders) != before
    with pytest.raises(
        ParamsError, match=r"losses\.task\.network: 'depth' is not among the tasks. Choose one of detection"
    ):
        describe("task", _params(task={"network": "depth"}), *folders)


def test_the_recognition_loss_depends_on_one_network_that_has_a_training_loss(
    folders: Folders,
) -> None:
    section = {"network": "segmentation"}
    before = describe("recognition", _params(recognition=section), *folders)
    assert before["network"] == "segmentation" and before["prior"] is None
    (folders[1] / "segmentation" / "weights").write_text("another")
    assert describe("recognition", _params(recognition=section), *folders) != before
    assert describe("task + recognition", _params(), *folders)["network"] == "detection"
    with pytest.raises(
        ParamsError,
        match=r"losses.task.network is 'detection', losses.recognition.network is 'segmentation'. Choose the same task",
    ):
        describe("task + recognition", _params(recognition=section), *folders)
    params = _params(recognition={"network": "classification"}).model_copy(update={"tasks": ["classification"]})
    with pytest.raises(
        ParamsError, match=r"'classification' has no training loss for crops. Choose one of detection, "
    ):
        describe("recognition", params, *folders)


def test_the_code_of_the_objective_and_of_its_network_count(folders: Folders) -> None:
    before = {name: describe(name, _params(), *folders) for name in ("pixel", "task")}
    assert before["pixel"]["code"] == before["task"]["code"] == before["task"]["network code"] == "0123"
    assert before["pixel"]["network code"] is None
    _write_digest(folders[2] / "tasks" / "detection", "4567")
    assert describe("pixel", _params(), *folders) == before["pixel"]
    assert describe("task", _params(), *folders)["network code"] == "4567"
    _write_digest(folders[2] / "objectives" / "pixel", "89ab")
    assert describe("pixel", _params(), *folders)["code"] == "89ab"
    (folders[2] / "objectives" / "pixel").unlink()
    with pytest.raises(StageFileError, match=r"code/objectives/pixel: missing. Run `dvc repro -s code` first."):
        describe("pixel", _params(), *folders)


def test_frozen_is_described_by_its_file(folders: Folders, tmp_path: Path) -> None:
    _write_digest(folders[2] / "objectives" / "frozen")
    file = tmp_path / "theirs.pth"
    params = load_params(ROOT / "params.yaml").model_dump()
    params["train_restorer"]["checkpoint"] = {"weights": str(file)}
    params = Params.model_validate(params)
    described = []
    for content in ("one", "another"):
        file.write_text(content)
        described.append(describe("frozen", params, *folders))
    assert described[0]["losses"] == {} and described[0]["prior"] is None and described[0]["network"] is None
    assert described[0]["files"].keys() == {str(file)} and described[0] != described[1]


def test_the_stage_writes_what_train_restorer_reads(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior, tasks, code, degraded = (str(folder) for folder in folders)
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    words = ["--objective", "diffloss", "--prior", prior, "--tasks", tasks, "--code", code]
    words += ["--degraded", degraded, "--out", "out/x.json"]
    monkeypatch.setattr("sys.argv", ["objective", *words])
    main()
    assert json.loads(Path("out/x.json").read_text()) == describe("diffloss", _params(), *folders)
