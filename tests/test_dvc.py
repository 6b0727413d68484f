"""dvc.yaml against the stages and the parameters."""

import shutil
import subprocess
from pathlib import Path

import pytest
from clones import dvc
from ruamel.yaml import YAML

from models.restorers import CHECKPOINT, RESTORERS
from pipeline.settings.dvc_view import check_complete
from pipeline.settings.params import ELSEWHERE, Params, ParamsError
from pipeline.settings.training import TrainRestorer

ROOT = Path(__file__).parents[1]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def test_it_reads_like_a_table_of_contents() -> None:
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 270


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "code"])
def test_the_only_code_that_a_stage_depends_on_is_the_digest_of_its_own(stage: str) -> None:
    dependencies = STAGES[stage]["deps"]
    assert f"artifacts/code/stages/{stage}" in dependencies
    assert not [path for path in dependencies if path.endswith(".py") or path in ("data", "models", "pipeline")]


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
    # An objective's own steps and mixture stand in its description, so that those of one alone can change.
    steps = {"train_restorer.steps", "train_restorer.steps_of", "train_restorer.mixtures"}
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
    declared = [*outs, *entry["deps"]]
    undeclared = {path for path in paths if not any(f"{name}/".startswith(f"{path}/") for name in declared)}
    # Prior, task network and a mixture's images are dependencies by their digests, which the objective's file carries.
    known = {"train_restorer": {"artifacts/prior", "artifacts/tasks"}}
    known["train_mixture"] = known["train_restorer"] | {"artifacts/degraded"}
    known["arm"] = {"artifacts/prior", "artifacts/clean", "artifacts/degraded/${item.degradation}"}
    known["arm"] |= {"artifacts/restorers/${item.degradation}"}  # by the digests that arm_images writes
    assert undeclared <= known.get(stage, set())


def test_the_report_is_written_again_for_every_setting_that_it_shows() -> None:
    assert set(STAGES["report"]["params"]) == set(Params.model_fields) - ELSEWHERE


def test_a_downloaded_archive_needs_no_git_and_a_clone_uses_it(tmp_path: Path) -> None:
    if "$Format:" not in (ROOT / ".dvc" / "config").read_text():
        pytest.skip("these files come from `git archive`, which has filled in .dvc/config")
    repository, archive = tmp_path / "repository", tmp_path / "a dir ü" / "archive"
    for name in (".dvc/config", ".gitattributes", "params.tiny.yaml"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, repository / name)
    (repository / "dvc.yaml").write_text("stages: {copy: {cmd: cp params.tiny.yaml out, outs: [out]}}\n")
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.com"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"], ["archive", "-o", "../archive.zip", "HEAD"]):
        subprocess.run([*git, *command], cwd=repository, check=True)
    archive.mkdir(parents=True)
    shutil.unpack_archive(tmp_path / "archive.zip", archive)
    assert dvc(repository, "config", "core.no_scm").stdout == ""
    assert dvc(archive, "config", "core.no_scm").stdout == "true\n"
    done = dvc(archive, "repro")
    assert done.returncode == 0 and (archive / "out").is_file(), done.stderr


def test_dvc_keeps_its_index_in_the_project_because_the_usual_folder_may_not_be_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.repo import Repo

    (tmp_path / ".dvc").mkdir()
    shutil.copyfile(ROOT / ".dvc" / "config", tmp_path / ".dvc" / "config")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.delenv("DVC_SITE_CACHE_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    with Repo() as repository:
        assert Path(repository.site_cache_dir).resolve().is_relative_to(tmp_path)
